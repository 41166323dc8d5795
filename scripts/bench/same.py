"""Check that a change of the code leaves results unchanged: run two commits and compare what they leave.

python scripts/bench/same.py BEFORE [AFTER] [--work FOLDER]     takes nine minutes on two cores

Each side runs the commands of same.yaml in its own worktree and store, with one thread, in float32. Compared are: exit
codes; printed lines; files left; the number of artifacts of each kind in the store; by SHA-256, the weights,
predictions, curves and plan.txt; the columns and axes of an offline W&B file; and which settings have the same
identity. Anything that varies between starts (seconds, dates, hashes of code) is left out. Commands already recorded in
FOLDER are not run again.
"""

import difflib
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from thaw.config.paths import ROOT, require_checkout
from thaw.runtime.console import say, say_text
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError

require_checkout(__file__)

SUITE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
EXACT = re.compile(r"(model\.safetensors|config\.json|.*predictions\.csv|plan\.txt|leaks\.csv|find_.*\.json|.*px\.png)")
TIMED = ("train_seconds", "speed/images_per_second", "speed/data_wait")  # columns of metrics.jsonl
SHARED = ("first", "resized", "sweep")  # folders that later commands read
HASH = re.compile(r"\b(?=[0-9a-z]*\d)(?:[0-9a-f]{8,}|[0-9a-z]{8})\b|\b\d{8}_\d{6}\b")


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("before", metavar="BEFORE", help="a commit")
    parser.add_argument("after", nargs="?", default="HEAD", metavar="AFTER", help="another commit (default: HEAD)")
    where = "folder of worktrees and records (default: outputs/same)"
    parser.add_argument("--work", type=Path, default=ROOT / "outputs/same", metavar="FOLDER", help=where)
    args = parser.parse_args()
    commits = [commit_of(text) for text in (args.before, args.after)]
    work = args.work.absolute()
    draw_images(work)
    commands = SUITE["commands"] | {
        f"identity of {w}": f"src/train.py SMOKE {w} hydra.run.dir=RUN" for w in SUITE["identities"]
    }
    with ThreadPoolExecutor(2) as pool:
        sides = list(pool.map(lambda commit: record(work, commit, commands), dict.fromkeys(commits)))
    return compare(sides[0], sides[-1])


def commit_of(text: str) -> str:
    """Return the short hash of a commit. Raise UserError (exit 2) if this repository has no such commit."""
    asked = ["git", "-C", ROOT, "rev-parse", "--quiet", "--verify", "--short=12", f"{text}^{{commit}}"]
    done = subprocess.run(asked, capture_output=True, text=True)
    if done.returncode:
        raise UserError(2, f"{text}: not a commit of this repository")
    return done.stdout.strip()


def draw_images(work: Path) -> None:
    """Write digits as files, one folder per class, one file broken; and a copy of them with an additional image."""
    import cv2
    from sklearn.datasets import load_digits

    digits = load_digits()
    for name, more in (("images", 0), ("more", 1)):
        for digit in range(4):
            folder = work / name / str(digit)
            folder.mkdir(parents=True, exist_ok=True)
            for i, image in enumerate(digits.images[digits.target == digit][: 40 + more * (digit == 0)]):
                large = cv2.resize((image * 15.9).astype("uint8"), (48, 40), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(folder / f"{i}.png"), large)
        (work / name / "3/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not an image")


# run ------------------------------------------------------------------------------------------------------------------


def record(work: Path, commit: str, commands: dict[str, str]) -> dict[str, dict]:
    """Run all commands in a worktree of the commit; return the observations by name."""
    checkout, file = work / commit, work / f"{commit}.jsonl"
    if not checkout.exists():
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", checkout, commit], check=True)
    lines = file.read_text().splitlines() if file.exists() else []
    seen = {line["name"]: line for line in map(json.loads, lines)}
    for name, arguments in commands.items():
        if name not in seen:
            seen[name] = {"name": name} | observed(checkout, work, name, arguments)
            with file.open("a") as opened:
                opened.write(json.dumps(seen[name]) + "\n")
            say(f"{commit}: {name}: exit {seen[name]['exit']}")
    return seen


def observed(checkout: Path, work: Path, name: str, arguments: str) -> dict:
    """Run a command; return its exit code, lines, files, exact hashes and the contents of the store."""
    runs = checkout / "outputs/same"
    folder = runs / SUITE["folders"].get(name, re.sub(r"\W+", "_", name))
    places = {"RUN": folder, **{one.upper(): runs / one for one in SHARED}}
    places |= {"IMAGES": work / "images", "MORE": work / "more", "CHECKOUT": checkout}
    for words in (SUITE["options"], places):
        arguments = re.sub(rf"\b({'|'.join(words)})\b", lambda m, words=words: str(words[m[0]]), arguments)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA", "THAW"))}
    environment |= {"HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(checkout / "src")  # takes precedence over the installed thaw
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, *shlex.split(arguments)], cwd=checkout, env=environment, **pipes)
    if name == "killed":
        kill_once_under_way(process, checkout / "outputs/store/underway")
        process.communicate()
        return {"exit": process.returncode}
    out, errors = process.communicate()
    printed = {"lines": shown(out, places), "errors": shown(errors, places)}
    if name == "killed and resumed":  # the moment of the kill is random
        printed["lines"] = []
    return printed | {
        "exit": process.returncode,
        "files": sorted({HASH.sub("HASH", str(p.relative_to(folder))) for p in folder.rglob("*") if p.is_file()}),
        "exact": exact(folder),
        "store": dict(Counter(p.relative_to(checkout).parts[2] for p in checkout.glob("outputs/store/*/**/DONE.json"))),
        "identity": [json.loads(p.read_text()).get("identity") for p in sorted(folder.rglob("result.json"))],
        "wandb": wandb_file(folder, checkout),
    }


def kill_once_under_way(process: subprocess.Popen, underway: Path) -> None:
    """Kill a process once three cycles have written snapshots."""
    seen: set[str] = set()
    while process.poll() is None and len(seen) < 3:
        seen |= {path.parent.name for path in underway.glob("*/snapshot")}
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)


def shown(text: str, places: dict[str, Path]) -> list[str]:
    """Return the lines with this side's paths replaced by their names."""
    for name, path in places.items():
        near = os.path.relpath(path, places["CHECKOUT"])
        text = text.replace(str(path), name)
        text = text if near.startswith(".") else text.replace(near, name)
    return text.splitlines()


def exact(folder: Path) -> dict[str, str]:
    """Return the hashes of files that must be equal, and the columns of files that also hold seconds."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(file.relative_to(folder))
        if EXACT.fullmatch(file.name):
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        elif file.name == "metrics.jsonl":
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            kept = json.dumps([{key: row[key] for key in row if key not in TIMED} for row in rows])
            found[name] = hashlib.sha256(kept.encode()).hexdigest()
        elif file.name == "leaderboard.csv":
            found[name] = file.read_text().splitlines()[0]
        elif file.name == "result.json":
            found[name] = ", ".join(sorted(json.loads(file.read_text())))
    return found


def wandb_file(folder: Path, checkout: Path) -> dict:
    """Return columns, axes, tags, name and exit code of an offline W&B file, read with the checkout's test helper."""
    files = sorted(folder.rglob("run-*.wandb"))
    if not files:
        return {}
    code = "import sys, json, offline; print(json.dumps(offline.read(sys.argv[1])))"
    path = os.pathsep.join(str(checkout / place) for place in ("tests", "tests/helpers"))
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code, files[0]], capture_output=True, text=True, env=environment)
    run = json.loads(done.stdout)
    columns = {"history": sorted({key for row in run["history"] for key in row})}
    columns |= {part: sorted(run[part]) for part in ("config", "summary")}
    return columns | {part: run[part] for part in ("axes", "tags", "name", "exit")}


# compare --------------------------------------------------------------------------------------------------------------


def compare(before: dict[str, dict], after: dict[str, dict]) -> int:
    """Print every difference; return 1 if there is one, else 0."""
    differ = 0
    for name in before:
        found = differences(before[name], after[name])
        differ += bool(found)
        code = f" (exit {before[name]['exit']})" if before[name]["exit"] else ""  # can be a failure of both
        say_text("\n".join([f"== {name}: different", *found]) if found else f"   {name}: equal{code}")
    sides = [identities(side) for side in (before, after)]
    if sides[0] != sides[1]:
        differ += 1
        say_text("\n".join(["== settings with the same identity: different", *difflib.ndiff(*sides)]))
    models = sum(key.endswith(".safetensors") for one in after.values() for key in one.get("exact", {}))
    say_text(f"\n{len(before)} commands, {differ} differ; {models} models compared by SHA-256")
    return min(differ, 1)


def differences(a: dict, b: dict) -> list[str]:
    """Return the differing lines of two observations of a command."""
    out = []
    for key in ("exit", "lines", "errors", "files", "exact", "store", "wandb"):
        texts = [as_lines(key, one.get(key)) for one in (a, b)]
        if texts[0] != texts[1]:
            out += [f"  {key} {line}" for line in difflib.ndiff(*texts) if line[0] in "+-"]
    return out


def as_lines(key: str, value) -> list[str]:
    """Return a value as lines without what varies between starts."""
    if isinstance(value, dict):
        return [f"{name}: {json.dumps(one)}" for name, one in sorted(value.items())]
    if key in ("lines", "errors"):
        return [general(line) for line in value or []]
    return value if isinstance(value, list) else [str(value)]


def general(line: str) -> str:
    """Return a line without dates, seconds, speeds, byte sizes and hashes, with columns two spaces apart."""
    line = re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", "DATE", line)
    line = re.sub(r"\b\d+ min \d+ s\b|\b\d+ h \d+ min\b|\b[\d.]+ s\b|\d\d:\d\d$", "TIME", line)
    line = re.sub(r"[\d,.]+ img/s", "SPEED", line)
    line = re.sub(r"[\d.]+ [GM]B\b", "BYTES", line)
    line = re.sub(r"-{5,}", "-----", HASH.sub("HASH", line))
    line = re.sub(r"(?<= )\d+\.\d(?= |$)", "SECONDS", line)  # only seconds have one decimal in a table
    return re.sub(r" {2,}", "  ", line.rstrip()).removesuffix(", of which TIME now and the rest from the store")


def identities(side: dict[str, dict]) -> list[str]:
    """Return each setting of `identities` with a number shared by settings of the same identity."""
    numbers: dict[str, int] = {}
    own = {name: json.dumps(one["identity"]) for name, one in side.items() if name.startswith("identity of")}
    return [f"{name}: {numbers.setdefault(key, len(numbers))}" for name, key in own.items()]


if __name__ == "__main__":
    sys.exit(run(main))
