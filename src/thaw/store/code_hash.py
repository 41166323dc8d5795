"""Hash the code that makes each kind of artifact, so that artifacts are made again after an edit of that code.

A module's hash covers its syntax tree without comments, docstrings and imports from thaw itself. A key holds only the
hashes, so everything a module made is still found after the module is moved or renamed. tests/store/test_code_hash.py
traces runs and fails if a module that makes an artifact is not listed here.
"""

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

PACKAGES = Path(__file__).parents[1]
# The modules that make each kind. Tracking, reports, console output and parsing of settings belong to none.
PIXELS = (
    "data/decode.py",
    "data/resize.py",
    "data/decode_cache.py",
    "data/pixels.py",
    "data/dataset.py",
    "data/drawn.py",
)
DATA = (*PIXELS, "data/augment.py", "data/transforms.py", "model/device.py", "runtime/seeds.py")
NETWORK = (
    "model/heads.py",
    "model/hub.py",
    "model/network.py",
    "model/saved.py",
    "model/weights.py",
    "model/freezing.py",
)
WEIGHTS = ("model/packaged.py", *NETWORK)
FEATURES = (*DATA, *NETWORK, "train/features.py")
CYCLE = (*FEATURES, "model/layer_groups.py", "data/batches.py", "train/loop.py")
CYCLE += ("config/schedule.py", "plan/schedules.py")
CYCLE += ("train/inputs.py", "train/phase_fit.py", "train/predictions.py", "train/cycle.py", "train/cycle_state.py")
FINDS = (*CYCLE, "train/lr_suggest.py", "train/lr_finder.py")
# Modules that only affect a run's result.
RESULTS = (*FINDS, "model/packaged.py", "train/early_stopping.py", "train/fit.py", "train/tta.py", "train/ensemble.py")
RESULTS += ("train/calibration.py", "train/near_duplicates.py", "train/run.py")
RESULTS += ("plan/shorten.py", "train/time_limit.py")
CODE = {
    "weights": WEIGHTS,
    "pixels": PIXELS,
    "activations": FEATURES,
    "finds": FINDS,
    "cycles": CYCLE,
    "results": RESULTS,
}
ALL_CODE = "results"  # the kind whose modules include those of all others


def code_by_module(kind: str) -> dict[str, str]:
    """Return the hash of each module that makes a kind of artifact."""
    return {name: hash_of(name) for name in CODE[kind]}


def code_part(kind: str, check: str = "check") -> list[str]:
    """Return the part of a key that covers the code of a kind; empty with store.code=ignore."""
    return sorted(code_by_module(kind).values()) if check == "check" else []


@cache
def hash_of(module: str) -> str:
    """Hash a module's source once per process: an edit made later does not change the code that runs."""
    text = (PACKAGES / module).read_text(encoding="utf-8")
    return hashlib.sha256(meaning(text).encode()).hexdigest()[:16]


@cache
def definition(choice: type) -> str:
    """Hash a class and everything it names in its own module, so that other classes there may change."""
    tree = ast.parse(Path(sys.modules[choice.__module__].__file__).read_text(encoding="utf-8"))
    defined = {node.name: node for node in without_words(tree).body if hasattr(node, "name")}
    todo, seen = [choice.__name__], {}
    while todo:
        name = todo.pop()
        if name in defined and name not in seen:
            seen[name] = ast.dump(defined[name])
            todo += [node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)]
    return hashlib.sha256("".join(seen[name] for name in sorted(seen)).encode()).hexdigest()[:16]


def meaning(source: str) -> str:
    """Return the syntax tree of a module as text, without docstrings and without imports from thaw."""
    return ast.dump(without_words(ast.parse(source)))


def without_words(tree: ast.Module) -> ast.Module:
    """Remove docstrings and imports from thaw from a syntax tree, which never has comments."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        if body and isinstance(body[0], ast.Expr) and isinstance(getattr(body[0].value, "value", None), str):
            del body[0]
        body[:] = [line for line in body if not (isinstance(line, ast.ImportFrom) and is_own(line.module))]
    return tree


def is_own(module: str | None) -> bool:
    """Return whether a module is one of thaw's."""
    return (module or "").partition(".")[0] == "thaw"
