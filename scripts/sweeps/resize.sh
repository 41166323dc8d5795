#!/usr/bin/env bash
# Does progressive resizing pay? The whole recipe on drawn shapes that need their resolution, by its resize schedule;
# then how soon each is as good as one size throughout.
#   scripts/sweeps/resize.sh [seed=0,1,2,3,4 | data.detail=0.5 | ...]      about twelve minutes on one thread
# The seed comes first, so that what else the machine does meets all schedules alike.
set -euo pipefail
cd "$(dirname "$0")/../.."
.venv/bin/python src/train.py -m name=resize data=shapes data.limit=1500 data.workers=0 size=64 threads=1 \
  wandb=disabled seed=0,1,2 resize=none,double,staircase hydra.sweep.dir=outputs/resize "$@"
.venv/bin/python scripts/bench/time_to_accuracy.py outputs/resize resize=none
