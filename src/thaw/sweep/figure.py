"""The figures of a sweep: settings against seconds, effects of the swept keys, learning curves of all jobs."""

import math
from collections.abc import Callable

from thaw.report.style import BEST, GROUP_COLOURS, INK, TRAIN, VALID, axes_at, figure, plain_ticks, shortened
from thaw.runtime.files import as_number, read_jsonl
from thaw.sweep.board import Board, is_share
from thaw.sweep.rank import Effect

COLOURS = (VALID, TRAIN, BEST, *GROUP_COLOURS[1::2], "#00a6a6", "#b0568f", "#7a6a4f")  # of the best settings, in order
NAMED = 12  # settings whose names are listed below the figure
ROW = 0.3  # height of an effect's row in inches


def leaderboard_figure(board: Board):
    """Draw the monitored value against seconds with the Pareto front; main effects beside it, names below it."""
    lines = sum(1 for _ in rows_of(board.effects))
    height = max(3.6, ROW * lines)
    names = [f"{i + 1}  {board.settings[i].name}" for i in named_settings(board)]
    if rest := len(board.settings) - len(names):
        names.append(f"and {rest} more in leaderboard.md")
    columns = 2 if len(names) > 4 and max(map(len, names)) < 70 else 1
    each = math.ceil(len(names) / columns)
    width = 12.5 if board.effects else 7.4
    fig = figure(width, height + 1.15 + 0.2 * each)
    draw_settings(fig, board, 6.1, height)
    if board.effects:
        draw_effects(fig, board, 8.9, 3.4, ROW * lines)
    for i, name in enumerate(names):
        x, y = 0.3 + (i // each) * width / columns, height + 1.15 + 0.2 * (i % each)
        fig.text(x / width, 1 - y / fig.get_figheight(), shortened(name, int(13 * width / columns)), fontsize=8.5)
    return fig


def draw_settings(fig, board: Board, width: float, height: float) -> None:
    """Draw each setting as a mark with its rank and an error bar over jobs; close marks share one label."""
    axes = axes_at(fig, 1.0, 0.4, width, height)
    drawn = [(i, s) for i, s in enumerate(board.settings) if not math.isnan(s.mean) and not math.isnan(s.seconds)]
    front = [board.settings[i] for i in board.front]
    axes.plot([s.seconds for s in front], [s.mean for s in front], color=BEST, linewidth=1.5, alpha=0.6, zorder=1)
    for i, setting in reversed(drawn):
        colour, spread = BEST if i in board.front else TRAIN, setting.deviation
        spread = None if math.isnan(spread) else spread
        axes.errorbar(
            setting.seconds, setting.mean, spread, fmt="o", color=colour, capsize=3, markersize=6.5, alpha=0.9
        )
    seconds = [s.seconds for _, s in drawn if s.seconds > 0]
    if seconds and max(seconds) > 3 * min(seconds):
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
    value_axis(axes.yaxis, board)
    axes.margins(0.1, 0.14)
    axes.set_xlabel("seconds per job, as if nothing had been reused")
    bars = ", mean ± standard deviation" if any(len(s.values) > 1 for _, s in drawn) else ""
    axes.set_ylabel(board.monitor + bars)
    axes.grid(True)
    axes.set_title("green: Pareto front (no other is both better and faster)")
    if not drawn:
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", alpha=0.6)
    axes.autoscale_view()
    if is_share(board.monitor) and axes.get_ylim()[1] > 1:
        axes.set_ylim(top=1 + 0.05 * (1 - axes.get_ylim()[0]))  # an error bar may reach above 100%
    shown = [(i + 1, (s.seconds, s.mean)) for i, s in drawn if i in named_settings(board)]
    for at, ranks in join_marks(shown, lambda at: axes.transData.transform(at) / fig.dpi):
        text = ", ".join(map(str, ranks[:3])) + ("…" if len(ranks) > 3 else "")
        axes.annotate(text, at, (5, 4), textcoords="offset points", fontsize=8, fontweight="bold")


def named_settings(board: Board) -> list[int]:
    """Return the indices of the settings that are named: the best ones and the Pareto front."""
    return sorted({*range(min(len(board.settings), NAMED)), *board.front})


def join_marks(marks: list[tuple], inches: Callable) -> list[tuple[tuple, list[int]]]:
    """Join marks (rank, place) whose labels would overlap that of a better one; return (place, ranks) of each group."""
    groups = []
    for rank, place in marks:
        near = [group for group in groups if (abs(inches(group[0]) - inches(place)) < (0.35, 0.14)).all()]
        if near:
            near[0][1].append(rank)
        else:
            groups.append((place, [rank]))
    return groups


def value_axis(axis, board: Board) -> None:
    """Format an axis of the monitored value: shares as percentages."""
    if is_share(board.monitor):
        from matplotlib.ticker import PercentFormatter

        axis.set_major_formatter(PercentFormatter(1, None))


def rows_of(effects: list[Effect]):
    """Yield (key, effect) in order, and (key, None) as a heading before the effects of each key."""
    last = None
    for effect in effects:
        if effect.key != last:
            last = effect.key
            yield effect.key, None
        yield effect.key, effect


def draw_effects(fig, board: Board, left: float, width: float, height: float) -> None:
    """Draw a row for each value of each swept key: mean and standard error, averaged over the other keys."""
    axes = axes_at(fig, left, 0.4, width, height)
    labels, marks = [], []
    for y, (key, effect) in enumerate(rows_of(board.effects)):
        if effect is None:
            labels.append(shortened(key, 30))
            continue
        labels.append(shortened(effect.value, 26))
        error = None if math.isnan(effect.error) else effect.error
        marks.append(y)
        axes.errorbar(effect.mean, y, xerr=error, fmt="o", color=TRAIN, capsize=2.5, markersize=6)
    axes.set_yticks(range(len(labels)), labels, fontsize=8.5)
    for y, text in enumerate(axes.get_yticklabels()):
        if y not in marks:
            text.set_fontweight("bold")
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    value_axis(axes.xaxis, board)
    axes.margins(x=0.12)
    axes.autoscale_view()
    if is_share(board.monitor) and axes.get_xlim()[1] > 1:
        axes.set_xlim(right=1 + 0.05 * (1 - axes.get_xlim()[0]))
    axes.locator_params(axis="x", nbins=5)
    axes.grid(True, axis="x")
    axes.set_xlabel(board.monitor)
    axes.set_title("mean over the other keys ± standard error")


def curves_figure(board: Board):
    """Draw validation accuracy and loss of every job over epochs: the best settings in colour, the others in grey."""
    chosen = board.settings[: len(COLOURS)]
    listed = len(chosen) + (len(board.settings) > len(chosen))
    fig = figure(11, 3.6 + 0.2 * listed)
    panels = [axes_at(fig, left, 0.15, 4.55, 2.9) for left in (0.8, 6.2)]
    for axes, key in zip(panels, ("valid/accuracy", "valid/loss"), strict=True):
        for i in reversed(range(len(board.settings))):
            for job in board.settings[i].jobs:
                rows = [
                    (as_number(r.get("epoch")), as_number(r.get(key))) for r in read_jsonl(job.folder / "metrics.jsonl")
                ]
                rows = [row for row in rows if not any(map(math.isnan, row))]
                look = {"color": COLOURS[i], "alpha": 0.85} if i < len(chosen) else {"color": INK, "alpha": 0.15}
                axes.plot([x for x, _ in rows], [y for _, y in rows], linewidth=1.3, **look)
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
        axes.set_ylabel(key)
        axes.grid(True, axis="y")
        if not axes.lines:
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", alpha=0.6)
    from matplotlib.ticker import PercentFormatter

    panels[0].yaxis.set_major_formatter(PercentFormatter(1, None))
    losses = [y for line in panels[1].lines for y in line.get_ydata() if y > 0]
    if losses and max(losses) > 30 * min(losses):
        panels[1].set_yscale("log")
        plain_ticks(panels[1].yaxis)
    across, down = fig.get_size_inches()
    names = [(f"{i + 1}  {shortened(s.name, 110)}", COLOURS[i]) for i, s in enumerate(chosen)]
    names += [(f"the other {len(board.settings) - len(chosen)}", INK)] if len(board.settings) > len(chosen) else []
    for line, (name, colour) in enumerate(names):
        y = 1 - (3.72 + 0.2 * line) / down
        fig.text(0.8 / across, y, "━━", color=colour, fontsize=9, va="center")
        fig.text(1.15 / across, y, name, fontsize=8.5, va="center")
    return fig
