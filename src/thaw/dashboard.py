"""What people look at once a job is done: its columns, tables and pictures in W&B, its report, its closing lines."""

import json
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from thaw import plan, report, table, titles
from thaw.files import near, phases_of
from thaw.progress import say
from thaw.sweep.jobs import pair, setting_of


def identity_of(
    settings,
    folder: Path,
    about: dict,
    sweep: str | None,
    swept: Collection[str],
    choices: dict,
    config: dict,
    key: str,
) -> dict:
    """What W&B shows of a job besides its numbers; `swept` are the keys in which the jobs of its sweep differ.

    The id of a run follows from `key`, so that a resumed attempt goes on with its W&B run; one trained anew is a run of
    its own. That of a job follows from its sweep and what it was told, so that a rung of hydra/sweeper=halving, and the
    next attempt of a job that failed before it had a key, go on with theirs.
    """
    told = [override for override in about["overrides"] if not override.startswith("stop_after=")]
    own = [override for override in told if pair(override)[0] in swept]
    single = ["single", key, str(datetime.now()) if settings.fresh else ""]
    name = titles.words(own) or titles.words(told) or "default"
    return {
        "id": plan.digest([str(folder.parent.resolve()), told] if sweep else single),
        "name": settings.name if settings.name and not sweep else name,
        "group": (settings.name or sweep) if sweep else None,
        "tags": (settings.data.kind, settings.backbone.name, "sweep" if sweep else "single", *settings.tags),
        "notes": settings.notes,
        "config": {
            "cfg": {key: value for key, value in config.items() if key != "stop_after"},
            "choice": dict(choices),  # columns choice.scheduler, ...: W&B takes a dot for a level, in panels too
            "setting": titles.words(setting_of(told)) or "default",
            **{key: getattr(settings, key) for key in ("seed", "lr_factor", "batch_size")},
            **numbered("lr", settings.lr),
            **numbered("ratios", settings.rates.ratios),
            "commit": about["commit"],
            "command": titles.command(told),
            "folder": near(folder),
        },
    }


def numbered(name: str, values) -> dict:
    """lr_0, lr_1, ... of a list: W&B filters and groups by numbers, not by lists."""
    return {f"{name}_{i}": value for i, value in enumerate(values)} if isinstance(values, (list, tuple)) else {}


def leave_report(job, result: dict, tracker) -> None:
    """The pictures and tables of a finished run, in its folder and on the dashboard."""
    settings, folder = job.settings, job.folder
    found = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("find_*.json"))}
    for name, curve in found.items():
        report.find_png(curve, folder / f"{name}.png")
    rates = {name: settings.lr_factor * curve["taken"] for name, curve in found.items()}
    report.plan_png(table.timeline(job.plan, settings, rates), folder / "plan.png")
    report.run_report(folder, job.picture)
    tracker.summary({key: value for key, value in result.items() if "/" in key or key == "bad_files"})
    show(tracker, folder, job.picture)
    tracker.finish(0)


def show(tracker, folder: Path, picture) -> None:
    """The tables and pictures of a run, for the dashboard."""
    classes, rows = report.read_predictions(folder / "valid_predictions.csv")
    truth, predicted = [row["truth"] for row in rows], [row["prediction"] for row in rows]
    counts = report.confusion(truth, predicted, classes)
    tracker.table("confusion", ["truth", *classes], [[name, *line] for name, line in zip(classes, counts, strict=True)])
    columns = ["class", "n", "precision", "recall", "f1", "most confused with"]
    tracker.table("per_class", columns, report.per_class(truth, predicted, classes))
    wrong = report.most_wrong(rows, 32)
    tracker.table(
        "most_wrong",
        ["picture", "path", "truth", "predicted", "confidence"],
        [[picture(w["path"]), w["path"], w["truth"], w["prediction"], w["confidence"]] for w in wrong],
    )
    for sheet in sorted(folder.glob("batch_*px.png")):
        tracker.picture(f"pictures/{sheet.stem}", sheet)


def summary(result: dict, folder: Path, single: bool) -> None:
    """The closing lines: what each phase bought, how good the result is, where it lies."""
    columns = {"accuracy": "{:.2%}", "loss": "{:.4f}", "lr": "{:.3g}", "epochs": "{}", "seconds": "{:.1f}"}
    phases, rows = phases_of(result), []
    for name, said in phases.items():  # a find has a rate and seconds only
        rows.append((name, *("" if said.get(c) is None else form.format(said[c]) for c, form in columns.items())))
    rest = result["cost/seconds"] - sum(said["seconds"] for said in phases.values())
    rows.append(("validation, reports, the rest", "", "", "", "", f"{max(rest, 0):.1f}"))
    say()
    for line in table.grid(("phase", *columns), rows):
        say(line)
    test = f", test {result['test/accuracy']:.2%}" if "test/accuracy" in result else ""
    took = f"trained in {result['cost/seconds']:.1f} s"
    if result["cost/seconds_paid"] < 0.95 * result["cost/seconds"]:
        took += f", of which {result['cost/seconds_paid']:.1f} s now and the rest from the store"
    where = f"({result['best/phase']}), {took}"
    of = f" of {result['n_valid']:,} pictures"
    say(f"\nbest, by validation accuracy: {result['best/accuracy']:.2%}{of}{test} {where}")
    say(f"look:  {near(folder)}/report.html")
    say(f"use:   python scripts/predict.py {near(folder)} PICTURES")
    if single and result["wandb_offline"]:
        say(f"W&B, once logged in: wandb sync {result['wandb_offline']}")
