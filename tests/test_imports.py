"""Who imports whom, read from the import statements; and what a plan costs before anything heavy is loaded."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"
FILES = sorted(SRC.rglob("*.py"))


def name_of(file: Path) -> str:
    """thaw.data.scan of src/thaw/data/scan.py."""
    return ".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(file): file for file in FILES}


class Import(NamedTuple):
    module: str  # as far as it is a module
    top: bool  # at module level


def found_in(node: ast.AST, top: bool = True):
    """The imports below a node; those in functions are not at module level."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports are not followed here"
            inner = [f"{child.module}.{alias.name}" for alias in child.names]
            modules = [name for name in inner if name in NAMES]
            yield from (Import(name, top) for name in modules)
            if len(modules) < len(inner):
                yield Import(child.module, top)
        else:
            yield from found_in(child, top and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))


@cache
def imports(name: str) -> tuple[Import, ...]:
    return tuple(found_in(ast.parse(NAMES[name].read_text())))


def importers(package: str) -> dict[str, set[bool]]:
    """Our modules that import a package, and whether at module level."""
    out: dict[str, set[bool]] = {}
    for name in NAMES:
        for module, top in imports(name):
            if module.partition(".")[0] == package:
                out.setdefault(name, set()).add(top)
    return out


def own(name: str) -> set[str]:
    """Our modules that a module imports, anywhere in it."""
    return {module for module, _ in imports(name) if module in NAMES}


PURE = [
    "errors",
    "online",
    "names",
    "schedules",
    "resize",
    "plan",
    "table",
    "settings",
    "checks",
    "facts",
    "lengths",
    "disk",
    "lock",
    "store",
    "tend",
    "again",
    "forecast",
    "endings",
    "isolate",
    "machine",
    "signals",
    "keys",
    "stop",
    "suggest",
    "shell",
    "titles",
    "unread",
    "help",
    "explain",
    "files",
    "fonts",
]
PURE = [f"thaw.{name}" for name in PURE if f"thaw.{name}" in NAMES]


def test_the_modules_are_found():
    assert {"train", "thaw.run", "thaw.data.scan", "thaw.model"} <= NAMES.keys()
    assert len(PURE) >= 8
    assert own("thaw.plan") == {
        f"thaw.{name}" for name in ("checks", "errors", "facts", "lengths", "resize", "schedules", "settings")
    }
    assert Import("torch", True) in imports("thaw.loop")


@pytest.mark.parametrize("name", PURE)
def test_standard_library_only(name):
    outer = {module for module, top in imports(name) if top}
    assert {m for m in outer if m.partition(".")[0] not in sys.stdlib_module_names and m not in PURE} == set()


def test_hydra_stops_at_the_door():
    for package in ("hydra", "omegaconf"):
        found = importers(package)
        plugin = {name for name in NAMES if name.startswith("hydra_plugins.")}  # which are part of it
        assert found.keys() <= {"train", "thaw.composed", "thaw.explain", "thaw.help"} | plugin
        assert all(found[name] == {False} for name in found.keys() - plugin), "inside functions only"


def test_wandb_is_imported_by_track_only_and_late():
    assert importers("wandb") == {"thaw.track": {False}}


def test_matplotlib_is_imported_for_pictures_only():
    found = importers("matplotlib")
    assert "thaw.report.style" in found
    assert all(name.startswith("thaw.report.") for name in found.keys() - {"thaw.fonts"})
    assert all(tops == {False} for tops in found.values()), "inside functions"


def test_models_are_made_by_model_only():
    makers = {name for name, file in NAMES.items() if re.search(r"\bcreate_model\b", file.read_text())}
    assert makers == {"thaw.model"}
    assert importers("timm").keys() <= {
        "thaw.model",
        "thaw.groups",
        "thaw.features",
        "thaw.run",
    }  # for a version and save_for_hf


# train -> attempt -> run -> {features, find, ...} -> {schedules, plan, ...}; what the first two hand around is beside.
LAYERS = [
    {
        "errors",
        "schedules",
        "resize",
        "settings",
        "checks",
        "facts",
        "lengths",
        "suggest",
        "plan",
        "table",
        "device",
        "online",
        "names",
        "signals",
        "keys",
        "heads",
        "machine",
    }
    | {"progress", "files", "fonts"},
    {"lock", "disk"},
    {"groups", "features", "find", "loop", "stop", "model", "packaged", "data", "store"},
    {"job", "snapshot", "tend", "again", "forecast", "endings", "isolate"},
    {"tta", "twins"},
    {"cycles", "setup"},
    {"fit", "search", "ensemble"},
    {"run"},
    {"attempt"},
    {"train"},
]
BESIDE = {"track", "report", "shell", "titles", "unread", "help", "explain", "sweep", "dashboard", "hydra_plugins"}
BESIDE |= {"composed", "preview"}


def part_of(name: str) -> str:
    """data of thaw.data.scan."""
    parts = name.split(".")
    return parts[1] if parts[0] == "thaw" and len(parts) > 1 else parts[0]


def layer(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if part_of(name) in layer)


INNER = [name for name in NAMES if name != "thaw" and part_of(name) not in BESIDE]


@pytest.mark.parametrize("name", INNER)
def test_arrows_go_one_way(name):
    if name in ("thaw.attempt", "train"):  # which hand around what stands beside
        return
    assert [module for module in own(name) - {"thaw"} if part_of(module) in BESIDE] == []
    assert [module for module in own(name) - {"thaw"} if layer(module) > layer(name)] == []


@pytest.mark.parametrize("name", [name for name in NAMES if part_of(name) in BESIDE])
def test_what_stands_beside_leans_on_the_lowest_layer_only(name):
    allowed = LAYERS[0] | BESIDE
    if name.endswith("_launcher"):  # which start what train does
        allowed = allowed | {"endings", "isolate", "run"}
    if name.endswith("preview"):  # which looks into the store, and at the user's pictures
        allowed = allowed | {"again", "forecast", "store", "tend", "endings", "data"}
    assert [module for module in own(name) - {"thaw"} if part_of(module) not in allowed] == []


def test_every_module_has_its_place():
    assert {part_of(name) for name in NAMES if name != "thaw"} <= set().union(*LAYERS, BESIDE)


def test_no_cycles():
    order = list(TopologicalSorter({name: own(name) - {name} for name in NAMES}).static_order())
    assert order.index("thaw.errors") < order.index("thaw.plan") < order.index("thaw.run") < order.index("train")


# The one pickle that is ever opened: ImageNet's weights of backbone=lite0, by name, SHA-256 and weights_only.
OPENED = {"thaw.packaged": ["torch.load"]}


def test_the_one_pickle_is_opened_with_weights_only_and_checked_before():
    text = NAMES["thaw.packaged"].read_text()
    assert re.findall(r"torch\.load\(.*", text) == [
        'torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)'
    ]
    assert 0 < text.index("sha256(data)") < text.index("raise UserError(6") < text.index("torch.load(")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_unpickled(name):
    text = NAMES[name].read_text()
    assert re.findall(r"\btorch\.load\b|\ballow_pickle\b|\byaml\.(?:unsafe_)?load\(|\bpickle\.\w+", text) == OPENED.get(
        name, []
    )
    imported = {module.partition(".")[0] for module, _ in imports(name)}
    assert not imported & {"pickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}


# what a plan costs ----------------------------------------------------------------------------------------------------


def loaded_by(*args: str) -> tuple[str, set[str]]:
    """What train.py prints, and the packages it imports while it runs."""
    command = [sys.executable, "-X", "importtime", SRC / "train.py", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    modules = re.findall(r"^import time:\s*\d+ \|\s*\d+ \|\s*(\S+)$", done.stderr, re.M)
    assert len(modules) > 50
    return done.stdout, {module.partition(".")[0] for module in modules}


def test_a_plan_loads_nothing_heavy(tmp_path):
    printed, loaded = loaded_by("plan_only=true", f"hydra.run.dir={tmp_path}/run", f"store.dir={tmp_path}/store")
    assert "5 full" in printed
    assert "5 full" in (tmp_path / "run" / "plan.txt").read_text()
    assert {"hydra", "thaw"} <= loaded
    assert not loaded & {"torch", "torchvision", "timm", "wandb", "albumentations", "sklearn", "cv2"}


def test_the_preview_of_a_sweep_loads_nothing_heavy_and_is_one_table(tmp_path):
    places = (f"hydra.sweep.dir={tmp_path}/sweep", f"store.dir={tmp_path}/store")
    printed, loaded = loaded_by("-m", "plan_only=true", "rates=uniform,thirds", "seed=0,1", *places)
    assert "4 jobs, 2 settings × 2 seeds" in printed and printed.count("phases  shared") == 1
    assert (tmp_path / "sweep" / "plan.txt").read_text() in printed
    assert not [path for path in (tmp_path / "sweep").iterdir() if path.is_dir()], "no job has a folder yet"
    assert not loaded & {"torch", "torchvision", "timm", "wandb", "albumentations", "sklearn", "cv2", "matplotlib"}


def test_tab_completion_loads_nothing_heavy(monkeypatch):
    monkeypatch.setenv("COMP_LINE", "python src/train.py scheduler=")
    monkeypatch.setenv("COMP_POINT", "31")
    printed, loaded = loaded_by("-sc", "query=bash")
    assert {"scheduler=sgdr", "scheduler=one_cycle"} <= set(printed.split())
    assert not loaded & {"torch", "torchvision", "timm", "wandb", "albumentations", "sklearn", "cv2", "numpy", "optuna"}


def test_help_loads_next_to_nothing():
    printed, loaded = loaded_by("--help")
    assert "usage" in printed
    assert "thaw" in loaded
    assert not loaded & {"hydra", "omegaconf", "torch", "timm", "wandb", "matplotlib", "numpy"}
