"""List, verify or prune the store, or explain why two runs share nothing.

python scripts/store.py ls                        number, size and last use of the stored results of each kind
python scripts/store.py verify                    compare every stored result with its SHA-256
python scripts/store.py prune --to 20GB           remove the least recently used, but nothing used in the last hour
python scripts/store.py explain RUN_A RUN_B       the first difference in what two runs depend on
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from thaw.config.paths import OUTPUTS, require_checkout
from thaw.config.values import parse_bytes
from thaw.runtime.console import grid, say
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError
from thaw.runtime.files import format_bytes, read_json
from thaw.store.keys import changed
from thaw.store.prune import DAY, HOUR, IN_PROGRESS, StoredFolder, entries, prune
from thaw.store.store import Store
from thaw.sweep.jobs import single_run

require_checkout(__file__)

CONTENTS = {  # what each kind of artifact is
    "pixels": "decoded images",
    "activations": "outputs of the backbone for each image",
    "weights": "pretrained weights from an installed package",
    "finds": "curves of the learning rate finder",
    "cycles": "the model at the end of each cycle",
    IN_PROGRESS: "snapshots of unfinished cycles",
}


def main() -> int:
    parser = Parser(__doc__)
    store_option = Parser(add_help=False)
    store_option.add_argument(
        "--dir",
        type=Path,
        default=OUTPUTS / "store",
        metavar="STORE",
        help="folder of the store (default: outputs/store)",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="ls | verify | prune | explain")

    def command(name: str, text: str, *parents: Parser) -> Parser:
        return commands.add_parser(name, parents=parents, help=text, description=text[0].upper() + text[1:] + ".")

    command("ls", "list number, size and last use of the stored results of each kind", store_option)
    command("verify", "compare every stored result with its SHA-256", store_option)
    prune_ = command("prune", "remove the least recently used results, but nothing used in the last hour", store_option)
    prune_.add_argument("--to", required=True, metavar="SIZE", help="size to keep, e.g. 20GB")
    explain = command("explain", "show the first difference in what two runs depend on")
    explain.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="folder of a run")
    args = parser.parse_args()
    if args.command != "explain" and not args.dir.is_dir():
        raise UserError(5, f"--dir {args.dir}: no store exists there")
    match args.command:
        case "ls":
            ls(args.dir)
        case "verify":
            return verify(args.dir)
        case "prune":
            prune_to(args.dir, size_of(args.to))
        case "explain":
            explain_runs(*args.runs)
    return 0


def ls(store: Path) -> None:
    """Print a table with a row for each kind of artifact and one for all: number, size, last use, contents."""
    stored, now = entries(store), time.time()
    kinds = sorted({entry.kind for entry in stored})
    rows = [ls_row(kind, [entry for entry in stored if entry.kind == kind], now) for kind in kinds]
    for line in grid(("kind", "number", "size", "last used", "contents"), [*rows, ls_row("all", stored, now)]):
        say(line)
    say(f"store: {store}")


def ls_row(kind: str, stored: Sequence[StoredFolder], now: float) -> tuple[str, ...]:
    """Return the row of some artifacts; `now`: seconds since 1970."""
    age = format_age(now - max(entry.used for entry in stored)) if stored else ""
    size = format_bytes(sum(entry.bytes for entry in stored))
    return kind, f"{len(stored):,}", size, age, CONTENTS.get(kind, "")


def format_age(seconds: float) -> str:
    """Format an age as 12 min ago, 5 h ago or 3 days ago."""
    if seconds < HOUR:
        return f"{max(seconds, 0) // 60:.0f} min ago"
    return f"{seconds // HOUR:.0f} h ago" if seconds < 2 * DAY else f"{seconds // DAY:.0f} days ago"


def size_of(text: str) -> float:
    """Return the bytes of --to. Raise UserError (exit 2) if it is not a size or has no unit."""
    size = parse_bytes(text, "--to")
    if size and not text.strip()[-1].isalpha():
        raise UserError(2, f"--to {text}: needs a unit, e.g. 20GB or 500MB")
    return size


def verify(store: Path) -> int:
    """Check every artifact; return 6 if one was damaged and moved aside, else 0."""
    damaged, complete = [], [entry for entry in entries(store) if entry.kind != IN_PROGRESS]
    checked = Store(store, damaged.append)
    for entry in tqdm(complete, disable=None, leave=False):
        checked.usable(entry.path)
    for line in damaged:
        say(line)
    say(
        f"{len(complete) - len(damaged):,} intact, {len(damaged)} damaged and moved aside"
        + ("; prune removes them" if damaged else "")
    )
    return 6 if damaged else 0


def prune_to(store: Path, size: float) -> None:
    removed, left = prune(store, size)
    what = f"{len(removed):,} stored result{'s' * (len(removed) != 1)}"
    gone = f"{what} removed ({format_bytes(sum(entry.bytes for entry in removed))})"
    say(f"{gone}, {format_bytes(left)} left" + ("; what is left was used in the last hour" if left > size else ""))


def explain_runs(a: Path, b: Path) -> None:
    """Print the first difference in what two runs depend on: settings by phase, data, code."""
    say(
        changed(parts_of(a), parts_of(b), two_runs=True)
        or "no difference: the second run takes everything from the store"
    )


def parts_of(run: Path) -> dict:
    """Return what a run depends on, from its run.json. Raise UserError (exit 6) if there is none."""
    if isinstance(parts := read_json(run / "run.json").get("parts"), dict):
        return parts
    single_run(run)
    raise UserError(6, f"{run}: this run has not begun to train (its run.json is missing or damaged)")


if __name__ == "__main__":
    sys.exit(run(main))
