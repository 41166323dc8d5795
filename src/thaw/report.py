"""Pictures and tables of a run: the plan's timeline, the finder's curve, report.png and report.html.

The only importer of matplotlib, and that lazily, always as a `Figure` object of its own: there is no global list of
figures that the jobs of a sweep could fill up. A run is reported from the files of its folder alone.
"""

import csv
import json
import math
import re
import textwrap
import warnings
from contextlib import contextmanager
from io import StringIO
from itertools import groupby, pairwise
from pathlib import Path

from thaw import report_html
from thaw.report_html import number

INK, PAPER = "#1b1f24", "#ffffff"  # in report.html replaced by the page's own colours, so that dark pages work
TRAIN, VALID, BEST, ERROR = "#4f8fd0", "#e4572e", "#2a9d5c", "#e4572e"
GROUPS = ("#4468b0", "#8b5fbf", "#e4572e", "#ffb02e")  # body to head, each legible on white and on near-black
STATES = {"stored activations": "#c9d3df", "frozen": "#a9daf0", "training": "#f6ad6b"}
READABLE = 20  # classes up to which a confusion matrix has its counts written in


# ----------------------------------------------------------------------------------------------------------------------
# rows: what the report and the tracker's tables have in common


def confusion(truth: list[str], predicted: list[str], classes: list[str]) -> list[list[int]]:
    """Counts of pictures, a row for each true class and a column for each predicted one."""
    if not set(truth) & set(classes):
        return [[0] * len(classes) for _ in classes]
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(truth, predicted, labels=list(classes)).tolist()


def per_class(truth: list[str], predicted: list[str], classes: list[str]) -> list[tuple]:
    """(class, n, precision, recall, f1, most confused with) of every class; the last is '' where nothing was confused.

    A ratio without a denominator (no picture of the class, or none predicted as it) is 0.
    """
    if not set(truth) & set(classes):
        return [(name, 0, 0.0, 0.0, 0.0, "") for name in classes]
    from sklearn.metrics import precision_recall_fscore_support

    scores = precision_recall_fscore_support(truth, predicted, labels=list(classes), zero_division=0)
    rows = []
    for i, counts in enumerate(confusion(truth, predicted, classes)):
        others = [0 if j == i else count for j, count in enumerate(counts)]
        worst = classes[others.index(max(others))] if max(others) else ""
        precision, recall, f1, n = (column[i] for column in scores)
        rows.append((classes[i], int(n), float(precision), float(recall), float(f1), worst))
    return rows


def most_wrong(rows: list[dict], n: int) -> list[dict]:
    """The `n` wrong pictures whose wrong class was predicted with the highest probability, worst first.

    `rows` are those of `read_predictions`: path, truth, prediction, confidence (of the prediction, in [0, 1]).
    """
    wrong = [row for row in rows if row["truth"] != row["prediction"]]
    wrong.sort(key=lambda row: -1.0 if math.isnan(row["confidence"]) else row["confidence"], reverse=True)
    return [{key: row[key] for key in ("path", "truth", "prediction", "confidence")} for row in wrong[:n]]


def read_predictions(file) -> tuple[list[str], list[dict]]:
    """Classes and rows (path, truth, prediction, confidence) of a `valid_predictions.csv`; both empty without a file.

    Read by position, because a class may be called 'path'.
    """
    table = read_table(file)
    classes = table[0][3:] if table else []
    rows = []
    for path, truth, prediction, *shares in table[1:]:
        known = prediction in classes and len(shares) == len(classes)
        confidence = number(shares[classes.index(prediction)]) if known else math.nan
        rows.append({"path": path, "truth": truth, "prediction": prediction, "confidence": confidence})
    return classes, rows


def read_table(file) -> list[list[str]]:
    """The rows of a csv file, its head included; none without a file."""
    file = Path(file)
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return [row for row in csv.reader(lines) if row]


def read_run(folder) -> dict:
    """All that a report is made of, from the files of a run's folder; what is missing is empty."""
    folder = Path(folder)
    classes, rows = read_predictions(folder / "valid_predictions.csv")
    result = next(iter(json_objects(text_of(folder / "result.json"))), {})
    truth, predicted = [row["truth"] for row in rows], [row["prediction"] for row in rows]
    return {
        "name": folder.resolve().name,
        "metrics": json_objects(*text_of(folder / "metrics.jsonl").splitlines()),
        "result": result,
        "finds": finds_of(folder, result),
        "plan": text_of(folder / "plan.txt"),
        "classes": classes,
        "predictions": rows,
        "confusion": confusion(truth, predicted, classes),
        "per_class": per_class(truth, predicted, classes),
        "wrong": most_wrong(rows, 16),
        "bad_files": read_table(folder / "bad_files.csv"),
    }


def finds_of(folder: Path, result: dict) -> list[dict | bytes]:
    """What every finder found, in the order of the phases in `result`; its picture where only that is left."""
    finds = []
    for name in sorted({file.stem for kind in ("json", "png") for file in folder.glob(f"find_*.{kind}")}):
        found = json_objects(text_of(folder / f"{name}.json"))
        phase = found[0].get("phase") if found else name
        drawn = found[0] if found else bytes_of(folder / f"{name}.png")
        finds.append((" ".join(result).find(f"phase/{phase}/"), drawn))
    return [found for _, found in sorted(finds, key=lambda find: find[0])]


def text_of(file: Path) -> str:
    return bytes_of(file).decode("utf-8", "replace")


def bytes_of(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def json_objects(*texts: str) -> list[dict]:
    """The objects of some texts; what a crash cut short is left out."""
    out = []
    for text in texts:
        try:
            value = json.loads(text)
        except ValueError:
            continue
        out += [value] if isinstance(value, dict) else []
    return out


def numbers(values):
    """An array of floats, nan for what is none."""
    import numpy as np

    return np.array([number(value) for value in values], dtype=float)


def column(rows: list[dict], key: str):
    """One key of all rows as an array, nan where a row has it not."""
    return numbers(row.get(key) for row in rows)


def short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


# ----------------------------------------------------------------------------------------------------------------------
# what all pictures have in common


@contextmanager
def look():
    """The style of every picture, for the time of one; names are taken as they are ($ is no formula)."""
    import matplotlib

    style = {
        "font.size": 9,
        "font.family": "DejaVu Sans",
        "text.parse_math": False,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": "none",
        "axes.axisbelow": True,
        "legend.facecolor": PAPER,
        "legend.edgecolor": "none",
        "legend.framealpha": 0.8,
        "hatch.linewidth": 0.6,
        "svg.fonttype": "none",
        "svg.hashsalt": "thaw",
        "grid.alpha": 0.15,
        "grid.color": INK,
    }
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context(style | dict.fromkeys(inked, INK)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a class name in a script that the font lacks: a box
        yield


def figure(width: float, height: float):
    """A figure of that many inches, known to nobody else."""
    from matplotlib.figure import Figure

    return Figure((width, height), facecolor=PAPER)


def axes_at(fig, left: float, top: float, width: float, height: float):
    """Axes at that place, in inches from the upper left: exact, and several times as fast as a layout engine."""
    across, down = fig.get_size_inches()
    return fig.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def svg(fig) -> str:
    """The figure as an <svg> element for a page: at most as wide as drawn, in the page's ink and paper."""
    file = StringIO()
    fig.savefig(file, format="svg", dpi=150, transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    head, rest = text.split(">", 1)
    head = re.sub(r' (?:xmlns(?::\w+)?|width|height)="[^"]*"', "", head)
    head += f' style="max-width: {fig.get_figwidth():g}in"'
    return (head + ">" + rest).replace(INK, "currentColor").replace(PAPER, "var(--card)")


def group_colours(groups: int) -> list:
    """A colour for each layer group, the body's first ones dark, the head bright; a single group is the head."""
    from matplotlib.colors import LinearSegmentedColormap

    ramp = LinearSegmentedColormap.from_list("groups", GROUPS)
    return [ramp(i / (groups - 1) if groups > 1 else 1.0) for i in range(groups)]


def group_names(groups: int) -> list[str]:
    """'first layers' to 'head'; those between are numbered."""
    if groups == 1:
        return ["head"]
    return ["first layers", *(f"group {i}" for i in range(1, groups - 1)), "head"]


def rate_axis(axes, curves) -> None:
    """A log axis for rates that shows every group's upper 2½ decades: annealing ends near 0, which would take all room.

    curves: one sequence of rates for each group and phase.
    """
    peaks = [max((rate for rate in map(number, curve) if rate > 0), default=math.nan) for curve in curves]
    peaks = [peak for peak in peaks if peak > 0]
    axes.set_yscale("log", nonpositive="clip")
    plain(axes.yaxis)
    if peaks:
        axes.set_ylim(min(peaks) / 300, max(peaks) * 2)
    axes.grid(True, axis="y")


def name_phases(axes, spans, inches: float, named: bool = True) -> None:
    """Bands behind the axes and the phases' names above them: in one line or two, angled where they do not fit.

    spans: (name, start, end) in the units of the x axis, in order; inches: the width of the axes.
    """
    spans = list(spans)
    low, high = axes.get_xlim()
    unit = inches / (high - low)  # inches
    for _, start, end in spans[1::2]:
        axes.axvspan(start, end, color=INK, alpha=0.05, linewidth=0)
    lanes = lanes_of(spans, unit)
    last = -math.inf
    for i, (name, start, end) in enumerate(spans if named else []):
        at = (start + end) / 2
        if lanes:
            place = {"xytext": (0, 3 + 11 * lanes[i]), "ha": "center", "va": "bottom"}
        else:
            # Angled text needs 0.17 inches beside its neighbour, whatever its length.
            at = last = max(at, last + 0.17 / unit)
            place = {"xytext": (0, 5), "ha": "left", "va": "bottom", "rotation": 40, "rotation_mode": "anchor"}
            name = short(name, 24)
        top = axes.get_xaxis_transform()
        axes.annotate(name, (at, 1), xycoords=top, textcoords="offset points", fontsize=8, **place)


def lanes_of(spans, unit: float) -> list[int] | None:
    """The line, 0 or 1, in which each name fits over its span; None where two lines are not enough."""
    lanes, ends = [], [-math.inf, -math.inf]
    for name, start, end in spans:
        half = wide(name) / 2 / unit
        middle = (start + end) / 2
        lane = next((lane for lane in (0, 1) if ends[lane] <= middle - half * 0.999), None)
        if lane is None:
            return None
        ends[lane] = middle + half
        lanes.append(lane)
    return lanes


def wide(name: str) -> float:
    """Inches that a name takes at 8 points, with room to its neighbours; the font's letters are about 0.62 em wide."""
    return len(name) * 0.62 * 8 / 72 + 0.12


def plain(axis) -> None:
    """Label a log axis with numbers as people type them: 0.01, 1e-05."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


# ----------------------------------------------------------------------------------------------------------------------
# the plan


def plan_png(timeline: list[dict], path) -> None:
    """Draw what `plan.timeline` returns: rates of every group, image size and what is frozen, over all steps.

    Short phases are widened until their names fit, so that two epochs of the head are seen beside ninety of the body;
    the axis says how many steps there are.
    """
    steps = [phase["steps"] for phase in timeline]
    width = max(10.5, 0.3 * len(timeline))  # inches of the axes, and the unit of their x
    floors = [wide(phase["name"]) for phase in timeline]
    if sum(floors) > 0.9 * width:
        floors = [0.26] * len(timeline)  # angled names
    edges = [0.0]
    widths = stretch(steps, floors, width)
    for share in widths:
        edges.append(edges[-1] + share)
    widened = any(share * sum(steps) > 1.01 * width * n for share, n in zip(widths, steps, strict=True))
    with look():
        left, right = 0.8, 1.8
        fig = figure(width + left + right, 6.2)
        panels = fig.subplots(3, 1, sharex=True, height_ratios=(3.2, 1.2, 0.8))
        fig.subplots_adjust(left / (width + left + right), 0.1, 1 - right / (width + left + right), 0.86, hspace=0.12)
        panels[0].set_xlim(0, width)
        places = [
            [start + (end - start) * step / phase["steps"] for step in (*phase["points"], phase["steps"])]
            for phase, (start, end) in zip(timeline, pairwise(edges), strict=True)
        ]
        plan_rates(panels[0], timeline, places, edges)
        plan_sizes(panels[1], timeline, edges)
        plan_states(panels[2], timeline, edges)
        name_phases(panels[0], zip((p["name"] for p in timeline), edges, edges[1:], strict=False), width)
        for axes in panels:
            for edge in edges[1:-1]:
                axes.axvline(edge, color=INK, alpha=0.25, linewidth=0.6)
            for phase, (start, end) in zip(timeline, pairwise(edges), strict=True):
                if phase["do"] == "find":
                    axes.axvspan(start, end, fill=False, hatch="///", edgecolor=INK, alpha=0.18, linewidth=0)
        true = [sum(steps[:i]) for i in range(len(steps) + 1)]
        ticks, last = [], -math.inf
        for i, edge in enumerate(edges):
            if edge - last >= 0.1 + 0.08 * len(f"{true[i]:,}"):
                ticks.append(i)
                last = edge
        panels[2].set_xticks([edges[i] for i in ticks], [f"{true[i]:,}" for i in ticks])
        panels[2].set_xlabel("optimizer steps" + (" (short phases widened)" if widened else ""))
        for axes in panels[:2]:
            axes.tick_params(bottom=False)
        fig.savefig(path, dpi=110, bbox_inches="tight")


def stretch(steps: list[int], floors: list[float], total: float) -> list[float]:
    """Widths in proportion to `steps`, none below its floor, that sum to `total`."""
    fixed: set[int] = set()
    while True:
        free = [i for i in range(len(steps)) if i not in fixed]
        scale = (total - sum(floors[i] for i in fixed)) / (sum(steps[i] for i in free) or 1)
        short_ones = {i for i in free if steps[i] * scale < floors[i]}
        if not short_ones:
            return [floors[i] if i in fixed else steps[i] * scale for i in range(len(steps))]
        fixed |= short_ones


def plan_rates(axes, timeline, places, edges) -> None:
    """The rate of every group; dashed where it is a multiple of a rate still to be found."""
    from matplotlib.lines import Line2D

    most = max((len(phase["rates"]) for phase in timeline), default=1)
    curves = [curve for phase in timeline for curve in phase["rates"]]
    rate_axis(axes, curves)
    for phase, at, start, end in zip(timeline, places, edges, edges[1:], strict=False):
        if phase["do"] == "find":
            # A sign for the sweep, not its values: the range is the finder's own.
            ends = axes.get_xaxis_transform()
            axes.plot([start, end], [0.06, 0.94], color=INK, alpha=0.5, linestyle=":", transform=ends)
        for rates, colour in zip(phase["rates"], group_colours(len(phase["rates"])), strict=True):
            style = "-" if phase["known"] else (0, (4, 1.5))
            beyond = rates[-1] ** 2 / rates[-2] if len(rates) > 1 and rates[-2] > 0 else rates[-1]
            axes.plot(at, [*rates, beyond], color=colour, linestyle=style, linewidth=1.6 if most <= 6 else 1.0)
    known = [phase["known"] for phase in timeline if phase["do"] == "fit"]
    axes.set_ylabel("learning rate" if any(known) or not known else "share of the rate to be found")
    names, colours = group_names(most), group_colours(most)
    shown = range(most) if most <= 8 else sorted({round(i * (most - 1) / 4) for i in range(5)})
    lines = [Line2D([], [], color=colours[i], linewidth=2, label=names[i]) for i in reversed(shown)]
    if any(phase["do"] == "find" for phase in timeline):
        lines.append(Line2D([], [], color=INK, alpha=0.5, linestyle=":", label="finder's sweep"))
    if not all(known):
        lines.append(Line2D([], [], color=INK, linestyle=(0, (4, 1.5)), label="relative:\nrate to be found"))
    axes.legend(handles=lines, loc="upper left", bbox_to_anchor=(1.005, 1.02), fontsize=8)


def plan_sizes(axes, timeline, edges) -> None:
    """The image size of every epoch, as steps."""
    sizes = [size for phase in timeline for size in phase["sizes"] if size is not None]
    for phase, start, end in zip(timeline, edges, edges[1:], strict=False):
        marks = [start + (end - start) * step / phase["steps"] for step in phase["edges"]]
        values = [math.nan if size is None else size for size in phase["sizes"]]
        axes.stairs(values, marks, baseline=None, color=TRAIN, linewidth=2)
        axes.stairs(values, marks, color=TRAIN, alpha=0.15, fill=True)
    axes.set_ylim(0, max(sizes, default=1) * 1.2)
    if not sizes:
        axes.text(0.5, 0.5, "not known yet", transform=axes.transAxes, ha="center", va="center", alpha=0.6)
    distinct = sorted(set(sizes))
    if len(distinct) <= 4:
        axes.set_yticks(distinct, [str(size) for size in distinct])
    axes.set_ylabel("image size\n(pixels)")
    axes.grid(True, axis="y")


def plan_states(axes, timeline, edges) -> None:
    """What happens to the body and to the head: training, frozen, or not run at all (stored activations)."""
    from matplotlib.patches import Patch

    def body(phase):
        if phase["train"] == "all":
            return "training"
        return "stored activations" if phase["features"] == "precomputed" else "frozen"

    for y, state_of in ((0, body), (1, lambda phase: "training")):
        start = 0
        for state, phases in groupby(timeline, state_of):
            end = start + len(list(phases))
            span = edges[end] - edges[start]
            axes.barh(y, span, 0.86, edges[start], color=STATES[state], edgecolor=PAPER, linewidth=1)
            if wide(state) <= span:
                middle = edges[start] + span / 2
                axes.text(middle, y, state, ha="center", va="center", fontsize=8, color="#1b2a3a")
            start = end
    axes.set_yticks([0, 1], ["body", "head"])
    axes.set_ylim(-0.5, 1.5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    handles = [Patch(color=colour, label=state) for state, colour in STATES.items()]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize=8)


# ----------------------------------------------------------------------------------------------------------------------
# the finder


def find_png(found: dict, path) -> None:
    """Draw a finder's curve.

    found: phase, rates, losses, smoothed (lists), suggestions (rule to rate or None), rule, taken (rate), reason.
    """
    with look():
        find_figure(found).savefig(path, dpi=120)


def find_figure(found: dict, width: float = 8.0):
    """The finder's curve over the rate (log), a line for each rule's suggestion, a strong one for the rate taken."""
    import numpy as np

    rates = numbers(found.get("rates") or [])
    losses = numbers(found.get("losses") or [])
    smoothed = numbers(found.get("smoothed") or [])
    reason = textwrap.fill(str(found.get("reason") or ""), int(12 * width))
    lines = 1 + reason.count("\n")
    height = 0.4 * width + 0.9 + 0.15 * lines
    fig = figure(width, height)
    axes = axes_at(fig, 0.75, 0.4 + 0.15 * lines, width - 0.9, height - 0.95 - 0.15 * lines)
    axes.plot(rates[: len(losses)], losses[: len(rates)], ".", color=TRAIN, alpha=0.35, label="batch")
    axes.plot(rates[: len(smoothed)], smoothed[: len(rates)], color=TRAIN, linewidth=2, label="smoothed")
    axes.set_xscale("log")
    plain(axes.xaxis)
    seen, raw = smoothed[np.isfinite(smoothed)], losses[np.isfinite(losses)]
    if len(seen) and len(raw):
        # The last points explode; what decides lies between the start and the lowest loss, so that gets the room.
        lowest, start = seen.min(), seen[0]
        span = max(start - lowest, 0.4 * abs(lowest), 1e-6)
        low, high = np.quantile(raw[: math.ceil(0.8 * len(raw))], (0.02, 0.95))
        top = max(min(seen.max(), lowest + 1.6 * span), start, min(high, lowest + 3 * span))
        bottom = min(lowest, low)
        axes.set_ylim(bottom - 0.06 * (top - bottom), top + 0.3 * (top - bottom))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.grid()
    marks = [
        (f"{rule} {rate:.2g}", rate, False)
        for rule, rate in (found.get("suggestions") or {}).items()
        if number(rate) > 0 and not (rule == found.get("rule") and rate == found.get("taken"))
    ]
    if number(found.get("taken")) > 0:
        marks.append((f"taken {found['taken']:.2g} ({found.get('rule', '')})", found["taken"], True))
    low, high = (math.log(edge) for edge in axes.get_xlim())
    for i, (label, rate, strong) in enumerate(sorted(marks, key=lambda mark: mark[1])):
        colour = VALID if strong else INK
        axes.axvline(rate, color=colour, **({"lw": 2} if strong else {"lw": 1, "ls": "--", "alpha": 0.5}))
        place = (math.log(rate) - low) / (high - low)
        # Away from the strong line, but not out of the picture.
        late = place > 0.7 or (place > 0.25 and rate < number(found.get("taken")))
        axes.annotate(
            label,
            (rate, 0.97 - 0.075 * i),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if late else 5, 0),
            textcoords="offset points",
            ha="right" if late else "left",
            va="top",
            color=colour,
            fontweight="bold" if strong else "normal",
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        )
    axes.legend(loc="lower left", fontsize=8)
    axes.set_title(str(found.get("phase") or "finder"), pad=7 + 10.8 * lines)
    axes.annotate(
        reason, (0, 1), (0, 4), "axes fraction", textcoords="offset points", va="bottom", alpha=0.75, fontsize=8.5
    )
    return fig


# ----------------------------------------------------------------------------------------------------------------------
# a run


def run_report(folder, picture) -> None:
    """Write `report.png` and `report.html` into a run's folder, from the files that lie there.

    picture: path as in valid_predictions.csv -> uint8 RGB array [height, width, 3], or None where there is none.
    """
    folder = Path(folder)
    run = read_run(folder)
    run["pictures"] = [picture(row["path"]) for row in run["wrong"]]
    drawn = {"curves": [], "finds": [], "confusion": [], "plan": []}
    if png := bytes_of(folder / "plan.png"):
        drawn["plan"].append(png)
    with look():
        run_figure(run).savefig(folder / "report.png", dpi=100)
        if run["metrics"]:
            drawn["curves"].append(svg(curves_figure(run)))
        drawn["finds"] = [svg(find_figure(find, 5.6)) if isinstance(find, dict) else find for find in run["finds"]]
        if run["predictions"]:
            drawn["confusion"].append(svg(confusion_figure(run)))
    (folder / "report.html").write_text(report_html.page(run, drawn), encoding="utf-8")


def run_figure(run: dict):
    """All on one sheet: the curves, and below them the confusion matrix and the most wrong pictures."""
    curves = curves_inches(run, 14)
    fig = figure(14, 0.7 + curves + (6.9 if run["predictions"] else 0))
    known = "   ".join(f"{what} {value}" for what, value, _ in report_html.headline(run))
    top = fig.get_figheight()
    fig.text(0.2 / 14, 1 - 0.32 / top, short(run["name"], 90), fontsize=14, fontweight="bold")
    fig.text(0.2 / 14, 1 - 0.62 / top, known, fontsize=12)
    draw_curves(fig, run, 0.7)
    if run["predictions"]:
        draw_confusion(fig, run, 0, 0.7 + curves, 6.8)
        draw_wrong(fig, run, 7, 0.9 + curves, 6.8)
    return fig


def curves_figure(run: dict):
    fig = figure(11, curves_inches(run, 11))
    draw_curves(fig, run, 0)
    return fig


def curves_inches(run: dict, width: float) -> float:
    """The height that `draw_curves` takes in a figure of that width: angled phase names take an inch more."""
    return 6.6 if names_fit(run, width) else 7.4


def names_fit(run: dict, width: float) -> bool:
    """Whether the phases' names fit in two lines above a panel over epochs."""
    spans = phase_spans(run["metrics"], column(run["metrics"], "epoch"))
    return not spans or lanes_of(spans, panel_inches(width) / (1.02 * spans[-1][2])) is not None


def panel_inches(width: float) -> float:
    """The width of one of two panels side by side."""
    return (width - 1.8) / 2


def draw_curves(fig, run: dict, top: float) -> None:
    """Loss and accuracy over epochs, rates and image size over steps; phases are bands. top: inches from above."""
    import numpy as np

    rows = run["metrics"]
    steps, epochs = column(rows, "step"), column(rows, "epoch")
    width = panel_inches(fig.get_figwidth())
    first = top + (0.45 if names_fit(run, fig.get_figwidth()) else 1.25)
    places = [(left, y) for y in (first, first + 3.2) for left in (0.8, width + 1.65)]
    panels = [axes_at(fig, left, y, width, 2.45) for left, y in places]
    for axes, x in zip(panels, (epochs, epochs, steps, steps), strict=True):
        last = np.nanmax(x) if np.isfinite(x).any() else 1.0
        axes.set_xlim(0, last * 1.02 or 1.0)
        name_phases(axes, phase_spans(rows, x), width, named=axes in panels[:2])
    draw_loss(panels[0], rows, epochs)
    draw_accuracy(panels[1], rows, epochs)
    mark_best(panels[0], run, epochs, "valid/loss", "{:.3g}")
    mark_best(panels[1], run, epochs, "valid/accuracy", "{:.1%}")
    draw_rates(panels[2], rows, steps)
    draw_sizes(panels[3], rows, steps)
    for axes, label in zip(panels, ("epoch", "epoch", "optimizer step", "optimizer step"), strict=True):
        axes.set_xlabel(label)
        axes.grid(True, axis="y")
        if not any(len(line.get_xdata()) for line in axes.lines):
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", alpha=0.6)
        elif axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)


def phase_spans(rows: list[dict], x) -> list[tuple[str, float, float]]:
    """(name, start, end) of every phase that takes room on the axis `x`, in order."""
    spans, start = [], 0.0
    for name, group in groupby(range(len(rows)), lambda i: rows[i].get("phase")):
        end = max((float(x[i]) for i in group if math.isfinite(x[i])), default=start)
        if name and end > start:
            spans.append((str(name), start, end))
        start = max(start, end)
    return spans


def by_phase(rows: list[dict], x, key: str):
    """The points (x, y) of a key, phase by phase: lines that are not joined."""
    import numpy as np

    y = column(rows, key)
    for _, group in groupby(range(len(rows)), lambda i: rows[i].get("phase")):
        at = [i for i in group if math.isfinite(x[i]) and math.isfinite(y[i])]
        if at:
            yield np.asarray(x)[at], y[at]


def draw_loss(axes, rows, epochs) -> None:
    """Training loss of the logged steps (pale) and of epochs, validation loss; log where it spans more than 1 to 30."""
    import numpy as np

    validated = np.isfinite(column(rows, "valid/loss"))
    ends, losses = np.flatnonzero(validated), column(rows, "train/loss")
    axes.plot(epochs[~validated], losses[~validated], ".", color=TRAIN, alpha=0.3, markersize=4)
    for key, colour, label in (("train/loss", TRAIN, "training"), ("valid/loss", VALID, "validation")):
        for i, (x, y) in enumerate(by_phase([rows[j] for j in ends], epochs[ends], key)):
            axes.plot(x, y, "o-", color=colour, markersize=3.5, label=None if i else label)
    shown = np.concatenate([losses, column(rows, "valid/loss")])
    shown = shown[np.isfinite(shown) & (shown > 0)]
    if len(shown) and shown.max() > 30 * shown.min():
        axes.set_yscale("log")
        plain(axes.yaxis)
    axes.set_ylabel("loss")


def draw_accuracy(axes, rows, epochs) -> None:
    """Share of the validation pictures that are right."""
    from matplotlib.ticker import PercentFormatter

    for i, (x, y) in enumerate(by_phase(rows, epochs, "valid/accuracy")):
        axes.plot(x, y, "o-", color=VALID, markersize=3.5, label=None if i else "validation")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("accuracy")


def mark_best(axes, run, epochs, key: str, form: str) -> None:
    """A ring around the cycle end that was kept: the epoch `best/epoch`, else the one of the lowest validation loss."""
    import numpy as np

    y, wanted = column(run["metrics"], key), number(run["result"].get("best/epoch"))
    distance = column(run["metrics"], "valid/loss") if math.isnan(wanted) else np.abs(epochs - wanted)
    distance = np.where(np.isfinite(y) & np.isfinite(epochs), distance, np.nan)
    if not np.isfinite(distance).any():
        return
    i = int(np.nanargmin(distance))
    axes.axvline(epochs[i], color=BEST, linewidth=1, alpha=0.7)
    label = f"kept: epoch {epochs[i]:.4g}, {form.format(y[i])}"
    axes.plot(epochs[i], y[i], "o", color=BEST, markersize=10, markerfacecolor="none", markeredgewidth=2, label=label)


def draw_rates(axes, rows, steps) -> None:
    """The rate of every recorded group, log. A phase that trains the head alone has one group."""
    curves, groups_of = [], {}
    for i, row in enumerate(rows):
        keys = sorted((key for key in row if re.fullmatch(r"lr/group_\d+", key)), key=lambda key: int(key[9:]))
        keys = keys or [key for key in ("lr/first", "lr/head") if key in row]
        if keys:
            groups_of.setdefault(row.get("phase"), (keys, []))[1].append(i)
    most = max((len(keys) for keys, _ in groups_of.values()), default=1)
    for keys, at in groups_of.values():
        for key, colour in zip(keys, group_colours(len(keys)), strict=True):
            curves.append(column([rows[i] for i in at], key))
            axes.plot(steps[at], curves[-1], color=colour, linewidth=1.5)
    names = group_names(most)
    for i, colour in enumerate(group_colours(most)):
        if curves and (most <= 6 or i in (0, most - 1)):
            axes.plot([], [], color=colour, label=names[i])
    rate_axis(axes, curves)
    axes.set_ylabel("learning rate")


def draw_sizes(axes, rows, steps) -> None:
    """The image size in pixels."""
    sizes, before = [], 0.0
    for x, y in by_phase(rows, steps, "image_size"):
        x, y = [before, *x], [y[0], *y]
        before = x[-1]
        axes.step(x, y, where="pre", color=TRAIN, linewidth=2)
        axes.fill_between(x, y, step="pre", color=TRAIN, alpha=0.15, linewidth=0)
        sizes += list(y)
    axes.set_ylim(0, max(sizes, default=1) * 1.2)
    if 0 < len(set(sizes)) <= 6:
        axes.set_yticks(sorted(set(sizes)))
    axes.grid(True, axis="y")
    axes.set_ylabel("image size (pixels)")


def confusion_figure(run: dict):
    side = report_html.matrix_inches(len(run["classes"]))
    names, size, flat, inner = matrix_layout(run["classes"], side)
    longest = max(map(len, names), default=0)
    fig = figure(side, inner + 1.0 + (0 if flat else 0.45 * size / 72 * longest))
    draw_confusion(fig, run, 0, 0, side)
    return fig


def matrix_layout(classes: list[str], side: float) -> tuple[list[str], int, bool, float]:
    """Names to write (none where there are too many), their points, whether those below lie flat, inches of the square.

    side: inches that the square and the names at its left may take.
    """
    n = len(classes)
    names = [short(name, 20) for name in classes] if n <= report_html.NAMEABLE else []
    size = 9 if n <= 12 else 8 if n <= READABLE else 6
    longest = max(map(len, names), default=0)
    return names, size, longest * n <= 40, side - 0.65 - 0.62 * size / 72 * longest


def draw_confusion(fig, run: dict, left: float, top: float, side: float) -> None:
    """Rows are true classes; hits in blue, mistakes in red, by the square root of their share of the row, so that a
    rare mistake is seen. Counts are written in and classes named only as far as they can be read."""
    import numpy as np
    from matplotlib.colors import to_rgb

    n = len(run["classes"])
    names, size, flat, inner = matrix_layout(run["classes"], side)
    axes = axes_at(fig, left + side - inner - 0.15, top + 0.35, inner, inner)
    counts = np.array(run["confusion"], dtype=float).reshape(n, n)
    strength = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    colours = np.empty((n, n, 4))
    colours[..., :3], colours[..., 3] = to_rgb(ERROR), strength
    colours[np.arange(n), np.arange(n), :3] = to_rgb(TRAIN)
    axes.pcolormesh(np.arange(n + 1) - 0.5, np.arange(n + 1) - 0.5, colours, rasterized=n > READABLE)
    axes.set_xlim(-0.5, n - 0.5)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_aspect("equal")
    if n <= READABLE:
        points = 11 if n <= 5 else 9 if n <= 12 else 7
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "#fefefe" if strength[i, j] > 0.75 else INK
            axes.text(j, i, f"{counts[i, j]:.0f}", ha="center", va="center", fontsize=points, color=colour)
    if names:
        axes.set_xticks(range(n), names, **({} if flat else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}))
        axes.set_yticks(range(n), names)
        axes.tick_params(labelsize=size, length=0)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.plot([], [], "s", color=TRAIN, label="right")
        axes.plot([], [], "s", color=ERROR, label="mistaken")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.08), ncols=2)
    among = "" if names else f" ({n} classes, in their order)"
    axes.set_xlabel("predicted" + among)
    axes.set_ylabel("true" + among)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_alpha(0.3)


def draw_wrong(fig, run: dict, left: float, top: float, side: float) -> None:
    """The most wrong pictures in a grid, each with what it is, what it was taken for and how surely."""
    axes = axes_at(fig, left, top, side, side)  # its unit is an inch, from the upper left
    axes.set_axis_off()
    wrong = run["wrong"]
    if not wrong:
        axes.text(0.5, 0.5, "no wrong pictures", transform=axes.transAxes, ha="center", fontsize=14, color=BEST)
        return
    axes.text(side / 2, 0, "the most wrong: truth → prediction, probability", ha="center")
    columns = max(2, math.ceil(math.sqrt(len(wrong))))
    cell = (side - 0.1) / columns
    most = cell - 0.5  # the longer side of a picture
    room = int(14 * cell)  # letters
    for i, (row, picture) in enumerate(zip(wrong, run["pictures"], strict=True)):
        x, y = cell * (i % columns + 0.5), 0.5 + (cell - 0.05) * (i // columns) + most / 2  # the middle of the picture
        down = 0.15  # half the height of what is shown
        if picture is None:
            axes.text(x, y, "no picture", ha="center", va="center", alpha=0.6)
        else:
            down, across = (most * edge / max(picture.shape[:2]) / 2 for edge in picture.shape[:2])
            smooth = "nearest" if max(picture.shape[:2]) < 100 else "antialiased"
            axes.imshow(picture, extent=(x - across, x + across, y + down, y - down), interpolation=smooth)
        sure = "" if math.isnan(row["confidence"]) else f", {row['confidence']:.0%}"
        title = f"{short(row['truth'], room)}\n→ {short(row['prediction'], room - 6)}{sure}"
        axes.text(x, y - down - 0.05, title, ha="center", va="bottom", fontsize=8)
    axes.set_xlim(0, side)
    axes.set_ylim(side, 0)
