"""Does a change of the code leave everything as it was? Run two commits and compare what they leave.

python scripts/bench/same.py BEFORE [AFTER] [--work FOLDER]     nine minutes on two cores; AFTER is HEAD

Each side runs the commands of same.yaml in a worktree of its own, with one thread, in float32, with a store of its own.
Compared are the exit code, the lines printed, the files left, and how many artifacts of each kind the store then holds;
by SHA-256 weights, predictions, curves and plan.txt; the columns and axes of an offline W&B file; which settings are
told apart. What differs from one start to the next (seconds, dates, hashes of code) is left out. Resumable: a
command whose line is in FOLDER is not run again.
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

require_checkout(__file__)

SUITE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
EXACT = re.compile(r"(model\.safetensors|config\.json|.*predictions\.csv|plan\.txt|leaks\.csv|find_.*\.json|.*px\.png)")
TIMED = ("train_seconds", "speed/images_per_second", "speed/data_wait")  # columns of metrics.jsonl
SHARED = ("first", "resized", "sweep")  # folders that later commands read
HASH = re.compile(r"\b(?=[0-9a-z]*\d)(?:[0-9a-f]{8,}|[0-9a-z]{8})\b|\b\d{8}_\d{6}\b")


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", default="HEAD", help="another (HEAD)")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs/same", help="(outputs/same)")
    args = parser.parse_args()
    work = args.work.absolute()
    draw_images(work)
    commands = SUITE["commands"] | {
        f"identity of {w}": f"src/train.py SMOKE {w} hydra.run.dir=RUN" for w in SUITE["identities"]
    }
    with ThreadPoolExecutor(2) as pool:
        sides = list(pool.map(lambda commit: record(work, commit, commands), dict.fromkeys((args.before, args.after))))
    return compare(sides[0], sides[-1])


def draw_images(work: Path) -> None:
    """Write digits as files, a folder a class, one of them broken; and the same with one image more."""
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
    """Run all commands in a worktree of the commit; return what was observed of each by its name."""
    asked = ["git", "-C", ROOT, "rev-parse", "--short=12", commit]
    commit = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
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
    """Run one command; return its exit code, lines and files, the hashes that must be equal, the store's contents."""
    runs = checkout / "outputs/same"
    folder = runs / SUITE["folders"].get(name, re.sub(r"\W+", "_", name))
    places = {"RUN": folder, **{one.upper(): runs / one for one in SHARED}}
    places |= {"IMAGES": work / "images", "MORE": work / "more", "CHECKOUT": checkout}
    for words in (SUITE["options"], places):
        arguments = re.sub(rf"\b({'|'.join(words)})\b", lambda m, words=words: str(words[m[0]]), arguments)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA", "THAW"))}
    environment |= {"HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(checkout / "src")  # before the thaw that is installed
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, *shlex.split(arguments)], cwd=checkout, env=environment, **pipes)
    if name == "killed":
        kill_once_under_way(process, checkout / "outputs/store/underway")
        process.communicate()
        return {"exit": process.returncode}
    out, errors = process.communicate()
    printed = {"lines": shown(out, places), "errors": shown(errors, places)}
    if name == "killed and resumed":  # how far it was when it was killed is chance
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
    """Kill the process once three cycles have written snapshots."""
    seen: set[str] = set()
    while process.poll() is None and len(seen) < 3:
        seen |= {path.parent.name for path in underway.glob("*/snapshot")}
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)


def shown(text: str, places: dict[str, Path]) -> list[str]:
    """Return the lines with the paths of this side replaced by their names."""
    for name, path in places.items():
        near = os.path.relpath(path, places["CHECKOUT"])
        text = text.replace(str(path), name)
        text = text if near.startswith(".") else text.replace(near, name)
    return text.splitlines()


def exact(folder: Path) -> dict[str, str]:
    """Return the hashes of the files that must be equal, and the columns of those that hold seconds too."""
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
    """Return columns, axes, tags, name and exit code of an offline W&B file, read by the checkout's own test helper."""
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
    """Print every difference; return 1 if there is one."""
    differ = 0
    for name in before:
        said = differences(before[name], after[name])
        differ += bool(said)
        code = f" (exit {before[name]['exit']})" if before[name]["exit"] else ""  # which may be wrong on both sides
        say_text("\n".join([f"== {name}", *said]) if said else f"   {name}: equal{code}")
    sides = [told_apart(side) for side in (before, after)]
    if sides[0] != sides[1]:
        differ += 1
        say_text("\n".join(["== which settings are told apart", *difflib.ndiff(*sides)]))
    models = sum(key.endswith(".safetensors") for one in after.values() for key in one.get("exact", {}))
    say_text(f"\n{len(before)} commands, {differ} differ; {models} models compared by SHA-256")
    return min(differ, 1)


def differences(a: dict, b: dict) -> list[str]:
    """Return the lines in which two observations of a command differ."""
    out = []
    for key in ("exit", "lines", "errors", "files", "exact", "store", "wandb"):
        texts = [as_lines(key, one.get(key)) for one in (a, b)]
        if texts[0] != texts[1]:
            out += [f"  {key} {line}" for line in difflib.ndiff(*texts) if line[0] in "+-"]
    return out


def as_lines(key: str, value) -> list[str]:
    """Return a value in lines that two starts of the same code have in common."""
    if isinstance(value, dict):
        return [f"{name}: {json.dumps(one)}" for name, one in sorted(value.items())]
    if key in ("lines", "errors"):
        return [general(line) for line in value or []]
    return value if isinstance(value, list) else [str(value)]


def general(line: str) -> str:
    """Return a line without dates, seconds, speeds, sizes in bytes and hashes; columns two spaces apart."""
    line = re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", "DATE", line)
    line = re.sub(r"\b\d+ min \d+ s\b|\b\d+ h \d+ min\b|\b[\d.]+ s\b|\d\d:\d\d$", "TIME", line)
    line = re.sub(r"[\d,.]+ img/s", "SPEED", line)
    line = re.sub(r"[\d.]+ [GM]B\b", "BYTES", line)
    line = re.sub(r"-{5,}", "-----", HASH.sub("HASH", line))
    line = re.sub(r"(?<= )\d+\.\d(?= |$)", "SECONDS", line)  # only seconds have one decimal in a table
    return re.sub(r" {2,}", "  ", line.rstrip()).removesuffix(", of which TIME now and the rest from the store")


def told_apart(side: dict[str, dict]) -> list[str]:
    """Return each setting of `identities` with a number that those of one identity share."""
    numbers: dict[str, int] = {}
    own = {name: json.dumps(one["identity"]) for name, one in side.items() if name.startswith("identity of")}
    return [f"{name}: {numbers.setdefault(key, len(numbers))}" for name, key in own.items()]


if __name__ == "__main__":
    sys.exit(run(main))
