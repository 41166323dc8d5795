"""The style of all figures: sizes, colours, axes, labels."""

import math
import re
import warnings
from contextlib import contextmanager
from io import StringIO

from markupsafe import Markup

from thaw.runtime.console import one_line
from thaw.runtime.files import as_number
from thaw.runtime.fonts import families

INK, PAPER = "#1b1f24", "#ffffff"  # report.html replaces these by the page's colours, for dark mode
TRAIN, VALID, BEST = "#4f8fd0", "#e4572e", "#2a9d5c"
GROUP_COLOURS = ("#4468b0", "#8b5fbf", "#e4572e", "#ffb02e")  # first to last layers, legible on white and near-black


@contextmanager
def image_style():
    """Apply the style of all figures within the block. A $ in a name does not start a formula."""
    import matplotlib

    style = {
        "font.size": 9,
        "font.family": families(),
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
        warnings.filterwarnings("ignore", message="Glyph")  # no installed font has a letter of a name: it is a box
        yield


def figure(width: float, height: float):
    """Return a figure of this size in inches, not registered with pyplot."""
    from matplotlib.figure import Figure

    return Figure((width, height), facecolor=PAPER)


def axes_at(fig, left: float, top: float, width: float, height: float):
    """Add axes at a place in inches from the upper left: exact, and several times faster than a layout engine."""
    across, down = fig.get_size_inches()
    return fig.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def svg(fig) -> Markup:
    """Return a figure as an <svg> element for a page, at most as wide as drawn and in the page's colours."""
    file = StringIO()
    fig.savefig(file, format="svg", dpi=150, transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    head, rest = text.split(">", 1)
    head = re.sub(r' (?:xmlns(?::\w+)?|width|height)="[^"]*"', "", head)
    head += f' style="max-width: {fig.get_figwidth():g}in"'
    return Markup((head + ">" + rest).replace(INK, "currentColor").replace(PAPER, "var(--card)"))


def group_colours(groups: int) -> list:
    """Return a colour for each layer group, from dark (first layers) to bright (last layers)."""
    from matplotlib.colors import LinearSegmentedColormap

    ramp = LinearSegmentedColormap.from_list("groups", GROUP_COLOURS)
    return [ramp(i / (groups - 1) if groups > 1 else 1.0) for i in range(groups)]


def group_names(groups: int) -> list[str]:
    """Return the names of the layer groups: 'first layers', 'group 1', ..., 'last layers'; a single one is the head."""
    if groups == 1:
        return ["head"]
    return ["first layers", *(f"group {i}" for i in range(1, groups - 1)), "last layers"]


def rate_axis(axes, curves) -> None:
    """Set up a log axis for learning rates that shows the upper 2.5 decades of every group.

    Annealing ends near 0, and the full range would squeeze everything else. `curves`: one sequence of rates for each
    group and phase.
    """
    peaks = [max((rate for rate in map(as_number, curve) if rate > 0), default=math.nan) for curve in curves]
    peaks = [peak for peak in peaks if peak > 0]
    axes.set_yscale("log", nonpositive="clip")
    plain_ticks(axes.yaxis)
    if peaks:
        axes.set_ylim(min(peaks) / 300, max(peaks) * 2)
    axes.grid(True, axis="y")


def shade_phases(axes, spans) -> None:
    """Shade every other phase. `spans`: (name, start, end) in the units of the x axis, in order."""
    for _, start, end in spans[1::2]:
        axes.axvspan(start, end, color=INK, alpha=0.05, linewidth=0)


def name_phases(axes, spans, inches: float) -> None:
    """Write the phases' names above the axes, in one or two lines, or angled if they do not fit.

    `spans`: (name, start, end) in the units of the x axis, in order; `inches`: the width of the axes.
    """
    low, high = axes.get_xlim()
    unit = inches / (high - low)  # inches
    lanes = lanes_of(spans, unit)
    last, top = -math.inf, axes.get_xaxis_transform()
    for i, (name, start, end) in enumerate(spans):
        at = (start + end) / 2
        if lanes:
            place = {"xytext": (0, 3 + 11 * lanes[i]), "ha": "center", "va": "bottom"}
        else:
            # Angled text needs 0.17 inches beside its neighbour, whatever its length.
            at = last = max(at, last + 0.17 / unit)
            place = {"xytext": (0, 5), "ha": "left", "va": "bottom", "rotation": 40, "rotation_mode": "anchor"}
            name = shortened(name, 24)
        axes.annotate(name, (at, 1), xycoords=top, textcoords="offset points", fontsize=8, **place)


def lanes_of(spans, unit: float) -> list[int] | None:
    """Return the line, 0 or 1, in which each name fits above its span; None if two lines are not enough."""
    lanes, ends = [], [-math.inf, -math.inf]
    for name, start, end in spans:
        half = text_inches(name) / 2 / unit
        middle = (start + end) / 2
        lane = next((lane for lane in (0, 1) if ends[lane] <= middle - half * 0.999), None)
        if lane is None:
            return None
        ends[lane] = middle + half
        lanes.append(lane)
    return lanes


def text_inches(name: str) -> float:
    """Return the width of a name at 8 points in inches, margin included; letters are about 0.62 em wide."""
    return len(name) * 0.62 * 8 / 72 + 0.12


def plain_ticks(axis, subs: tuple[float, ...] = (1.0,)) -> None:
    """Label a log axis with plain numbers: 0.01, 1e-05. `subs`: the labelled multiples of each power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(numticks=9, subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def shortened(text: str, most: int) -> str:
    """Return a name in one line, cut to at most `most` letters."""
    text = one_line(text)
    return text if len(text) <= most else text[: most - 1] + "…"
