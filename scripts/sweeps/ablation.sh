#!/usr/bin/env bash
# Show what each step of the checklist contributes: leave out one at a time on two tasks, make a table and
# docs/ablation.png.
#
#   scripts/sweeps/ablation.sh [KEY=VALUE ...]      takes half an hour on one thread; resumes, unless fresh=true
#
# Tasks: 100 digits (400 to validate, 899 to test), close to the pretraining of the small network, and 300 drawn shapes
# (300 to validate, 900 to test), far from it. On your own images:
#   python src/train.py experiment=ablation 'data.root=~/photos'
#   python scripts/ablation.py SWEEP --image ablation.png
set -euo pipefail
cd "$(dirname "$0")/../.."
out=outputs/ablation
sweep() {
  .venv/bin/python src/train.py experiment=ablation batch_size=16 threads=1 wandb=disabled "hydra.sweep.dir=$out/$1" "${@:2}"
}
sweep digits data=digits data.limit=500 data.valid=0.8 "$@"
sweep shapes data=shapes data.limit=600 data.valid=0.5 data.test=900 data.detail=0.25 "$@"
.venv/bin/python scripts/ablation.py "$out/digits" "$out/shapes" --image docs/ablation.png
