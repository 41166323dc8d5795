#!/usr/bin/env bash
# Compare resize schedules in the whole recipe, on drawn shapes that need their resolution, and how soon each reaches
# the accuracy of a single size.
#   scripts/sweeps/resize.sh [seed=0,1,2,3,4 | data.detail=0.5 | ...]      takes twelve minutes on one thread
# The seed is the first key, so that other load on the machine affects all schedules alike.
set -euo pipefail
cd "$(dirname "$0")/../.."
.venv/bin/python src/train.py -m name=resize data=shapes data.limit=1500 data.workers=0 size=64 threads=1 \
  wandb=disabled seed=0,1,2 resize=none,double,staircase hydra.sweep.dir=outputs/resize "$@"
.venv/bin/python scripts/bench/time_to_accuracy.py outputs/resize resize=none
