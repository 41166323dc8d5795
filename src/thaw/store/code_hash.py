"""Hash the code that makes each kind of artifact, so that an edit of that code makes the artifact anew.

A hash is that of a module's syntax tree without comments, docstrings and imports from thaw itself, and a key holds the
hashes alone: a module may be moved or renamed and everything that it made is still found. tests/store/test_code_hash.py
traces runs, and fails for a module that makes an artifact and is not listed here.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOMS = Path(__file__).parents[1]
# The modules that make each kind. Tracking, reports, the terminal and what people type are in none.
PIXELS = ("data/decode.py", "data/resize.py", "data/decode_cache.py", "data/pixels.py", "data/dataset.py")
DATA = (*PIXELS, "data/augment.py", "model/device.py", "runtime/seeds.py")
NETWORK = ("model/heads.py", "model/network.py", "model/weights.py", "model/freezing.py")
WEIGHTS = ("model/packaged.py", *NETWORK)
FEATURES = (*DATA, *NETWORK, "train/features.py")
CYCLE = (*FEATURES, "model/layer_groups.py", "data/batches.py", "train/loop.py")
CYCLE += ("config/schedule.py", "config/schedulers.py", "plan/schedules.py")
CYCLE += ("train/inputs.py", "train/phase_fit.py", "train/predictions.py", "train/cycle.py", "train/cycle_state.py")
FINDS = (*CYCLE, "train/lr_suggest.py", "train/lr_finder.py")
# What is kept in a run's result only.
RESULTS = (*FINDS, "model/packaged.py", "train/early_stopping.py", "train/fit.py", "train/tta.py", "train/ensemble.py")
RESULTS += ("train/near_duplicates.py", "train/run.py")
CODE = {
    "weights": WEIGHTS,
    "pixels": PIXELS,
    "activations": FEATURES,
    "finds": FINDS,
    "cycles": CYCLE,
    "results": RESULTS,
}
ALL_CODE = "results"  # the kind that is made by every module which makes any


def code_by_module(kind: str) -> dict[str, str]:
    """Return the hash of each module that makes a kind."""
    return {name: hash_of(name) for name in CODE[kind]}


def code_part(kind: str, check: str = "check") -> list[str]:
    """Return the part of a key that says which code makes a kind; nothing with store.code=ignore."""
    return sorted(code_by_module(kind).values()) if check == "check" else []


@cache
def hash_of(module: str) -> str:
    """Hash a module as it was when this process first asked: what runs is what was there when it started."""
    text = (ROOMS / module).read_text(encoding="utf-8")
    return hashlib.sha256(meaning(text).encode()).hexdigest()[:16]


def meaning(source: str) -> str:
    """Return the syntax tree of a module as text, without docstrings and without imports from thaw."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        if body and isinstance(body[0], ast.Expr) and isinstance(getattr(body[0].value, "value", None), str):
            del body[0]
        body[:] = [line for line in body if not (isinstance(line, ast.ImportFrom) and is_own(line.module))]
    return ast.dump(tree)


def is_own(module: str | None) -> bool:
    """Return whether a module is one of thaw's."""
    return (module or "").partition(".")[0] == "thaw"
