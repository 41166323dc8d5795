"""Hash the code that makes each kind of artifact, so that an edit of that code makes the artifact anew.

A hash is that of a module's syntax tree without comments, docstrings and imports from thaw itself, and a key holds the
hashes alone: a module may be moved or renamed and everything that it made is still found. tests/store/test_code_hash.py
traces runs, and fails for a module that makes an artifact and is not listed here.
"""

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

ROOMS = Path(__file__).parents[1]
# The modules that make each kind. Tracking, reports, the terminal and what people type are in none.
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


@cache
def definition(choice: type) -> str:
    """Hash the definition of a class and of what it names in its own module, so that its siblings may change."""
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
    """Take the docstrings and the imports from thaw out of a syntax tree, which has no comments."""
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
