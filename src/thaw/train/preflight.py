"""What a job can be refused for before it looks at images or loads anything heavy."""

from collections.abc import Callable
from pathlib import Path

from thaw.config.schema import Settings
from thaw.config.timm_names import LOCAL, check_backbone, has_known_weights
from thaw.config.transforms import are_shipped
from thaw.config.weights import weights_file
from thaw.data.file_state import check_there
from thaw.model.asked_device import check_asked
from thaw.plan.facts import known_facts
from thaw.plan.phases import Plan
from thaw.plan.plan import make_plan
from thaw.runtime.errors import UserError, first_line

USUAL_SIZE = 224  # pixels, where the backbone's own is not known yet


def check_ahead(settings: Settings, recall: Callable[[str], dict], here: bool = True) -> Plan:
    """Return the plan as far as it is known; refuse settings without one, and names of what is not there.

    recall: as of `known_facts`. here: the job runs on this machine, so that its device has to be there.
    Errors: exit 2; images, a device or weights that are not there, exit 3, 5 and 6.
    """
    planned = make_plan(settings, known_facts(settings, recall))
    check_asked(settings, here)
    check_network(settings)
    check_there(settings.data)
    if not are_shipped(settings.augment.transforms):
        try_transforms(settings, planned)
    return planned


def check_network(settings: Settings) -> None:
    """Errors: no such network, exit 2; no weights to start from, exit 2 or 6."""
    name = settings.backbone.name
    check_backbone(name)
    if not has_known_weights(name):  # timm, which takes seconds to load, may know more
        from thaw.model.network import check_name

        check_name(name)
    if name.startswith(LOCAL) and not (Path(name.removeprefix(LOCAL)) / "config.json").is_file():
        raise UserError(2, f"backbone={name}: no network is there (it has no config.json)")
    weights_file(settings.backbone)
    if settings.init:
        check_init(Path(settings.init).expanduser(), name)


def check_init(folder: Path, backbone: str) -> None:
    """Errors: as `init_file`; the run there is damaged or has another backbone, exit 6."""
    from safetensors import safe_open

    from thaw.model.saved import CONFIG, read_saved

    source, file = f"init={folder}", init_file(folder)
    try:
        with safe_open(file, "numpy"):  # reads no more than the header
            pass
    except Exception as error:
        raise UserError(6, f"{source}: {file.name} cannot be read ({first_line(error)})") from None
    if not (about := file.with_name(CONFIG)).exists():
        return
    there = read_saved(about.parent, source).architecture
    if ":" not in backbone and there != backbone.partition(".")[0]:
        raise UserError(6, f"{source}: its network is {there}, not {backbone}; give the backbone of that run")


def init_file(folder: Path) -> Path:
    """Return the weights that a run left in its folder. Errors: no run there, exit 6."""
    if not (file := folder / "model.safetensors").exists():
        raise UserError(6, f"init={folder}: no run is there (it has no {file.name}); give a run's folder")
    return file


def try_transforms(settings: Settings, planned: Plan) -> None:
    """Make a view at each size of the plan. Errors: as `augment.view`, exit 2."""
    from thaw.data.augment import view

    for size in sorted({epoch.size or USUAL_SIZE for phase in planned.phases for epoch in phase.epochs}):
        view(size, settings.data.crop_pct, settings.augment)
