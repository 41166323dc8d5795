"""The imports of src/, read from the import statements; the limits of files; what a plan loads."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from hydra_plugins.local_launcher import EVERY_JOBS

REPOSITORY = Path(__file__).resolve().parents[1]
SRC = REPOSITORY / "src"
FILES = sorted(SRC.rglob("*.py"))


def name_of(file: Path) -> str:
    """Return the module name of a file, e.g. thaw.data.scan of src/thaw/data/scan.py."""
    return ".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(file): file for file in FILES}


class Import(NamedTuple):
    module: str  # the imported module, or the module of an imported name
    top: bool  # at module level


def found_in(node: ast.AST, top: bool = True):
    """Yield the imports below a node; those inside functions are not at module level."""
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
    """Return our modules that import a package, each with whether it does at module level."""
    out: dict[str, set[bool]] = {}
    for name in NAMES:
        for module, top in imports(name):
            if module.partition(".")[0] == package:
                out.setdefault(name, set()).add(top)
    return out


def own(name: str) -> set[str]:
    """Return our modules that a module imports at any level."""
    return {module for module, _ in imports(name) if module in NAMES}


# Packages by layer, lowest first. Packages of one layer do not import each other.
LAYERS = [
    {"runtime"},
    {"config"},
    {"plan", "model"},
    {"report", "store"},
    {"data"},
    {"sweep"},
    {"train"},
    {"hydra_plugins", "train.py"},
]


def package_of(name: str) -> str:
    """Return the package of a module: data for thaw.data.scan; train.py for train."""
    parts = name.split(".")
    if parts[0] == "thaw":
        return parts[1] if len(parts) > 1 else ""
    return "train.py" if name == "train" else parts[0]


def layer_of(name: str) -> int:
    return next(i for i, packages in enumerate(LAYERS) if package_of(name) in packages)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "thaw"])
def test_a_package_imports_only_from_lower_layers(name):
    others = [module for module in own(name) - {"thaw"} if package_of(module) != package_of(name)]
    assert [module for module in others if layer_of(module) >= layer_of(name)] == []


def test_every_module_is_in_a_known_package_and_every_package_has_a_docstring():
    assert {package_of(name) for name in NAMES if name != "thaw"} == set().union(*LAYERS)
    for package in set().union(*LAYERS) - {"hydra_plugins", "train.py"}:
        body = ast.parse(NAMES[f"thaw.{package}"].read_text()).body
        assert len(body) == 1 and re.fullmatch(r"[A-Z][^\n]*\.", body[0].value.value), package


def test_modules_do_not_import_each_other_in_cycles():
    order = list(TopologicalSorter({name: own(name) - {name} for name in NAMES}).static_order())
    assert order.index("thaw.runtime.errors") < order.index("thaw.plan.plan") < order.index("thaw.train.run")


def test_the_modules_are_found():
    assert {"train", "thaw.train.run", "thaw.data.scan", "thaw.model.network"} <= NAMES.keys()
    assert Import("torch", True) in imports("thaw.train.loop")
    assert own("thaw.plan.schedules") == {"thaw.config.schedule"} and "thaw.plan.schedules" in own("thaw.plan.phases")


# Modules used before torch is loaded, or without it: standard library and yaml only, so that they load fast.
PURE = [name for name in NAMES if package_of(name) in ("runtime", "config", "plan", "store")]
PURE = [name for name in PURE if name not in ("thaw.runtime.console", "thaw.store.snapshot")]
PURE += [f"thaw.train.{name}" for name in ("early_stopping", "lr_suggest")]


@pytest.mark.parametrize("name", PURE)
def test_standard_library_and_yaml_only(name):
    outer = {module for module, top in imports(name) if top}
    outer -= {"thaw.runtime.console", "yaml"}  # console loads tqdm, which is light too
    assert {m for m in outer if m.partition(".")[0] not in sys.stdlib_module_names and m not in PURE} == set()


def test_yaml_is_read_in_one_module_as_text():
    assert importers("yaml") == {"thaw.config.conf_files": {True}}
    assert re.findall(r"yaml\.load\(.*", NAMES["thaw.config.conf_files"].read_text()) == [
        "yaml.load(read(file), BaseLoader)"
    ]


def test_file_locks_use_filelock_imported_inside_functions():
    assert importers("filelock") == {"thaw.store.lock": {False}} and importers("fcntl") == {}


def test_hydra_is_imported_by_train_compose_and_the_plugins_only():
    for package in ("hydra", "omegaconf"):
        found = importers(package)
        plugin = {name for name in NAMES if name.startswith("hydra_plugins.")}  # loaded by Hydra itself
        assert found.keys() <= {"train", "thaw.config.compose"} | plugin
        assert all(found[name] == {False} for name in found.keys() - plugin), "inside functions only"


def test_wandb_is_imported_by_the_tracker_only_and_inside_functions():
    names = ("tracker", "wandb_mode", "wandb_run", "wandb_service")
    assert importers("wandb") == {f"thaw.report.{name}": {False} for name in names}


def test_matplotlib_is_imported_by_report_and_sweep_only_and_inside_functions():
    found = importers("matplotlib")
    assert "thaw.report.style" in found
    assert found.keys() <= {name for name in NAMES if package_of(name) in ("report", "sweep")} | {"thaw.runtime.fonts"}
    assert all(tops == {False} for tops in found.values()), "inside functions"


def test_templates_escape_everything_but_our_svg():
    assert importers("jinja2") == {"thaw.report.page": {True}}
    assert importers("markupsafe") == {"thaw.report.style": {True}}
    templates = sorted(SRC.rglob("*.j2"))
    assert len(templates) > 3
    assert [file.name for file in templates if re.search(r"\bsafe\b|\bautoescape\b", file.read_text())] == []


def test_models_are_created_by_network_only():
    makers = {name for name, file in NAMES.items() if re.search(r"\bcreate_model\b", file.read_text())}
    assert makers == {"thaw.model.network"}
    # layer_groups needs the order of a model's layers, run needs save_for_hf
    assert importers("timm").keys() <= {"thaw.model.network", "thaw.model.layer_groups", "thaw.train.run"}


def test_modules_that_a_launcher_loads_before_forking_exist():
    assert [module for module in EVERY_JOBS if find_spec(module) is None] == []


# The only pickle of a file ever opened is ImageNet's weights of backbone=lite0, checked by name and SHA-256, with
# weights_only. A launcher pickles configurations in its own memory.
# yaml is read by a loader that creates only strings, lists and dictionaries.
OPENED = {
    "thaw.model.packaged": ["torch.load"],
    "thaw.config.conf_files": ["yaml.load("],
    "hydra_plugins.job_checks": ["pickle.dumps", "pickle.loads"],
}


def test_the_only_pickle_is_checked_and_opened_with_weights_only():
    text = NAMES["thaw.model.packaged"].read_text()
    assert re.findall(r"torch\.load\(.*", text) == [
        'torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)'
    ]
    assert 0 < text.index("sha256(data)") < text.index("raise UserError(6") < text.index("torch.load(")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_is_unpickled(name):
    text = NAMES[name].read_text()
    assert re.findall(r"\btorch\.load\b|\ballow_pickle\b|\byaml\.(?:unsafe_)?load\(|\bpickle\.\w+", text) == OPENED.get(
        name, []
    )
    imported = {module.partition(".")[0] for module, _ in imports(name)}
    allowed = {"pickle"} if "pickle.loads" in OPENED.get(name, []) else set()
    assert not imported & {"pickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"} - allowed


# files and scripts ----------------------------------------------------------------------------------------------------

SOURCES = [*FILES, *sorted((REPOSITORY / "scripts").rglob("*.py"))]
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 250, 50, 7


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_a_file_and_its_functions_are_short(file):
    text = file.read_text()
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert len(text.splitlines()) <= MAX_FILE_LINES
    assert {one.name for one in functions if one.end_lineno - one.lineno + 1 > MAX_FUNCTION_LINES} == set()
    assert {one.name for one in functions if len(parameters(one)) > MAX_PARAMETERS} == set()


def parameters(function: ast.FunctionDef) -> list[str]:
    """Return the names of a function's parameters."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_only_the_console_prints(file):
    names = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)]
    prints = [node.lineno for node in names if node.id == "print"]
    assert prints == [] or file.name == "console.py"


SCRIPTS = sorted((REPOSITORY / "scripts").rglob("*.py"))


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_a_script_requires_the_thaw_of_its_own_checkout(file):
    text = file.read_text()
    assert "sys.path" not in text
    if re.search(r"^ *(from|import) thaw\b", text, re.M):
        assert re.search(r"^require_checkout\(__file__\)$", text, re.M)


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_every_script_starts_and_refuses_alike(file):
    text = file.read_text()
    assert "argparse" not in text
    start = r'^if __name__ == "__main__":\n    sys\.exit\((entry\.)?run\(main\)\)$'
    assert "__main__" not in text or re.search(start, text, re.M)


def test_a_script_of_another_checkout_is_refused(tmp_path):
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts/compare.py"
    script.write_text((REPOSITORY / "scripts/compare.py").read_text())
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert done.returncode == 5 and done.stdout == ""
    assert done.stderr.startswith(f"error: {script}: the installed thaw belongs to {REPOSITORY}")
    assert done.stderr.count("\n") == 1


# what a plan loads ----------------------------------------------------------------------------------------------------

HEAVY = {"torch", "torchvision", "timm", "wandb", "albumentations", "sklearn", "cv2", "jinja2"}


def loaded_by(*args: str) -> tuple[str, set[str]]:
    """Run train.py; return what it prints and the packages it imports."""
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
    assert not loaded & HEAVY


def test_the_plan_of_a_sweep_loads_nothing_heavy_and_is_one_table(tmp_path):
    places = (f"hydra.sweep.dir={tmp_path}/sweep", f"store.dir={tmp_path}/store")
    printed, loaded = loaded_by("-m", "plan_only=true", "rates=uniform,thirds", "seed=0,1", *places)
    assert "4 jobs, 2 settings × 2 seeds" in printed and printed.count("phases  shared") == 1
    assert (tmp_path / "sweep" / "plan.txt").read_text() in printed
    assert not [path for path in (tmp_path / "sweep").iterdir() if path.is_dir()], "no job has a folder yet"
    assert not loaded & (HEAVY | {"matplotlib"})


def test_tab_completion_loads_nothing_heavy(monkeypatch):
    monkeypatch.setenv("COMP_LINE", "python src/train.py scheduler=")
    monkeypatch.setenv("COMP_POINT", "31")
    printed, loaded = loaded_by("-sc", "query=bash")
    assert {"scheduler=sgdr", "scheduler=one_cycle"} <= set(printed.split())
    assert not loaded & (HEAVY | {"numpy", "optuna"})


def test_help_loads_next_to_nothing():
    printed, loaded = loaded_by("--help")
    assert "usage" in printed
    assert "thaw" in loaded
    assert not loaded & (HEAVY | {"hydra", "omegaconf", "matplotlib", "numpy"})
