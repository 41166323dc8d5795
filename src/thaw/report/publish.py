"""The output of a finished job: its W&B columns, tables and images, its report, its closing lines."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path

from thaw.config import run_names
from thaw.config.job_request import JobRequest
from thaw.config.paths import ROOT
from thaw.config.run_names import key_and_value, setting_of
from thaw.config.schema import Settings
from thaw.plan.phases import Plan
from thaw.plan.show import plan_timeline
from thaw.report import run_files, run_page
from thaw.report.tracker import RunIdentity, Tracker
from thaw.runtime import console
from thaw.runtime.console import say, say_text
from thaw.runtime.files import format_loss, phase_results, read_json, short_path

ReadImage = Callable[[str], object]


def run_identity(request: JobRequest, swept: Collection[str], key: str, columns: Mapping | None = None) -> RunIdentity:
    """Return the W&B name, tags and configuration of a job; `columns` are added to the configuration.

    `swept`: the keys in which the jobs of the sweep differ. The W&B id of a single run derives from `key`, so a resumed
    run continues its W&B run, and fresh=true starts a new one. The id of a job derives from its sweep and overrides, so
    the rungs of hydra/sweeper=halving share one W&B run, and so does a retry of a job that failed before it had a key.
    """
    config, sweep = request.config, request.sweep
    told = [override for override in request.overrides if not override.startswith("stop_after=")]
    own = [override for override in told if key_and_value(override)[0] in swept]
    single = ["single", key, str(datetime.now()) if config["fresh"] else ""]
    name = run_names.short_name(own) or run_names.short_name(told) or "default"
    kinds = (config["data"]["kind"], config["backbone"]["name"], "sweep" if sweep else "single")
    return RunIdentity(
        id=run_names.short_hash([str(request.folder.parent.resolve()), told] if sweep else single),
        name=config["name"] if config["name"] and not sweep else name,
        group=(config["name"] or sweep) if sweep else None,
        tags=(*kinds, *config["tags"]),
        notes=config["notes"],
        config={
            "cfg": {key: value for key, value in request.composed.items() if key != "stop_after"},
            "choice": request.choices,  # columns choice.scheduler, ...: W&B reads a dot as nesting, in panels too
            "setting": run_names.short_name(setting_of(told)) or "default",
            **{key: config[key] for key in ("seed", "lr_factor", "batch_size")},
            **numbered_columns("lr", config["lr"]),
            **numbered_columns("ratios", config["rates"]["ratios"]),
            "commit": request.about["commit"],
            "command": request.command_of(told),
            "folder": short_path(request.folder),
            **(columns or {}),
        },
    )


def numbered_columns(name: str, values) -> dict:
    """Return a list as columns name_0, name_1, ...: W&B filters and groups by numbers, not by lists."""
    return {f"{name}_{i}": value for i, value in enumerate(values)} if isinstance(values, (list, tuple)) else {}


def publish_report(
    settings: Settings, plan: Plan, folder: Path, result: dict, tracker: Tracker, image: ReadImage, draw: bool
) -> None:
    """Write what the report of a finished run is drawn from, and send its figures and tables to W&B.

    `image`: returns the image of a path, uint8 [h, w, 3], or None if it cannot be read. `draw`: draw the report now;
    else scripts/report.py can.
    """
    names = [phase.name for phase in plan.phases if phase.do == "find"]
    curves = {name: read_json(folder / f"find_{name.removeprefix('find_')}.json") for name in names}
    rates = {name: curve["taken"] for name, curve in curves.items() if curve}
    run_page.write_timeline(folder, plan_timeline(plan, settings, rates))
    if draw:
        run_page.draw_run(folder, image)
    tracker.summary({key: value for key, value in result.items() if "/" in key or key == "bad_files"})
    publish_tables(tracker, folder, image)


def publish_tables(tracker: Tracker, folder: Path, image: ReadImage) -> None:
    """Send the tables and images of a run to W&B."""
    classes, rows = run_files.read_predictions(folder / "valid_predictions.csv")
    counts = Counter((row["truth"], row["prediction"]) for row in rows)
    if matrix := run_files.confusion_matrix(counts, classes):
        head, body = ["truth", *classes], [[name, *line] for name, line in zip(classes, matrix, strict=True)]
    else:
        head, body = ["truth", "prediction", "images"], run_files.most_confused(counts, 1000)
    tracker.table("confusion", head, body)
    columns = ["class", "n", "precision", "recall", "f1", "most confused with"]
    tracker.table("per_class", columns, run_files.per_class(counts, classes))
    wrong = run_files.most_wrong(rows, 32)
    tracker.table(
        "most_wrong",
        ["image", "path", "truth", "predicted", "confidence"],
        [[image(w["path"]), w["path"], w["truth"], w["prediction"], w["confidence"]] for w in wrong],
    )
    for sheet in sorted(folder.glob("batch_*px.png")):
        tracker.image(f"images/{sheet.stem}", sheet)


def say_summary(result: dict, folder: Path, single: bool) -> None:
    """Print the closing lines: the gain of each phase, the best accuracy, and where the results are."""
    columns = {
        "accuracy": "{:.2%}".format,
        "loss": format_loss,
        "lr": "{:.3g}".format,
        "epochs": str,
        "seconds": "{:.1f}".format,
    }
    phases, rows = phase_results(result), []
    for name, fields in phases.items():  # a find phase has only a rate and seconds
        rows.append((name, *("" if fields.get(c) is None else form(fields[c]) for c, form in columns.items())))
    rest = result["cost/seconds"] - sum(fields["seconds"] for fields in phases.values())
    rows.append(("validation, reports, the rest", "", "", "", "", f"{max(rest, 0):.1f}"))
    say()
    for line in console.grid(("phase", *columns), rows):
        say(line)
    test = f", test {result['test/accuracy']:.2%}" if "test/accuracy" in result else ""
    took = f"trained in {result['cost/seconds']:.1f} s"
    if result["cost/seconds_paid"] < 0.95 * result["cost/seconds"]:
        took += f", of which {result['cost/seconds_paid']:.1f} s now and the rest from the store"
    where = f"({result['best/phase']}), {took}"
    of = f" of {result['n_valid']:,} images"
    say_text(f"\nbest, by validation accuracy: {result['best/accuracy']:.2%}{of}{test} {where}")
    if (folder / "report.html").exists():
        say(f"look:  {short_path(folder)}/report.html")
    else:
        say(f"look:  python {short_path(ROOT / 'scripts/report.py')} {short_path(folder)} draws its report")
    say(f"use:   python {short_path(ROOT / 'scripts/predict.py')} {short_path(folder)} IMAGES")
    if single and result["wandb_offline"]:
        say(f"W&B, after `wandb login`: wandb sync {result['wandb_offline']}")
