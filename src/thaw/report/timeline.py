"""The figure of the plan, plan.png: learning rates, image size and what is frozen, over all steps."""

import math
from itertools import accumulate, groupby

from thaw.report.style import (
    INK,
    PAPER,
    TRAIN,
    figure,
    group_colours,
    group_names,
    image_style,
    name_phases,
    rate_axis,
    shade_phases,
    text_inches,
)

STATES = {"stored activations": "#c9d3df", "frozen": "#a9daf0", "training": "#f6ad6b"}


def plan_png(timeline: list[dict], path) -> None:
    """Draw what `show.plan_timeline` returns: learning rates of every group, image size and what is frozen.

    Short phases are widened until their names fit, so that two epochs of the head remain visible beside ninety of the
    backbone; the x axis is labelled with the true steps. Finders are only as wide as their names, because their steps
    change no weights.
    """
    width, left, right, height = max(10.5, 0.3 * len(timeline)), 0.8, 1.8, 6.2  # inches; `width` is the axes' width
    steps = [0 if phase["do"] == "find" else phase["steps"] for phase in timeline]
    least = [text_inches(phase["name"]) for phase in timeline]
    if sum(least) > 0.9 * width:
        least = [0.26] * len(timeline)  # angled names
    widths = stretch(steps, least, width)
    edges = list(accumulate(widths, initial=0.0))  # the unit of x is an inch
    placed = list(zip(timeline, edges, edges[1:], strict=False))
    with image_style():
        across = left + width + right
        fig = figure(across, height)
        panels = fig.subplots(3, 1, sharex=True, height_ratios=(3.2, 1.2, 0.8))
        fig.subplots_adjust(left / across, 0.1, 1 - right / across, 0.86, hspace=0.12)
        panels[0].set_xlim(0, width)
        draw_rates(panels[0], placed)
        draw_sizes(panels[1], placed)
        draw_states(panels[2], placed)
        spans = [(phase["name"], start, end) for phase, start, end in placed]
        shade_phases(panels[0], spans)
        name_phases(panels[0], spans, width)
        for axes in panels:
            for edge in edges[1:-1]:
                axes.axvline(edge, color=INK, alpha=0.25, linewidth=0.6)
            for phase, start, end in placed:
                if phase["do"] == "find":
                    axes.axvspan(start, end, fill=False, hatch="///", edgecolor=INK, alpha=0.18, linewidth=0)
        widened = any(share * sum(steps) > 1.01 * width * n for share, n in zip(widths, steps, strict=True))
        count_steps(panels[2], steps, edges)
        panels[2].set_xlabel("optimizer steps" + (" (short phases widened)" if widened else ""))
        for axes in panels[:2]:
            axes.tick_params(bottom=False)
        fig.savefig(path, dpi=110, bbox_inches="tight")


def stretch(steps: list[int], least: list[float], total: float) -> list[float]:
    """Return widths proportional to `steps` that sum to `total`, none smaller than its value in `least`."""
    fixed: set[int] = set()
    while True:
        free = [i for i in range(len(steps)) if i not in fixed]
        scale = (total - sum(least[i] for i in fixed)) / (sum(steps[i] for i in free) or 1)
        too_short = {i for i in free if steps[i] * scale < least[i]}
        if not too_short:
            return [least[i] if i in fixed else steps[i] * scale for i in range(len(steps))]
        fixed |= too_short


def positions(phase: dict, start: float, end: float, steps: list[int]) -> list[float]:
    """Return the x positions of these steps of a phase."""
    return [start + (end - start) * step / phase["steps"] for step in steps]


def count_steps(axes, steps: list[int], edges: list[float]) -> None:
    """Label the edges of the phases with the steps done by then. Skip labels that would overlap or repeat."""
    ticks, labels, last = [], [], -math.inf
    for edge, done in zip(edges, accumulate(steps, initial=0), strict=True):
        label = f"{done:,}"
        if edge - last >= 0.1 + 0.08 * len(label) and label not in labels[-1:]:
            ticks.append(edge)
            labels.append(label)
            last = edge
    axes.set_xticks(ticks, labels)


def draw_rates(axes, placed) -> None:
    """Draw the learning rate of every group, dashed if it is relative to a rate that is still to be found."""
    from matplotlib.lines import Line2D

    phases = [phase for phase, _, _ in placed]
    most = max((len(phase["rates"]) for phase in phases), default=1)
    rate_axis(axes, [curve for phase in phases for curve in phase["rates"]])
    for phase, start, end in placed:
        if phase["do"] == "find":
            # A symbol for the finder's range test; the finder chooses its range itself.
            ends = axes.get_xaxis_transform()
            axes.plot([start, end], [0.06, 0.94], color=INK, alpha=0.5, linestyle=":", transform=ends)
        x = positions(phase, start, end, [*phase["points"], phase["steps"]])
        for rates, colour in zip(phase["rates"], group_colours(len(phase["rates"])), strict=True):
            style = "-" if phase["known"] else (0, (4, 1.5))
            beyond = rates[-1] ** 2 / rates[-2] if len(rates) > 1 and rates[-2] > 0 else rates[-1]
            axes.plot(x, [*rates, beyond], color=colour, linestyle=style, linewidth=1.6 if most <= 6 else 1.0)
    known = [phase["known"] for phase in phases if phase["do"] == "fit"]
    axes.set_ylabel("learning rate" if any(known) or not known else "relative to the rate to be found")
    names, colours = group_names(most), group_colours(most)
    shown = range(most) if most <= 8 else sorted({round(i * (most - 1) / 4) for i in range(5)})
    lines = [Line2D([], [], color=colours[i], linewidth=2, label=names[i]) for i in reversed(shown)]
    if any(phase["do"] == "find" for phase in phases):
        lines.append(Line2D([], [], color=INK, alpha=0.5, linestyle=":", label="learning rate finder"))
    if not all(known):
        lines.append(Line2D([], [], color=INK, linestyle=(0, (4, 1.5)), label="relative to the\nrate to be found"))
    axes.legend(handles=lines, loc="upper left", bbox_to_anchor=(1.005, 1.02), fontsize=8)


def draw_sizes(axes, placed) -> None:
    """Draw the image size of every epoch as steps."""
    sizes = [size for phase, _, _ in placed for size in phase["sizes"] if size is not None]
    for phase, start, end in placed:
        marks = positions(phase, start, end, phase["edges"])
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


def draw_states(axes, placed) -> None:
    """Draw bars for backbone and head: training, frozen, or replaced by stored activations."""
    from matplotlib.patches import Patch

    def backbone(place):
        if place[0]["train"] == "all":
            return "training"
        return "stored activations" if place[0]["features"] == "precomputed" else "frozen"

    for y, state_of in ((0, backbone), (1, lambda place: "training")):
        for state, places in groupby(placed, state_of):
            (_, start, end), *rest = places
            end = rest[-1][2] if rest else end
            axes.barh(y, end - start, 0.86, start, color=STATES[state], edgecolor=PAPER, linewidth=1)
            if text_inches(state) <= end - start:
                middle = start + (end - start) / 2
                axes.text(middle, y, state, ha="center", va="center", fontsize=8, color="#1b2a3a")
    axes.set_yticks([0, 1], ["backbone", "head"])
    axes.set_ylim(-0.5, 1.5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    handles = [Patch(color=colour, label=state) for state, colour in STATES.items()]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize=8)
