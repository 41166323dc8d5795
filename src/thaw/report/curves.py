"""The training curves of a run: loss, accuracy, learning rates and image size, phase by phase."""

import math
import re
from itertools import groupby

from thaw.report.run_files import column
from thaw.report.style import (
    BEST,
    TRAIN,
    VALID,
    axes_at,
    figure,
    group_colours,
    group_names,
    lanes_of,
    name_phases,
    plain_ticks,
    rate_axis,
    shade_phases,
)
from thaw.runtime.files import as_number


def curves_figure(run: dict):
    """Return a figure of the curves alone, for the page."""
    fig = figure(11, curves_inches(run, 11))
    draw_curves(fig, run, 0, 11)
    return fig


def curves_inches(run: dict, width: float) -> float:
    """Return the height of the curves at this width; angled phase names take almost an inch more."""
    return 6.6 if names_fit(run, width) else 7.4


def names_fit(run: dict, width: float) -> bool:
    """Return whether the phases' names fit in two lines above a panel."""
    spans = phase_spans(run["metrics"], column(run["metrics"], "epoch"))
    return not spans or lanes_of(spans, panel_inches(width) / (1.02 * spans[-1][2])) is not None


def panel_inches(width: float) -> float:
    """Return the width of each of two panels side by side."""
    return (width - 1.8) / 2


def draw_curves(fig, run: dict, top: float, across: float) -> None:
    """Draw loss and accuracy over epochs, learning rates and image size over steps, with a band for each phase.

    `top`: inches from the upper edge; `across`: inches from the left edge that the curves may take.
    """
    import numpy as np

    rows = run["metrics"]
    steps, epochs = column(rows, "step"), column(rows, "epoch")
    width = panel_inches(across)
    first = top + (0.45 if names_fit(run, across) else 1.25)
    places = [(left, y) for y in (first, first + 3.2) for left in (0.8, width + 1.65)]
    panels = [axes_at(fig, left, y, width, 2.45) for left, y in places]
    for axes, x in zip(panels, (epochs, epochs, steps, steps), strict=True):
        last = np.nanmax(x) if np.isfinite(x).any() else 1.0
        axes.set_xlim(0, last * 1.02 or 1.0)
        shade_phases(axes, phase_spans(rows, x))
    for axes in panels[:2]:
        name_phases(axes, phase_spans(rows, epochs), width)
    draw_loss(panels[0], rows, epochs)
    draw_accuracy(panels[1], rows, epochs)
    mark_best(panels[0], run, epochs, "valid/loss", "loss {:.4f}")
    mark_best(panels[1], run, epochs, "valid/accuracy", "accuracy {:.1%}")
    draw_rates(panels[2], rows, steps)
    draw_sizes(panels[3], rows, steps)
    for axes, label in zip(panels, ("epoch", "epoch", "optimizer step", "optimizer step"), strict=True):
        axes.set_xlabel(label)
        axes.locator_params(axis="x", integer=True)
        axes.grid(True, axis="y")
        if not any(len(line.get_xdata()) for line in axes.lines):
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", alpha=0.6)
        elif axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)


def phase_spans(rows: list[dict], x) -> list[tuple[str, float, float]]:
    """Return (name, start, end) of every phase that has a width on the axis `x`, in order."""
    spans, start = [], 0.0
    for name, group in groupby(range(len(rows)), lambda i: rows[i].get("phase")):
        end = max((float(x[i]) for i in group if math.isfinite(x[i])), default=start)
        if name and end > start:
            spans.append((str(name), start, end))
        start = max(start, end)
    return spans


def by_phase(rows: list[dict], x, key: str):
    """Yield the points (x, y) of a key for each phase, so that lines of different phases are not joined."""
    import numpy as np

    y = column(rows, key)
    for _, group in groupby(range(len(rows)), lambda i: rows[i].get("phase")):
        at = [i for i in group if math.isfinite(x[i]) and math.isfinite(y[i])]
        if at:
            yield np.asarray(x)[at], y[at]


def draw_loss(axes, rows, epochs) -> None:
    """Draw training loss (batches pale, epochs) and validation loss; the axis is log if they span more than 1 : 30."""
    import numpy as np

    axes.plot(epochs, column(rows, "train/batch_loss"), ".", color=TRAIN, alpha=0.3, markersize=4)
    for key, colour, label in (("train/loss", TRAIN, "training"), ("valid/loss", VALID, "validation")):
        for i, (x, y) in enumerate(by_phase(rows, epochs, key)):
            axes.plot(x, y, "o-", color=colour, markersize=3.5, label=None if i else label)
    shown = np.concatenate([column(rows, key) for key in ("train/batch_loss", "train/loss", "valid/loss")])
    shown = shown[np.isfinite(shown) & (shown > 0)]
    if len(shown) and shown.max() > 30 * shown.min():
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
    axes.set_ylabel("loss")


def draw_accuracy(axes, rows, epochs) -> None:
    """Draw the validation accuracy."""
    from matplotlib.ticker import PercentFormatter

    for i, (x, y) in enumerate(by_phase(rows, epochs, "valid/accuracy")):
        axes.plot(x, y, "o-", color=VALID, markersize=3.5, label=None if i else "validation")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("accuracy")


def mark_best(axes, run, epochs, key: str, form: str) -> None:
    """Mark the snapshot that was exported: at the epoch `best/epoch`, else at the highest accuracy."""
    import numpy as np

    y, wanted = column(run["metrics"], key), as_number(run["result"].get("best/epoch"))
    distance = -column(run["metrics"], "valid/accuracy") if math.isnan(wanted) else np.abs(epochs - wanted)
    distance = np.where(np.isfinite(y) & np.isfinite(epochs), distance, np.nan)
    if not np.isfinite(distance).any():
        return
    i = int(np.nanargmin(distance))
    axes.axvline(epochs[i], color=BEST, linewidth=1, alpha=0.7)
    label = f"exported: epoch {epochs[i]:.4g}, {form.format(y[i])}"
    axes.plot(epochs[i], y[i], "o", color=BEST, markersize=10, markerfacecolor="none", markeredgewidth=2, label=label)


def draw_rates(axes, rows, steps) -> None:
    """Draw the learning rate of every recorded group. A phase that trains only the head has one group."""
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
    for i, (name, colour) in enumerate(zip(group_names(most), group_colours(most), strict=True)):
        if curves and (most <= 6 or i in (0, most - 1)):
            axes.plot([], [], color=colour, label=name)
    rate_axis(axes, curves)
    axes.set_ylabel("learning rate")


def draw_sizes(axes, rows, steps) -> None:
    """Draw the image size in pixels."""
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
    axes.set_ylabel("image size (pixels)")
