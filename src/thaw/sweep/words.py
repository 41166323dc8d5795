"""Texts that all forms of a leaderboard share: values, differences, reasons, notes."""

import math
from collections import Counter
from statistics import fmean, stdev

from thaw.config import run_names
from thaw.runtime.files import as_number, phase_results
from thaw.sweep.board import Board, is_share
from thaw.sweep.jobs import JobRecord, rung_of
from thaw.sweep.rank import Effect, Setting

MOST_EQUAL = 4  # values listed of settings with equal means
RULE = "tie: within 2 standard errors of the best, on the same images and seeds"


def value_text(monitor: str, value: float) -> str:
    """Return a value of `monitor` as text: 98.61%, or 0.0512 for a loss."""
    if math.isnan(value):
        return "nan"
    return f"{value:.2%}" if is_share(monitor) else f"{value:.4f}"


def spread_text(monitor: str, value: float) -> str:
    """Return ' ± ' and an uncertainty of `monitor`; '' if it is nan."""
    if math.isnan(value):
        return ""
    return f" ± {100 * value:.2f}" if is_share(monitor) else f" ± {value:.4f}"


def mean_of(board: Board, setting: Setting) -> str:
    """Return the mean and standard deviation over jobs: 98.61% ± 0.20."""
    return value_text(board.monitor, setting.mean) + spread_text(board.monitor, setting.deviation)


def seeds_of(setting: Setting) -> str:
    """Return the number of finished jobs: 3, or '2 of 3' if one did not finish."""
    n = len(setting.jobs)
    return str(n) if n == setting.asked else f"{n} of {setting.asked}"


def difference_of(board: Board, i: int) -> str:
    """Return the i-th setting's difference to the best: in percentage points, or as it is for a loss."""
    difference = board.differences[i]
    if i == 0:
        return "best" if not math.isnan(board.settings[0].mean) else ""
    if math.isnan(difference.mean):
        return difference.why
    scale, digits = (100, 2) if is_share(board.monitor) else (1, 4)
    text = f"{scale * difference.mean:+.{digits}f} ± {scale * difference.error:.{digits}f}"
    return f"{text}, tie" if difference.tie else text


def epochs_of(job: JobRecord) -> list[int]:
    """Return the epochs of each phase that trains."""
    counts = [as_number(phase.get("epochs")) for phase in phase_results(job.result).values()]
    return [int(count) for count in counts if not math.isnan(count)]


def why_of(job: JobRecord) -> str:
    """Return why the last phase stopped, without its numbers."""
    reasons = [phase["stopped_because"] for phase in phase_results(job.result).values() if phase.get("stopped_because")]
    return reasons[-1].partition(":")[0] if reasons else ""


def epochs_text(setting: Setting) -> str:
    """Return the epochs per job: 20, or 18–20 if jobs differ."""
    sums = sorted({sum(epochs_of(job)) for job in setting.jobs})
    return "–".join(map(str, {sums[0]: 0, sums[-1]: 0}))


def why_text(setting: Setting) -> str:
    """Return why the jobs of a setting stopped, with a count for each reason if there are several."""
    counts = Counter(why_of(job) for job in setting.jobs)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{why or 'unknown'} ({n})" for why, n in counts.most_common())


def number_text(job: JobRecord, key: str, form: str) -> str:
    """Return a number of result.json as text; 'nan' if it is missing."""
    return form.format(as_number(job.result.get(key)))


def seconds_text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def effect_text(board: Board, effect: Effect) -> str:
    return value_text(board.monitor, effect.mean) + spread_text(board.monitor, effect.error)


def cause(job: JobRecord) -> str:
    """Return why a job is not done, in one line."""
    if job.state == "waiting":
        return "never started"
    return f"{job.line} (exit {job.code})"


def short_words(board: Board, job: JobRecord) -> str:
    """Return the short name of a job: its setting and its seed."""
    if job.state == "waiting" and not job.overrides:
        return "?"
    names = {setting.choices: setting.name for setting in board.settings}
    own = names.get(job.choices) or run_names.short_name([o for o in job.choices if o not in board.shared])
    return " · ".join(filter(None, (own, run_names.short_name(list(job.seed))))) or "default"


def sampling_note(board: Board) -> str:
    """Say how uncertain the best accuracy is because the validation images are a sample; '' if that is unknown.

    Other seeds do not make it smaller. It is the binomial standard error sqrt(p (1 - p) / n).
    """
    best = board.settings[0] if board.settings else None
    n = as_number(best.jobs[0].result.get("n_valid")) if best else math.nan
    if board.monitor != "valid/accuracy" or not n >= 1 or not 0 < best.mean < 1:
        return ""
    error = math.sqrt(best.mean * (1 - best.mean) / n)
    return f"with {n:,.0f} validation images, {best.mean:.2%} has a standard error of {100 * error:.2f}, for any seed"


def notes(board: Board) -> list[str]:
    """Return the notes that a reader needs to interpret the numbers."""
    out = [RULE] if len(board.settings) > 1 else []
    if len(board.settings) > 1 and all(len(setting.jobs) == 1 for setting in board.settings):
        out.append("each setting has one job only: the errors do not include the variation between seeds")
    if note := equals_note(board):
        out.append(note)
    if note := sampling_note(board):
        out.append(note)
    if any(math.isfinite(rung_of(job)) for job in board.jobs):
        out.append("halving: settings that trained to the end are ranked first, then those that were stopped last")
    if lacking := [s.name for s in board.settings if len(s.jobs) < s.asked]:
        out.append(f"ranked after the complete settings because a job is missing: {', '.join(lacking)}")
    if not is_share(board.monitor):
        out.append(f"a lower {board.monitor} is better")
    elif board.monitor.endswith("f1_macro"):
        out.append("a single image has no F1: differences to the best are differences in accuracy")
    if names := [s.name for s in board.settings if math.isnan(s.mean)]:
        out.append(
            f"{board.monitor} is nan for a seed of {', '.join(names)}: "
            "ranked last, left out of the averages and the Pareto front"
        )
    ignoring = [job.name for job in board.jobs if job.result.get("store/code") == "ignore"]
    if ignoring:
        jobs = f"job{'s' * (len(ignoring) > 1)} {', '.join(ignoring)}"
        out.append(f"store.code=ignore in {jobs}: results stored by other versions of the code may have been used")
    out += [same_model(alike) for alike in groups_of_one_model(board.settings)]
    tests = [as_number(job.result.get("test/accuracy")) for job in board.settings[0].jobs] if board.settings else []
    if tests and not math.isnan(sum(tests)):
        spread = spread_text("test/accuracy", stdev(tests) if len(tests) > 1 else math.nan)
        out.append(f"test accuracy of the best setting: {fmean(tests):.2%}{spread} (not used for the ranking)")
    if unbalanced := dict.fromkeys(effect.key for effect in board.effects if not effect.balanced):
        out.append(f"some combinations have no result: the averages for {', '.join(unbalanced)} are plain means")
    return out


def equals_note(board: Board) -> str:
    """Return what decides between the best setting and those with the same mean; '' if it has a mean of its own."""

    def place(setting: Setting) -> tuple:
        return setting.mean, len(setting.jobs) < setting.asked, max(map(rung_of, setting.jobs))

    same = [setting for setting in board.settings if place(setting) == place(board.settings[0])]
    if len(same) < 2:
        return ""
    key, name, form = "best/loss", "validation loss, lower first", "{:.4g}"
    if not is_share(board.monitor):
        key, name, form = "best/accuracy", "validation accuracy, higher first", "{:.2%}"
    values = ", ".join(form.format(setting.average(key)) for setting in same[:MOST_EQUAL])
    more = ", ..." if len(same) > MOST_EQUAL else ""
    value = value_text(board.monitor, board.settings[0].mean)
    return f"{len(same)} settings have {value}: ranked by {name} ({values}{more}), then by seconds"


def groups_of_one_model(settings: list[Setting]) -> list[list[Setting]]:
    """Return the groups of two or more settings whose jobs kept the same models, seed by seed."""
    grouped: dict[tuple, list[Setting]] = {}
    for setting in settings:
        kept = sorted((job.seed, job.result.get("key", "")) for job in setting.jobs)
        if all(key for _, key in kept):
            grouped.setdefault(tuple(kept), []).append(setting)
    return [alike for alike in grouped.values() if len(alike) > 1]


def same_model(alike: list[Setting]) -> str:
    """Return the note that several settings ended with the same model, with each one's accuracy after its last phase.

    This happens if the swept settings affect only phases that did not improve on an earlier one.
    """
    job = alike[0].jobs[0]
    phases = [name for name, phase in phase_results(job.result).items() if "accuracy" in phase]
    names = ", ".join(setting.name for setting in alike)
    line = f"{names} kept the same model, from phase {job.result.get('best/phase')}"
    if not phases or phases[-1] == job.result.get("best/phase"):
        return line
    ends = ", ".join(f"{setting.average(f'phase/{phases[-1]}/accuracy'):.2%}" for setting in alike)
    return f"{line}: phase {phases[-1]} did not improve on it ({ends})"
