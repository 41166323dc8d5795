"""Labels and probabilities for pictures, by a finished run.

python scripts/predict.py outputs/latest cat.jpg holiday/*.png     the three likeliest labels of each
python scripts/predict.py outputs/latest holiday --csv out.csv     every picture below a folder, all probabilities

Pictures go through the decoder and the view that validation used. What cannot be read is said and left out, exit 3.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from thaw.errors import UserError

BATCH = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, e.g. outputs/latest")
    parser.add_argument("pictures", nargs="+", type=Path, help="files, or folders of them")
    parser.add_argument("--top", type=int, default=3, help="how many labels of each picture (3)")
    parser.add_argument("--csv", type=Path, help="write all probabilities there")
    args = parser.parse_args()
    try:
        return predict(args.run, files_of(args.pictures), args.top, args.csv)
    except UserError as error:
        print(f"error: {error.line}", file=sys.stderr)
        return error.code


def files_of(paths: list[Path]) -> list[Path]:
    """The files, and those below folders that look like pictures. Errors: none, exit 3."""
    from thaw.data.folder import SUFFIXES

    files = []
    for path in paths:
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        files.extend(found)
    if not files:
        raise UserError(3, f"no pictures in {', '.join(map(str, paths))}")
    return files


def predict(run: Path, files: list[Path], top: int, table: Path | None) -> int:
    """Print a line for each file; 0, or 3 where some could not be read. Errors: no run there, exit 6."""
    if not (run / "config.json").is_file() and (jobs := sorted(run.glob("*/config.json"))):
        raise UserError(6, f"{run}: this is a sweep; give one of its jobs, e.g. {jobs[0].parent}")
    if not (run / "config.json").is_file():
        raise UserError(6, f"{run}: no finished run is there (it has no config.json)")
    import numpy as np
    import torch

    from thaw.data.augment import view
    from thaw.data.decode import BadPicture, decode
    from thaw.data.pixels import fit_side
    from thaw.model import opened

    config = json.loads((run / "config.json").read_text())
    classes, shown = config["label_names"], config["pretrained_cfg"]
    model = opened(run)
    size, crop_pct = shown["input_size"][1], shown["crop_pct"]
    see = view(size, crop_pct)
    mean, std = (torch.tensor(shown[key]).view(1, -1, 1, 1) for key in ("mean", "std"))

    read, pictures, bad = [], [], 0
    for file in files:
        try:
            pictures.append(see(fit_side(decode(file.read_bytes()), round(size / crop_pct)), None))
            read.append(file)
        except (BadPicture, OSError) as error:
            print(f"{file}: left out, {getattr(error, 'strerror', None) or error}", file=sys.stderr)
            bad += 1
    rows = []
    with torch.inference_mode():
        for start in range(0, len(read), BATCH):
            x = torch.from_numpy(np.stack(pictures[start : start + BATCH])).permute(0, 3, 1, 2).float() / 255
            rows += model((x - mean) / std).softmax(1).tolist()
    for file, row in zip(read, rows, strict=True):
        best = sorted(zip(row, classes, strict=True), reverse=True)[:top]
        print(f"{file}: " + "  ".join(f"{label} {p:.1%}" for p, label in best))
    if table:
        with table.open("w", newline="", encoding="utf-8", errors="backslashreplace") as opened:
            csv.writer(opened).writerows(
                [["path", *classes], *([str(f), *row] for f, row in zip(read, rows, strict=True))]
            )
    return 3 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
