#!/usr/bin/env bash
# What each step of the checklist buys: one left out at a time, on two tasks; a table and docs/ablation.png.
#
#   scripts/sweeps/ablation.sh [overrides ...]      about half an hour on one thread; goes on where it was, fresh=true anew
#
# 100 digits (400 to validate, 899 to test), near to what the small network was pretrained on, and 300 drawn shapes (300
# to validate, 900 to test), which are far from it. On your own images:
# python src/train.py experiment=ablation 'data.root=~/photos', then
# python scripts/ablation.py SWEEP --image ablation.png
set -euo pipefail
cd "$(dirname "$0")/../.."
out=outputs/ablation
sweep() {
  .venv/bin/python src/train.py experiment=ablation batch_size=16 threads=1 wandb=disabled "hydra.sweep.dir=$out/$1" "${@:2}"
}
sweep digits data=digits data.limit=500 data.valid=0.8 "$@"
sweep shapes data=shapes data.limit=600 data.valid=0.5 data.test=900 data.detail=0.25 "$@"
.venv/bin/python scripts/ablation.py "$out/digits" "$out/shapes" --image docs/ablation.png
