#!/usr/bin/env bash
# Compare schedulers over the same seven epochs on digits (on so easy a task, they hardly differ).
#   scripts/sweeps/schedulers.sh [plan_only=true | hydra/launcher=slurm | seed=0,1,2,3,4 | ...]
# Keep a sweep that backs a claim in a file like this: with the whole command, a second call resumes it.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/python src/train.py -m name=schedulers epochs=7 threads=1 \
  scheduler=sgdr,one_cycle,cosine,flat_cos rates=uniform,thirds seed=0,1,2 "$@"
