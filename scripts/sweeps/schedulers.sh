#!/usr/bin/env bash
# Does it matter on the digits which scheduler spends the same seven epochs? (On so easy a task: hardly.)
#   scripts/sweeps/schedulers.sh [plan_only=true | hydra/launcher=slurm | seed=0,1,2,3,4 | ...]
# A sweep that backs a claim is a file like this: the whole command, so that the same line again finds what is done.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/python src/train.py -m name=schedulers epochs=7 threads=1 \
  scheduler=sgdr,one_cycle,cosine,flat_cos rates=uniform,thirds seed=0,1,2 "$@"
