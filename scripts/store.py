"""Look after the store: what lies there, is it whole, how much of it to keep, why two runs share nothing.

python scripts/store.py ls                        kinds, numbers, sizes
python scripts/store.py verify                    read everything, compare it with its SHA-256
python scripts/store.py prune --to 20GB           oldest use first, never what was used in the last hour
python scripts/store.py explain RUN_A RUN_B       the first thing in which two runs differ
"""

import argparse
import json
import re
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from tqdm import tqdm

from thaw.errors import UserError
from thaw.keys import first_difference
from thaw.store import DONE, Store

ROOT = Path(__file__).resolve().parents[1]
IN_USE_SECONDS = 3600
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=ROOT / "outputs/store", help="the store (outputs/store)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("ls")
    commands.add_parser("verify")
    commands.add_parser("prune").add_argument("--to", required=True, help="how large it may stay, e.g. 20GB")
    explain = commands.add_parser("explain")
    explain.add_argument("runs", nargs=2, type=Path)
    args = parser.parse_args()
    try:
        match args.command:
            case "ls":
                return ls(args.dir)
            case "verify":
                return verify(args.dir)
            case "prune":
                return prune(args.dir, size_of(args.to))
            case "explain":
                return explain_runs(args.dir, *args.runs)
    except UserError as error:
        print(f"error: {error.line}", file=sys.stderr)
        return error.code


def entries(store: Path) -> list[Path]:
    """The complete artifacts, those used longest ago first."""
    done = [path for path in store.glob(f"*/*/{DONE}") if "." not in path.parent.name]
    return [path.parent for path in sorted(done, key=lambda path: path.stat().st_mtime)]


def bytes_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def show(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def size_of(text: str) -> float:
    """Bytes of 20GB, 500M or 1e9. Errors: anything else, exit 2."""
    found = re.fullmatch(r"([0-9.e]+)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if not found:
        raise UserError(2, f"--to {text}: must be a size such as 20GB or 500MB")
    return float(found[1]) * UNITS[found[2].upper()]


def ls(store: Path) -> int:
    kinds: dict[str, list[int]] = {}
    for path in entries(store):
        kinds.setdefault(path.parent.name, []).append(bytes_of(path))
    for kind, sizes in sorted(kinds.items()):
        print(f"{kind:12} {len(sizes):6,}  {show(sum(sizes))}")
    print(f"{'all':12} {sum(map(len, kinds.values())):6,}  {show(sum(map(sum, kinds.values())))}  in {store}")
    return 0


def verify(store: Path) -> int:
    """0, or 6 where something was damaged and moved aside."""
    damaged = []
    checked = Store(store, damaged.append)
    for path in tqdm(entries(store), disable=None, leave=False):
        checked.find(path.parent.name, path.name)
    for line in damaged:
        print(line)
    print(f"{len(entries(store)):,} whole, {len(damaged)} damaged and moved aside")
    return 6 if damaged else 0


def prune(store: Path, size: float) -> int:
    """Remove the artifacts used longest ago until the rest fits, and what was moved aside as damaged."""
    for path in store.glob("*/*.bad.*"):
        shutil.rmtree(path, ignore_errors=True)
    sizes = {path: bytes_of(path) for path in entries(store)}
    left, removed = sum(sizes.values()), 0
    for path, own in sizes.items():
        if left <= size or time.time() - (path / DONE).stat().st_mtime < IN_USE_SECONDS:
            break
        gone = path.with_name(f"{path.name}.gone")  # nobody finds half of it
        path.rename(gone)
        shutil.rmtree(gone)
        left, removed = left - own, removed + 1
    print(f"{removed:,} removed, {show(left)} left" + ("; the rest was used in the last hour" if left > size else ""))
    return 0


def explain_runs(store: Path, a: Path, b: Path) -> int:
    """The first part of the key in which two runs differ, along the chain of what each was made from."""
    for x, y in zip(*(chain(store, run) for run in (a, b)), strict=False):
        if difference := first_difference({**x, "before": 0}, {**y, "before": 0}):
            where = x.get("training", {}).get("phase", "?")
            print(f"{where}, cycle {x.get('cycle', 0)}: {difference}")
            return 0
    print("no difference in what both have")
    return 0


def chain(store: Path, run: Path) -> list[dict]:
    """The parts of every cycle that led to a run's result, the first one first. Errors: no run there, exit 6."""
    try:
        key = json.loads((run / "result.json").read_text())["key"]
    except (OSError, KeyError, ValueError):
        raise UserError(6, f"{run}: no finished run is there (it has no result.json with a key)") from None
    out = []
    while (done := store / "cycles" / key / DONE).exists():
        out.append(json.loads(done.read_text())["parts"])
        key = out[-1]["before"]
    return out[::-1]


if __name__ == "__main__":
    sys.exit(main())
