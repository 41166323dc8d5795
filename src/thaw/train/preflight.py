"""Checks of a job that need no images and no heavy imports."""

from collections.abc import Callable
from pathlib import Path

from thaw.config.schema import Settings
from thaw.config.timm_names import LOCAL, check_backbone, has_known_weights
from thaw.config.transforms import are_shipped
from thaw.config.weights import weights_file
from thaw.data.file_state import check_paths_exist
from thaw.model.device_checks import check_asked
from thaw.plan.facts import known_facts
from thaw.plan.phases import Plan
from thaw.plan.plan import make_plan
from thaw.runtime.errors import UserError, first_line

USUAL_SIZE = 224  # pixels, used while the backbone's native size is unknown


def check_ahead(settings: Settings, recall: Callable[[str], dict], here: bool = True) -> Plan:
    """Return the plan as far as it is known, after checking the settings and that everything they name exists.

    `recall` is that of `known_facts`. `here`: the job runs on this machine, so its device must exist. Raise UserError:
    exit 2 for settings without a plan; 3, 5 and 6 if images, device or weights do not exist.
    """
    planned = make_plan(settings, known_facts(settings, recall))
    check_asked(settings, here)
    check_network(settings)
    check_paths_exist(settings.data)
    if not are_shipped(settings.augment.transforms):
        try_transforms(settings, planned)
    return planned


def check_network(settings: Settings) -> None:
    """Raise UserError if the network does not exist (exit 2) or has no weights to start from (exit 2 or 6)."""
    name = settings.backbone.name
    check_backbone(name)
    if not has_known_weights(name):  # timm, which takes seconds to load, knows more
        from thaw.model.network import check_name

        check_name(name)
    if name.startswith(LOCAL) and not (Path(name.removeprefix(LOCAL)) / "config.json").is_file():
        raise UserError(2, f"backbone={name}: this folder contains no network (no config.json)")
    weights_file(settings.backbone)
    if settings.init:
        check_init(Path(settings.init).expanduser(), name)


def check_init(folder: Path, backbone: str) -> None:
    """Raise UserError (exit 6) if the run named by init does not exist, is damaged or has another backbone."""
    from safetensors import safe_open

    from thaw.model.saved import CONFIG, read_saved

    source, file = f"init={folder}", init_file(folder)
    try:
        with safe_open(file, "numpy"):  # reads only the header
            pass
    except Exception as error:
        raise UserError(6, f"{source}: {file.name} cannot be read ({first_line(error)})") from None
    if not (about := file.with_name(CONFIG)).exists():
        return
    there = read_saved(about.parent, source).architecture
    if ":" not in backbone and there != backbone.partition(".")[0]:
        raise UserError(6, f"{source}: the backbone of that run is {there}, not {backbone}; use the same backbone")


def init_file(folder: Path) -> Path:
    """Return the weights file in the folder of a run. Raise UserError (exit 6) if it does not exist."""
    if not (file := folder / "model.safetensors").exists():
        raise UserError(6, f"init={folder}: this folder contains no finished run (no {file.name}); give a run's folder")
    return file


def try_transforms(settings: Settings, planned: Plan) -> None:
    """Make a view at each image size of the plan. Raise UserError (exit 2) as `augment.view` does."""
    from thaw.data.augment import view

    for size in sorted({epoch.size or USUAL_SIZE for phase in planned.phases for epoch in phase.epochs}):
        view(size, settings.data.crop_pct, settings.augment)
