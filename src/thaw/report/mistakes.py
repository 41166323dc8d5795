"""The mistakes of a run: the confusion matrix and the images with the most confident mistakes."""

import math

from thaw.report.run_files import LARGEST, confusion_matrix, most_confused
from thaw.report.style import INK, TRAIN, VALID, axes_at, figure, shortened

NAMEABLE = 40  # classes up to which a confusion matrix has class names on its axes
READABLE = 20  # classes up to which it has counts in its cells


def confusion_figure(run: dict):
    """Return a figure of the confusion matrix alone, for the page."""
    side = matrix_inches(len(run["classes"]))
    names, size, flat, inner = matrix_layout(run["classes"], side)
    longest = max(map(len, names), default=0)
    fig = figure(side, inner + 1.0 + (0 if flat else 0.45 * size / 72 * longest))
    draw_confusion(fig, run, 0, 0, side)
    return fig


def matrix_inches(classes: int) -> float:
    """Return the side of a confusion matrix: large if many classes are named, else half a page."""
    return 9.0 if 12 < classes <= NAMEABLE else 5.4


def matrix_layout(classes: list[str], side: float) -> tuple[list[str], int, bool, float]:
    """Return the class names ([] if too many), their font size, whether the x labels lie flat, and the square's side.

    `side`: inches available for the square and the names at its left.
    """
    n = len(classes)
    names = [shortened(name, 20) for name in classes] if n <= NAMEABLE else []
    size = 9 if n <= 12 else 8 if n <= READABLE else 6
    longest = max(map(len, names), default=0)
    return names, size, longest * n <= 40, side - 0.65 - 0.62 * size / 72 * longest


def draw_confusion(fig, run: dict, left: float, top: float, side: float) -> None:
    """Draw the confusion matrix. Rows are true classes; correct predictions are blue, mistakes red.

    The colour's strength is the square root of the share of the row, so that rare mistakes are visible. Counts and
    class names are left out if they would be too small to read; above LARGEST classes, mistakes are listed instead.
    """
    import numpy as np
    from matplotlib.colors import to_rgb

    n = len(run["classes"])
    if n > LARGEST:
        axes = axes_at(fig, left, top, side, side)
        axes.set_axis_off()
        lines = [f"{shortened(a, 26)} → {shortened(b, 26)}  {c}" for a, b, c in most_confused(run["confusion"], 20)]
        title = f"{n:,} classes, most frequent mistakes: true → predicted  images"
        axes.text(0.1, 0.95, "\n".join([title, "", *lines]), va="top", linespacing=1.5)
        return
    names, size, flat, inner = matrix_layout(run["classes"], side)
    axes = axes_at(fig, left + side - inner - 0.15, top + 0.35, inner, inner)
    counts = np.array(confusion_matrix(run["confusion"], run["classes"]), dtype=float).reshape(n, n)
    strength = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    colours = np.empty((n, n, 4))
    colours[..., :3], colours[..., 3] = to_rgb(VALID), strength
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
        axes.plot([], [], "s", color=TRAIN, label="correct")
        axes.plot([], [], "s", color=VALID, label="wrong")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.08), ncols=2)
    among = "" if names else f" ({n} classes, in order)"
    axes.set_xlabel("predicted class" + among)
    axes.set_ylabel("true class" + among)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_alpha(0.3)


def draw_wrong(fig, run: dict, left: float, top: float, side: float) -> None:
    """Draw the most confident mistakes in a grid, each with its true class, its predicted class and the probability."""
    axes = axes_at(fig, left, top, side, side)  # the unit is an inch, from the upper left
    axes.set_axis_off()
    wrong = run["wrong"]
    axes.text(side / 2, 0, "most confident mistakes: true → predicted class, probability", ha="center")
    columns = max(2, math.ceil(math.sqrt(len(wrong))))
    cell = (side - 0.1) / columns
    most = cell - 0.5  # the longer side of an image
    letters = int(14 * cell)  # that fit above an image
    for i, (row, image) in enumerate(zip(wrong, run["images"], strict=True)):
        x, y = cell * (i % columns + 0.5), 0.5 + (cell - 0.05) * (i // columns) + most / 2  # the middle of the image
        down = 0.15  # half the height of the image, or of "no image"
        if image is None:
            axes.text(x, y, "no image", ha="center", va="center", alpha=0.6)
        else:
            down, across = (most * edge / max(image.shape[:2]) / 2 for edge in image.shape[:2])
            smooth = "nearest" if max(image.shape[:2]) < 100 else "antialiased"
            axes.imshow(image, extent=(x - across, x + across, y + down, y - down), interpolation=smooth)
        percent = "" if math.isnan(row["confidence"]) else f", {row['confidence']:.0%}"
        title = f"{shortened(row['truth'], letters)}\n→ {shortened(row['prediction'], letters - 6)}{percent}"
        axes.text(x, y - down - 0.05, title, ha="center", va="bottom", fontsize=8)
    axes.set_xlim(0, side)
    axes.set_ylim(side, 0)
