"""Labels and probabilities for pictures, by a finished run.

python scripts/predict.py outputs/latest cat.jpg holiday/*.png     a table: the likeliest label of each, then others
python scripts/predict.py outputs/latest holiday --csv out.csv     every picture below a folder, all probabilities

Pictures go through the decoder and the view that validation used. What cannot be read is said and left out, exit 3.
"""

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from thaw.config.paths import require_checkout
from thaw.runtime.console import bar, complain, grid, say
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError
from thaw.runtime.files import machine_error, short_path
from thaw.sweep.board import leaderboard

require_checkout(__file__)


BATCH = 64


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="a run's folder, e.g. outputs/latest")
    parser.add_argument("pictures", nargs="*", type=Path, help="files, or folders of them")
    parser.add_argument("--top", type=int, default=3, help="how many labels of each picture (3)")
    parser.add_argument("--csv", type=Path, help="write path, prediction and all probabilities there instead")
    args = parser.parse_intermixed_args()
    if args.run is None or not args.pictures:
        is_file = args.run is not None and os.path.isfile(args.run)
        lacking = f"{args.run} is no run's folder" if is_file else f"{args.run}: no pictures are given"
        parser.error("no run is given" if args.run is None else lacking)
    if args.top < 1:
        parser.error(f"--top {args.top}: must be >= 1")
    if args.csv and not os.path.isdir(args.csv.absolute().parent):
        parser.error(f"--csv {args.csv}: no such folder")
    folder = folder_of(args.run)
    files, bad = files_of(args.pictures)
    classes, rows, broken = predict(folder, files)
    if args.csv:
        write(args.csv, classes, rows)
    else:
        show(classes, rows, args.top)
    found = Counter(best(classes, row)[0][0] for _, row in rows)
    if len(rows) > 1:
        say(f"{len(rows):,} pictures: " + ", ".join(f"{name} {n:,}" for name, n in found.most_common(12)))
    for file, reason in (*bad, *broken):
        complain(f"left out: {file}: {reason}")
    return 3 if bad or broken else 0


Row = tuple[Path, list[float]]  # a picture and the probability of each class
Bad = tuple[Path, str]  # what is left out, and why


def best(classes: list[str], row: list[float]) -> list[tuple[str, float]]:
    """Labels and probabilities, the likeliest first."""
    return sorted(zip(classes, row, strict=True), key=lambda pair: -pair[1])


def show(classes: list[str], rows: list[Row], top: int) -> None:
    """The table on the terminal."""
    top = min(top, len(classes))
    cells = [
        (str(file), label, f"{p:.1%}", "  ".join(f"{other} {q:.1%}" for other, q in others))
        for file, row in rows
        for (label, p), *others in [best(classes, row)[:top]]
    ]
    if cells:
        say("\n".join(grid(("picture", "prediction", "probability", "next" if top > 1 else ""), cells)))


def write(file: Path, classes: list[str], rows: list[Row]) -> None:
    """The table with all probabilities, its columns as in valid_predictions.csv."""
    try:
        with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as opened:
            lines = csv.writer(opened)
            lines.writerow(["path", "prediction", *classes])
            lines.writerows([str(path), best(classes, row)[0][0], *(f"{p:.6f}" for p in row)] for path, row in rows)
    except OSError as error:
        raise machine_error(error, file) from None
    say(f"{short_path(file)}: {len(rows):,} pictures")


def folder_of(run: Path) -> Path:
    """The folder of a finished run, of a sweep that of its best job. Errors: none is there, exit 6."""
    if os.path.isfile(run / "config.json"):
        return run
    if os.path.isdir(run) and any(run.glob("*/config.json")) and (best := leaderboard(run, paired=False).best_job):
        say(f"note: {short_path(run)} is a sweep; its best job is {best.name}")
        return best.folder
    raise UserError(6, f"{run}: no finished run is there (it has no config.json)")


def files_of(paths: list[Path]) -> tuple[list[Path], list[Bad]]:
    """The files, each once, and the pictures below folders as training finds them; what of it cannot be opened.

    Errors: one is not there, none, exit 3.
    """
    from thaw.data.folder import walk
    from thaw.data.listing import file_of, say_if_refused

    if gone := [path for path in paths if not os.path.lexists(path)]:
        raise UserError(3, f"{gone[0]}: no such file or folder")
    files, bad, notes = {}, [], []
    for path in paths:
        is_folder, new = os.path.isdir(path), []
        at = path if is_folder else path.parent
        try:
            found = walk(str(path), new)[0] if is_folder else [file_of(path.name, path.stat)]
        except UserError as error:
            raise UserError(3, error.line.replace("data.root=", "")) from None
        notes += [note for note in new if not note.startswith("warning: ")]
        bad += [(path, note.removeprefix("warning: ")) for note in new if note.startswith("warning: ")]
        bad += [(at / file.path, file.bad) for file in found if file.bad]
        files |= {at / file.path: None for file in found if not file.bad}
    if not files and not bad:
        with say_if_refused(notes):
            raise UserError(3, f"no pictures in {', '.join(map(str, paths))}")
    return list(files), bad


def max_pixels(run: Path) -> int:
    """How large a picture the run read, where its configuration lies beside it."""
    from omegaconf import OmegaConf

    from thaw.data.decode import MAX_PIXELS

    file = next(iter((run / ".hydra").glob("config.yaml")), None)
    return int(OmegaConf.load(file).data.max_pixels) if file else MAX_PIXELS


def predict(run: Path, files: list[Path]) -> tuple[list[str], list[Row], list[Bad]]:
    """The classes of the run, the probabilities of each picture, and what could not be read, with the reason."""
    import numpy as np
    import torch

    from thaw.data.augment import view
    from thaw.data.decode import BadPicture, decode
    from thaw.data.resize import fit_side
    from thaw.data.table import FULL
    from thaw.model.network import open_classifier

    config = json.loads((run / "config.json").read_text())
    classes, shown = config["label_names"], config["pretrained_cfg"]
    model = open_classifier(run)
    size, crop_pct = shown["input_size"][1], shown["crop_pct"]
    see, side = view(size, crop_pct), round(size / crop_pct)
    mean, std = (torch.tensor(shown[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    rows, bad, limits = [], [], {"max_pixels": max_pixels(run), "bits": config.get("grey_bits", FULL)}

    def views(part: list[Path]) -> Iterator[tuple[Path, np.ndarray]]:
        for file in part:
            try:
                yield file, see(fit_side(decode(file.read_bytes(), side=side, **limits), side), None)
            except (BadPicture, OSError) as error:
                bad.append((file, getattr(error, "strerror", None) or str(error)))

    starts = range(0, len(files), BATCH)
    for start in bar(starts, len(starts), "predict"):
        if pictures := dict(views(files[start : start + BATCH])):
            x = torch.from_numpy(np.stack(list(pictures.values()))).permute(0, 3, 1, 2).float() / 255
            with torch.inference_mode():
                rows += zip(pictures, model((x - mean) / std).softmax(1).tolist(), strict=True)
    return classes, rows, bad


if __name__ == "__main__":
    sys.exit(run(main))
