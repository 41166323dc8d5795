"""The figure of a learning rate finder's curve."""

import math
import textwrap

from thaw.report.run_files import as_array
from thaw.report.style import INK, PAPER, TRAIN, VALID, axes_at, figure, image_style, plain_ticks
from thaw.runtime.files import as_number

LABELS = {"lowest": "lowest loss"}  # of the suggestions in find_*.json


def finder_png(found: dict, path) -> None:
    """Draw a finder's curve into a file.

    `found`: phase, rates, losses, smoothed (lists), suggestions (rule to rate or None), rule, taken (rate), reason,
    levels (name to loss).
    """
    with image_style():
        finder_figure(found).savefig(path, dpi=120)


def finder_figure(found: dict, width: float = 8.0):
    """Draw the loss over the learning rate, with lines at named losses, suggested rates and, bold, the chosen rate."""
    rates = as_array(found.get("rates") or [])
    losses = as_array(found.get("losses") or [])
    smoothed = as_array(found.get("smoothed") or [])
    reason = textwrap.fill(str(found.get("reason") or ""), int(13.5 * width))
    lines = 1 + reason.count("\n")
    height = 0.4 * width + 0.9 + 0.15 * lines
    fig = figure(width, height)
    axes = axes_at(fig, 0.75, 0.4 + 0.15 * lines, width - 0.9, height - 0.95 - 0.15 * lines)
    trials = found.get("rule") == "trials"
    if trials:
        axes.plot(rates[: len(losses)], losses[: len(rates)], "o-", color=VALID, linewidth=2, label="a trial")
    else:
        axes.plot(rates[: len(losses)], losses[: len(rates)], ".", color=TRAIN, alpha=0.35, label="batch")
        axes.plot(rates[: len(smoothed)], smoothed[: len(rates)], color=TRAIN, linewidth=2, label="smoothed")
    axes.set_xscale("log")
    plain_ticks(axes.xaxis)
    if trials and len(rates):  # few, and each of them matters
        axes.set_xticks(rates, [f"{rate:.1g}" for rate in rates])
    levels = {name: loss for name, loss in (found.get("levels") or {}).items() if as_number(loss) > 0}
    if levels and not (losses <= 0).any():  # the loss of a trial that the network does not bear is many times higher
        axes.set_yscale("log")
        plain_ticks(axes.yaxis, subs=(1.0, 2.0, 5.0))
        axes.margins(y=0.15)
    else:
        limit_losses(axes, losses, smoothed, tight=trials)
    for name, loss in levels.items():
        axes.axhline(loss, color=INK, lw=1, ls=":", alpha=0.5)
        axes.annotate(name, (1, loss), (-4, 2), ("axes fraction", "data"), "offset points", ha="right", fontsize=8)
    axes.set_xlabel("learning rate")
    axes.set_ylabel(str(found.get("measure") or "loss"))
    axes.grid()
    mark_rates(axes, found)
    axes.legend(loc="lower left", fontsize=8)
    axes.set_title(str(found.get("phase") or "finder"), pad=7 + 10.8 * lines)
    axes.annotate(
        reason, (0, 1), (0, 4), "axes fraction", textcoords="offset points", va="bottom", alpha=0.75, fontsize=8.5
    )
    return fig


def limit_losses(axes, losses, smoothed, tight: bool) -> None:
    """Limit the y axis to the range between the lowest loss and the first one: losses explode at the last points.

    `tight`: leave no room for noise, as for trials, whose curve ends soon after its loss
    exceeds the first one.
    """
    import numpy as np

    seen, raw = smoothed[np.isfinite(smoothed)], losses[np.isfinite(losses)]
    if not (len(seen) and len(raw)):
        return
    lowest, start = seen.min(), seen[0]
    if tight:
        span = max(start - lowest, 0.02 * abs(start), 1e-6)
        axes.set_ylim(min(lowest, raw.min()) - 0.25 * span, start + 0.6 * span)
        return
    span = max(start - lowest, 0.4 * abs(lowest), 1e-6)
    low, high = np.quantile(raw[: math.ceil(0.8 * len(raw))], (0.02, 0.95))
    top = max(min(seen.max(), lowest + 1.6 * span), start, min(high, lowest + 3 * span))
    bottom = min(lowest, low)
    axes.set_ylim(bottom - 0.06 * (top - bottom), top + 0.3 * (top - bottom))


def mark_rates(axes, found: dict) -> None:
    """Draw a labelled line at each rule's suggestion, and a bold one at the chosen rate."""
    marks = [
        (f"{LABELS.get(rule, rule)}: {rate:.2g}", rate, False)
        for rule, rate in (found.get("suggestions") or {}).items()
        if as_number(rate) > 0 and not (rule == found.get("rule") and rate == found.get("taken"))
    ]
    if as_number(found.get("taken")) > 0:
        marks.append((f"chosen: {found['taken']:.3g} ({found.get('rule', '')})", found["taken"], True))
    low, high = (math.log(edge) for edge in axes.get_xlim())
    for i, (label, rate, strong) in enumerate(sorted(marks, key=lambda mark: mark[1])):
        colour = VALID if strong else INK
        axes.axvline(rate, color=colour, **({"lw": 2} if strong else {"lw": 1, "ls": "--", "alpha": 0.5}))
        place = (math.log(rate) - low) / (high - low)
        # Away from the bold line, but inside the figure.
        late = place > 0.85 or (place > 0.45 and rate <= as_number(found.get("taken")))
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
