"""Manage the store: list what it holds, verify it, limit its size, or say why two runs share no results.

python scripts/store.py ls                        the number and size of each kind of artifact
python scripts/store.py verify                    read everything and compare it with its SHA-256
python scripts/store.py prune --to 20GB           least recently used first, never what was used within the last hour
python scripts/store.py explain RUN_A RUN_B       the first difference between what two runs depend on
"""

import sys
from pathlib import Path

from tqdm import tqdm

from thaw.config.paths import OUTPUTS, require_checkout
from thaw.config.values import parse_bytes
from thaw.runtime.console import say
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError
from thaw.runtime.files import format_bytes, read_json
from thaw.store.keys import changed
from thaw.store.prune import UNDER_WAY, entries, prune
from thaw.store.store import Store

require_checkout(__file__)


def main() -> int:
    parser = Parser(__doc__)
    where = Parser(add_help=False)
    where.add_argument("--dir", type=Path, default=OUTPUTS / "store", help="the store (default: outputs/store)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="ls | verify | prune | explain")
    commands.add_parser("ls", parents=[where], help="the number and size of each kind of artifact")
    commands.add_parser("verify", parents=[where], help="read everything and compare it with its SHA-256")
    prune_ = commands.add_parser("prune", parents=[where], help="limit the size of the store")
    prune_.add_argument("--to", required=True, metavar="SIZE", help="the size to keep, e.g. 20GB")
    explain = commands.add_parser("explain", help="the first difference between what two runs depend on")
    explain.add_argument("runs", nargs=2, type=Path, metavar="RUN")
    args = parser.parse_args()
    if args.command != "explain" and not args.dir.is_dir():
        raise UserError(5, f"--dir {args.dir}: no store there, this folder does not exist")
    match args.command:
        case "ls":
            ls(args.dir)
        case "verify":
            return verify(args.dir)
        case "prune":
            prune_to(args.dir, parse_bytes(args.to, "--to"))
        case "explain":
            explain_runs(*args.runs)
    return 0


def ls(store: Path) -> None:
    kinds: dict[str, list[int]] = {}
    for entry in entries(store):
        kinds.setdefault(entry.kind, []).append(entry.bytes)
    for kind, sizes in sorted(kinds.items()):
        say(f"{kind:12} {len(sizes):6,}  {format_bytes(sum(sizes))}")
    say(f"{'all':12} {sum(map(len, kinds.values())):6,}  {format_bytes(sum(map(sum, kinds.values())))}  in {store}")


def verify(store: Path) -> int:
    """Move damaged artifacts aside. Return the exit code: 6 if there were any, else 0."""
    damaged, made = [], [entry for entry in entries(store) if entry.kind != UNDER_WAY]
    checked = Store(store, damaged.append)
    for entry in tqdm(made, disable=None, leave=False):
        checked.find(entry.path)
    for line in damaged:
        say(line)
    say(
        f"{len(made) - len(damaged):,} whole, {len(damaged)} damaged and moved aside"
        + ("; prune removes them" if damaged else "")
    )
    return 6 if damaged else 0


def prune_to(store: Path, size: float) -> None:
    removed, left = prune(store, size)
    what = f"{len(removed):,} artifact{'s' * (len(removed) != 1)}"
    kept = "; the rest was used within the last hour" if left > size else ""
    say(f"{what} removed ({format_bytes(sum(entry.bytes for entry in removed))}), {format_bytes(left)} left{kept}")


def explain_runs(a: Path, b: Path) -> None:
    """Print the first difference between what two runs depend on: size, data, phases in order, other settings, code."""
    say(changed(parts_of(a), parts_of(b)) or "no difference: the second run takes everything from the store")


def parts_of(run: Path) -> dict:
    """Return what a run recorded that it depends on. Raise UserError (exit 6) if it never began to train."""
    if isinstance(parts := read_json(run / "run.json").get("parts"), dict):
        return parts
    raise UserError(6, f"{run}: not the folder of a run that began to train (no run.json with its parts)")


if __name__ == "__main__":
    sys.exit(run(main))
