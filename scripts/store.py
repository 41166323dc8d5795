"""Look after the store: what lies there, is it whole, how much of it to keep, why two runs share nothing.

python scripts/store.py ls                        kinds, numbers, sizes
python scripts/store.py verify                    read everything, compare it with its SHA-256
python scripts/store.py prune --to 20GB           oldest use first, never what was used in the last hour
python scripts/store.py explain RUN_A RUN_B       the first thing in which two runs differ
"""

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from thaw.config.paths import require_checkout
from thaw.config.values import parse_bytes
from thaw.runtime.errors import UserError
from thaw.runtime.files import format_bytes
from thaw.runtime.job_status import print_error
from thaw.store.keys import changed
from thaw.store.prune import UNDER_WAY, entries, prune
from thaw.store.store import Store

require_checkout(__file__)

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--dir", type=Path, default=ROOT / "outputs/store", help="the store (outputs/store)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="ls | verify | prune | explain")
    commands.add_parser("ls", parents=[where], help="kinds, numbers, sizes")
    commands.add_parser("verify", parents=[where], help="read everything, compare it with its SHA-256")
    prune_ = commands.add_parser("prune", parents=[where], help="keep it within a size")
    prune_.add_argument("--to", required=True, help="how large it may stay, e.g. 20GB")
    explain = commands.add_parser("explain", help="the first thing in which two runs differ")
    explain.add_argument("runs", nargs=2, type=Path, metavar="RUN")
    args = parser.parse_args()
    try:
        if args.command != "explain" and not args.dir.is_dir():
            raise UserError(5, f"--dir {args.dir}: no store is there")
        match args.command:
            case "ls":
                return ls(args.dir)
            case "verify":
                return verify(args.dir)
            case "prune":
                return prune_to(args.dir, parse_bytes(args.to, "--to"))
            case "explain":
                return explain_runs(*args.runs)
    except UserError as error:
        return print_error(error)


def ls(store: Path) -> int:
    kinds: dict[str, list[int]] = {}
    for entry in entries(store):
        kinds.setdefault(entry.kind, []).append(entry.bytes)
    for kind, sizes in sorted(kinds.items()):
        print(f"{kind:12} {len(sizes):6,}  {format_bytes(sum(sizes))}")
    print(f"{'all':12} {sum(map(len, kinds.values())):6,}  {format_bytes(sum(map(sum, kinds.values())))}  in {store}")
    return 0


def verify(store: Path) -> int:
    """0, or 6 where something was damaged and moved aside."""
    damaged, made = [], [entry for entry in entries(store) if entry.kind != UNDER_WAY]
    checked = Store(store, damaged.append)
    for entry in tqdm(made, disable=None, leave=False):
        checked.find(entry.path)
    for line in damaged:
        print(line)
    print(
        f"{len(made) - len(damaged):,} whole, {len(damaged)} damaged and moved aside"
        + ("; prune removes them" if damaged else "")
    )
    return 6 if damaged else 0


def prune_to(store: Path, size: float) -> int:
    removed, left = prune(store, size)
    gone = f"{len(removed):,} artifacts removed ({format_bytes(sum(entry.bytes for entry in removed))})"
    print(f"{gone}, {format_bytes(left)} left" + ("; it was used in the last hour" if left > size else ""))
    return 0


def explain_runs(a: Path, b: Path) -> int:
    """The first thing in which what two runs depend on differs: settings in the order of the phases, data, code."""
    print(changed(parts_of(a), parts_of(b)) or "no difference: the second run of these takes all from the store")
    return 0


def parts_of(run: Path) -> dict:
    """What a run depends on, as it wrote it when it began to train. Errors: no run there, exit 6."""
    try:
        return json.loads((run / "run.json").read_text())["parts"]
    except (OSError, KeyError, ValueError):
        raise UserError(6, f"{run}: no run that began to train is there (no run.json with its parts)") from None


if __name__ == "__main__":
    sys.exit(main())
