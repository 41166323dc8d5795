"""Predict labels and probabilities of images with a finished run.

python scripts/predict.py outputs/latest cat.jpg holiday/*.png     print a table of the most likely labels
python scripts/predict.py outputs/latest holiday --csv out.csv     write all probabilities of a folder's images
python scripts/predict.py SWEEP cat.jpg --all                      the mean of all jobs of the best setting (seeds)

Images are decoded and resized as in validation. Files that do not exist or cannot be read are reported and left out,
exit 3.
"""

import csv
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from thaw.config.conf_files import part, read_yaml
from thaw.config.paths import require_checkout
from thaw.runtime.console import bar, grid, one_line, say, say_error, say_text
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError
from thaw.runtime.failures import machine_error
from thaw.runtime.files import as_number, short_path
from thaw.sweep.board import leaderboard

require_checkout(__file__)


BATCH = 64


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN", help="folder of a run, e.g. outputs/latest")
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="labels per image (default: 3)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all probabilities there (default: a table)")
    parser.add_argument("--all", action="store_true", help="of a sweep: average over all jobs of its best setting")
    args = parser.parse_intermixed_args()
    if args.run is None or not args.images:
        if args.run is not None and not os.path.isdir(args.run):
            raise UserError(2, f"{args.run} is not the folder of a run; usage: predict.py RUN IMAGE...")
        parser.error("no run is given" if args.run is None else f"{args.run}: no images are given")
    if args.top < 1:
        parser.error(f"--top {args.top}: must be >= 1")
    if args.csv and not os.path.isdir(args.csv.absolute().parent):
        parser.error(f"--csv {args.csv}: its folder does not exist")
    folders = folders_of(args.run, args.all)
    files, bad = files_of(args.images)
    classes, rows, broken = predict_all(folders, files) if files else ([], [], [])
    if rows and args.csv:
        write(args.csv, classes, rows)
    elif rows:
        show(classes, rows, args.top)
    found = Counter(best(classes, row)[0][0] for _, row in rows)
    if len(rows) > 1:
        say(f"{len(rows):,} images: " + ", ".join(f"{name}: {n:,}" for name, n in found.most_common(12)))
    left_out = [*bad, *broken]
    if not rows and len(left_out) == 1:  # one line says it all
        raise UserError(3, ": ".join(map(str, left_out[0])))
    for file, reason in left_out:
        say_error(one_line(f"warning: {file} is left out: {reason}"))
    if not rows:
        raise UserError(3, f"no image is left to predict: all {len(left_out)} are left out")
    return 3 if left_out else 0


Row = tuple[Path, list[float]]  # an image and the probability of each class
Bad = tuple[Path, str]  # what is left out, and the reason


def best(classes: list[str], row: list[float]) -> list[tuple[str, float]]:
    """Return labels and probabilities, most likely first."""
    return sorted(zip(classes, row, strict=True), key=lambda pair: -pair[1])


def show(classes: list[str], rows: list[Row], top: int) -> None:
    """Print one line per image: the most likely label, its probability, and the next labels."""
    top = min(top, len(classes))
    cells = [
        (str(file), label, f"{p:.1%}", "  ".join(f"{other} {q:.1%}" for other, q in others))
        for file, row in rows
        for (label, p), *others in [best(classes, row)[:top]]
    ]
    say_text("\n".join(grid(("image", "prediction", "probability", "other labels" if top > 1 else ""), cells)))


def write(file: Path, classes: list[str], rows: list[Row]) -> None:
    """Write all probabilities, with the columns of valid_predictions.csv."""
    try:
        with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as opened:
            lines = csv.writer(opened)
            lines.writerow(["path", "prediction", *classes])
            lines.writerows([str(path), best(classes, row)[0][0], *(f"{p:.6f}" for p in row)] for path, row in rows)
    except OSError as error:
        raise machine_error(error, file) from None
    say(f"{short_path(file)}: {len(rows):,} images")


def folders_of(run: Path, every: bool) -> list[Path]:
    """Return the folder of a finished run, or of a sweep's best job; with `every`, of all jobs of its best setting.

    Raise UserError (exit 6) if there is none.
    """
    if os.path.isfile(run / "config.json"):
        return [run]
    there = [file.parent for file in run.glob("*/config.json")] if os.path.isdir(run) else []
    runs = [one for one in there if part(read_yaml(one / ".hydra/hydra.yaml"), "hydra", "mode", kind=str) == "RUN"]
    if runs:
        newest = max(runs, key=lambda one: (one / "config.json").stat().st_mtime)
        raise UserError(6, f"{run}: a folder of runs; name one of them, e.g. the newest: {short_path(newest)}")
    if there and (best := (board := leaderboard(run, paired=False)).best_job):
        jobs = board.settings[0].jobs if every else [best]
        names = ", ".join(job.name for job in jobs)
        taken = f"the mean of jobs {names} is taken" if len(jobs) > 1 else f"its best job is {names}"
        say(f"note: {short_path(run)} is a sweep; {taken}")
        return [job.folder for job in jobs]
    raise UserError(6, f"{run}: not a finished run or sweep (no config.json)")


def files_of(paths: list[Path]) -> tuple[list[Path], list[Bad]]:
    """Return the image files, each once, and what is left out; folders are searched as for training.

    Raise UserError (exit 3) if the only path does not exist or holds no image.
    """
    from thaw.data.folder import walk
    from thaw.data.listing import file_of

    files, bad = {}, []
    for path in paths:
        is_folder, notes = os.path.isdir(path), []
        if not os.path.lexists(path):
            bad.append((path, "no such file or folder"))
            continue
        at = path if is_folder else path.parent
        try:
            found = walk(str(path), notes)[0] if is_folder else [file_of(path.name, path.stat)]
        except UserError as error:
            if len(paths) == 1:
                raise UserError(3, error.line.replace("data.root=", "")) from None
            bad.append((path, error.line.replace(f"data.root={path} ", "")))
            continue
        warnings = [note.removeprefix("warning: ") for note in notes if note.startswith("warning: ")]
        bad += [(path, why) for why in warnings or ([] if found else notes or ["no images in it"])]
        bad += [(at / file.path, file.bad) for file in found if file.bad]
        files |= {at / file.path: None for file in found if not file.bad}
    if len(paths) == len(bad) == 1 and not files:
        raise UserError(3, ": ".join(map(str, bad[0])))
    return list(files), bad


def none_opens(files: list[Path]) -> list[Bad]:
    """Return all files with the reason if none can be opened as an image, else an empty list.

    It spares the user the seconds of importing torch.
    """
    from thaw.data.decode import BadImage, size_of

    bad = []
    for file in files:
        try:
            size_of(file.read_bytes())
        except (BadImage, OSError) as error:
            bad.append((file, reason_of(error)))
        except Exception:  # `decode` says what is wrong
            return []
        else:
            return []
    return bad


def reason_of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def max_pixels(run: Path) -> float:
    """Return the run's data.max_pixels, or the default if its configuration cannot be read."""
    from thaw.data.decode import MAX_PIXELS

    asked = as_number(part(read_yaml(run / ".hydra/config.yaml"), "data", "max_pixels", kind=str))
    return asked if 1 <= asked <= 1e12 else MAX_PIXELS


def predict_all(runs: list[Path], files: list[Path]) -> tuple[list[str], list[Row], list[Bad]]:
    """Return what `predict` does for several runs of one setting: the mean of their probabilities."""
    import numpy as np

    found = [predict(run, files) for run in runs]
    classes, rows, broken = found[0]
    if any(others != classes for others, _, _ in found):
        raise UserError(6, f"{short_path(runs[0].parent)}: its jobs differ in their classes; name one job")
    mean = np.mean([[p for _, p in each] for _, each, _ in found], axis=0).tolist()
    return classes, [(file, p) for (file, _), p in zip(rows, mean, strict=True)], broken


def predict(run: Path, files: list[Path]) -> tuple[list[str], list[Row], list[Bad]]:
    """Return the classes of the run, the probabilities of each image, and the unreadable files with the reason."""
    if bad := none_opens(files):
        return [], [], bad
    import numpy as np
    import torch

    from thaw.data.augment import view
    from thaw.data.decode import BadImage, decode
    from thaw.data.resize import fit_side
    from thaw.data.table import FULL
    from thaw.model.network import open_saved
    from thaw.model.saved import CONFIG, read_saved

    saved = read_saved(run, str(run))
    if not saved.names:
        raise UserError(6, f"{run}: {CONFIG} names no classes")
    model, crop_pct = open_saved(saved), saved.shown["crop_pct"]
    see, side = view(saved.size, crop_pct), round(saved.size / crop_pct)
    mean, std = (torch.tensor(saved.shown[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    rows, bad, limits = [], [], {"max_pixels": max_pixels(run), "bits": saved.grey_bits or FULL}

    def views(part: list[Path]) -> Iterator[tuple[Path, np.ndarray]]:
        for file in part:
            try:
                yield file, see(fit_side(decode(file.read_bytes(), side=side, **limits), side), None)
            except (BadImage, OSError) as error:
                bad.append((file, reason_of(error)))

    starts = range(0, len(files), BATCH)
    for start in bar(starts, len(starts), "predict"):
        if images := dict(views(files[start : start + BATCH])):
            x = torch.from_numpy(np.stack(list(images.values()))).permute(0, 3, 1, 2).float() / 255
            with torch.inference_mode():
                rows += zip(images, model((x - mean) / std).softmax(1).tolist(), strict=True)
    return list(saved.names), rows, bad


if __name__ == "__main__":
    sys.exit(run(main))
