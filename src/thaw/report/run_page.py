"""The pictures and the report of a run, all drawn from the other files in its folder."""

from pathlib import Path

from thaw.report.curves import curves_figure, curves_inches, draw_curves
from thaw.report.finder import finder_figure, finder_png
from thaw.report.mistakes import confusion_figure, draw_confusion, draw_wrong, matrix_inches
from thaw.report.page import data_uri, render
from thaw.report.run_files import LARGEST, headline, read_run, run_title
from thaw.report.style import figure, image_style, shortened, svg
from thaw.report.tables import about, as_text, class_rows, listing, made_with, pairs, phase_rows, wrong_images
from thaw.report.timeline import plan_png
from thaw.runtime.files import BAD_FILES, DISPUTED, json_text, read_json, write_atomically, write_document

TIMELINE = "timeline.json"  # what plan.png is drawn from


def write_timeline(folder: Path, timeline: list[dict]) -> None:
    """Keep what `show.plan_timeline` returns in a run's folder, for `draw_run`."""
    write_atomically(folder / TIMELINE, json_text({"phases": timeline}))


def draw_run(folder: Path, image) -> None:
    """Draw the finders' curves, plan.png, report.png and report.html of a finished run.

    `image`: returns the image of a path in valid_predictions.csv, uint8 RGB [height, width, 3], or None.
    """
    for file in folder.glob("find_*.json"):
        if curve := read_json(file):
            finder_png(curve, file.with_suffix(".png"))
    if timeline := read_json(folder / TIMELINE).get("phases"):
        plan_png(timeline, folder / "plan.png")
    write_run_report(folder, image)


def write_run_report(folder, image) -> None:
    """Write `report.png` and `report.html` into a run's folder, from the other files in it.

    `image`: returns the image of a path in valid_predictions.csv, uint8 RGB [height, width, 3], or None.
    """
    folder = Path(folder)
    run = read_run(folder)
    run["images"] = [image(row["path"]) for row in run["wrong"]]
    with image_style():
        report_sheet(run).savefig(folder / "report.png", dpi=100)
        drawn = {
            "curves": svg(curves_figure(run)) if run["metrics"] else "",
            "finds": [
                svg(finder_figure(find, 5.6)) if isinstance(find, dict) else data_uri(find) for find in run["finds"]
            ],
            "confusion": svg(confusion_figure(run)) if run["predictions"] and len(run["classes"]) <= LARGEST else "",
        }
    write_document(folder / "report.html", run_html(run, drawn))


def run_html(run: dict, drawn: dict) -> str:
    """Return report.html.

    `run`: as from `read_run`, with `images`: an array or None for each row of `wrong`. `drawn`: `curves` and
    `confusion`, each from `style.svg` or '', and `finds`, a list of svgs and data: URIs.
    """
    result = run["result"]
    return render(
        "report/templates/run.html.j2",
        title=run_title(run),
        sweep=run["sweep"],
        about=about(result),
        warnings=result.get("warnings", ()),
        headline=headline(run),
        phases=phase_rows(result),
        **drawn,
        large_matrix=matrix_inches(len(run["classes"])) > 6,
        pairs=pairs(run["confusion"], len(run["classes"])),
        predicted=bool(run["predictions"]),
        wrong=wrong_images(run["wrong"], run["images"]),
        n_classes=len(run["classes"]),
        classes=class_rows(run["per_class"]),
        timeline=data_uri(run["timeline"]),
        plan=run["plan"],
        leaks=listing(run["leaks"], "leaks.csv"),
        leaks_sheet=data_uri(run["leaks_sheet"]),
        disputed=listing(run["disputed"], DISPUTED),
        bad_files=listing(run["bad_files"], BAD_FILES),
        command=as_text(result.get("command")),
        made_with=made_with(result),
    )


def report_sheet(run: dict):
    """Draw the curves and, below them, the confusion matrix and the most confident mistakes.

    Without a mistake the matrix is a mere diagonal: it is small, at the right of the curves.
    """
    beside = bool(run["predictions"]) and not run["wrong"] and len(run["classes"]) <= LARGEST
    across = 8.6 if beside else 14
    curves = curves_inches(run, across)
    fig = figure(14, 0.7 + curves + (6.9 if run["wrong"] else 0))
    known = "   ".join(f"{what} {value}" for what, value, _ in headline(run))
    top = fig.get_figheight()
    fig.text(0.2 / 14, 1 - 0.32 / top, shortened(run_title(run), 90), fontsize=14, fontweight="bold")
    fig.text(0.2 / 14, 1 - 0.62 / top, known, fontsize=12)
    draw_curves(fig, run, 0.7, across)
    if run["wrong"]:
        draw_confusion(fig, run, 0, 0.7 + curves, 6.8)
        draw_wrong(fig, run, 7, 0.9 + curves, 6.8)
    elif beside:
        draw_confusion(fig, run, across, 0.8, 14 - across)
    return fig
