"""Build the saved view of a W&B project, or print its outline if you are not logged in.

python scripts/wandb_view.py                                  build the view of the project thaw
python scripts/wandb_view.py --project NAME --entity TEAM     build it in another project
python scripts/wandb_view.py --dry-run                        print its outline only
"""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import NamedTuple

from thaw.config.job_request import GROUPS
from thaw.config.paths import require_checkout
from thaw.runtime.console import say, say_text
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import UserError

require_checkout(__file__)

NAME = "thaw"
GROUP = "setting"  # groups runs by all choices but seed and fold
TABLE = ("best/accuracy", "best/loss", "test/accuracy", "cost/seconds", "cost/seconds_paid")  # columns of the run table


class Panel(NamedTuple):
    """A panel: its kind (bar, scatter, parallel, importance, line, table, images), keys and x axis."""

    kind: str
    y: tuple[str, ...]
    x: str = ""
    log: tuple[str, ...] = ()  # keys with a logarithmic axis


def lines(x: str, *keys: str, log: tuple[str, ...] = ()) -> tuple[Panel, ...]:
    """Return one line panel per key."""
    return tuple(Panel("line", (key,), x, tuple(one for one in log if one in (key, x))) for key in keys)


SECTIONS = {
    "Result": (
        Panel("bar", ("best/accuracy",)),
        Panel("scatter", ("best/accuracy",), "cost/seconds", ("cost/seconds",)),
        Panel("parallel", (*(f"choice.{choice}" for choice in GROUPS), "lr_factor", "best/accuracy")),
        Panel("importance", ("best/accuracy",)),
    ),
    "Learning": lines("epoch", "valid/accuracy", "valid/loss", "train/loss", "valid/f1_macro"),
    "Schedule": (
        *lines("step", "lr/head", "lr/first", log=("lr/head", "lr/first")),
        *lines("step", "image_size", "batch_size", "trainable_fraction", "phase_index"),
    ),
    "Finder": tuple(Panel("line", (f"{f}/loss",), f"{f}/rate", (f"{f}/rate",)) for f in ("find_head", "find_full")),
    "Speed": lines("step", "speed/images_per_second", "speed/data_wait", "speed/gpu_gb"),
    "Errors": (
        *(Panel("table", (name,)) for name in ("confusion", "most_wrong", "per_class")),
        Panel("images", ("images/*",)),
    ),
}


def outline() -> Iterator[str]:
    """Yield the view as indented lines."""
    yield f"{NAME}: runs grouped by {GROUP}"
    yield f"  table of runs, best first: {', '.join(TABLE)}"
    for section, panels in SECTIONS.items():
        yield f"  {section}"
        for panel in panels:
            mark = {key: f"{key} (log)" for key in panel.log}
            over = f" over {mark.get(panel.x, panel.x)}" if panel.x else ""
            yield f"    {panel.kind}: {', '.join(mark.get(key, key) for key in panel.y)}{over}"


def workspace(entity: str, project: str):
    """Return the view as a workspace of wandb-workspaces."""
    import wandb_workspaces.workspaces as ws

    sections = [
        ws.Section(name=name, panels=[to_wandb(panel) for panel in panels], is_open=True)
        for name, panels in SECTIONS.items()
    ]
    runs = ws.RunsetSettings(
        groupby=[ws.Config(GROUP)],
        order=[ws.Ordering(ws.Summary(TABLE[0]), ascending=False)],
        pinned_columns=[f"summary:{key}" for key in TABLE],
    )
    return ws.Workspace(entity=entity, project=project, name=NAME, sections=sections, runset_settings=runs)


def to_wandb(panel: Panel):
    """Return a panel as an object of wandb-workspaces."""
    import wandb_workspaces.reports.v2 as wr

    y, log = panel.y[0], {"log_x": panel.x in panel.log, "log_y": panel.y[0] in panel.log}
    match panel.kind:
        case "line":
            return wr.LinePlot(title=y, x=panel.x, y=list(panel.y), **log)
        case "bar":
            return wr.BarPlot(title=y, metrics=[wr.SummaryMetric(y)])
        case "scatter":
            return wr.ScatterPlot(
                title=f"{y} over {panel.x}", x=wr.SummaryMetric(panel.x), y=wr.SummaryMetric(y), **log
            )
        case "parallel":
            *choices, last = panel.y
            axes = [*(wr.Config(key) for key in choices), wr.SummaryMetric(last)]
            return wr.ParallelCoordinatesPlot(columns=[wr.ParallelCoordinatesPlotColumn(axis) for axis in axes])
        case "importance":
            return wr.ParameterImportancePlot(with_respect_to=y)
        case "table":
            return wr.WeavePanelSummaryTable(table_name=y)
        case "images":
            return wr.MediaBrowser(title="augmented", media_keys=list(panel.y))


def main(argv: list[str] | None = None) -> None:
    from thaw.report import wandb_mode, wandb_run

    parser = Parser(__doc__)
    parser.add_argument("--project", default="thaw", help="W&B project, as in wandb.project (default: %(default)s)")
    parser.add_argument("--entity", help="W&B user or team (default: that of the login)")
    parser.add_argument("--dry-run", action="store_true", help="print the outline and build nothing")
    args = parser.parse_args(argv)
    if args.dry_run:
        why = "dry run"
    elif find_spec("wandb_workspaces") is None:
        why = "wandb-workspaces is missing: pip install -e '.[wandb]'"
    else:
        try:
            mode, why = wandb_mode.choose_mode("auto")
        except ValueError as error:  # an invalid WANDB_* variable
            mode, why = "", wandb_run.brief_error(error)
        if mode == "online":
            save(args.entity, args.project)
            return
    say_text("\n".join(outline()))
    say(f"view not built: {why}")


def save(entity: str | None, project: str) -> None:
    """Build the view and print its address. Raise UserError (exit 5) if W&B or its library fails."""
    import wandb

    try:
        view = workspace(entity or wandb.Api(timeout=10).default_entity, project).save()
    except Exception as error:  # a library that talks to a server can raise anything
        raise UserError(5, f"view not built: {type(error).__name__}: {str(error)[:120]}") from error
    say(view.url)


if __name__ == "__main__":
    sys.exit(run(main))
