"""The words and numbers in which all forms of a leaderboard say it."""

import math
from collections import Counter

from thaw.config import run_names
from thaw.runtime.files import as_number, phase_results
from thaw.sweep.board import Board, is_share
from thaw.sweep.jobs import JobRecord, rung_of
from thaw.sweep.rank import Effect, Setting

RULE = "tie: at most 2 standard errors from the best, on the same images and seeds"


def value_text(monitor: str, value: float) -> str:
    """A value of `monitor` as people read it."""
    if math.isnan(value):
        return "nan"
    return f"{value:.2%}" if is_share(monitor) else f"{value:.4f}"


def spread_text(monitor: str, value: float) -> str:
    """± an uncertainty of `monitor`; '' where there is none."""
    if math.isnan(value):
        return ""
    return f" ± {100 * value:.2f}" if is_share(monitor) else f" ± {value:.4f}"


def mean_of(board: Board, setting: Setting) -> str:
    """Mean and standard deviation over seeds: 98.61% ± 0.20."""
    return value_text(board.monitor, setting.mean) + spread_text(board.monitor, setting.deviation)


def seeds_of(setting: Setting) -> str:
    """3, or 2 of 3 where a job did not finish."""
    n = len(setting.jobs)
    return str(n) if n == setting.asked else f"{n} of {setting.asked}"


def difference_of(board: Board, i: int) -> str:
    """How the i-th setting differs from the best, in percentage points (of a loss: as it is), or that it is a tie."""
    difference = board.differences[i]
    if i == 0:
        return "best" if not math.isnan(board.settings[0].mean) else ""
    if math.isnan(difference.mean):
        return difference.why
    scale, digits = (100, 2) if is_share(board.monitor) else (1, 4)
    text = f"{scale * difference.mean:+.{digits}f} ± {scale * difference.error:.{digits}f}"
    return f"{text}, tie" if difference.tie else text


def epochs_of(job: JobRecord) -> list[int]:
    """The epochs of each phase that fits."""
    counts = [as_number(phase.get("epochs")) for phase in phase_results(job.result).values()]
    return [int(count) for count in counts if not math.isnan(count)]


def why_of(job: JobRecord) -> str:
    """Why the last phase stopped, without its numbers."""
    reasons = [phase["stopped_because"] for phase in phase_results(job.result).values() if phase.get("stopped_because")]
    return reasons[-1].partition(":")[0] if reasons else ""


def epochs_text(setting: Setting) -> str:
    """20, or 18–20 over seeds."""
    sums = sorted({sum(epochs_of(job)) for job in setting.jobs})
    return "–".join(map(str, {sums[0]: 0, sums[-1]: 0}))


def why_text(setting: Setting) -> str:
    """Why its jobs stopped, with how many of them where they differ."""
    counts = Counter(why_of(job) for job in setting.jobs)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{why or 'unknown'} ({n})" for why, n in counts.most_common())


def number_text(job: JobRecord, key: str, form: str) -> str:
    """A number of result.json; 'nan' where it is none."""
    return form.format(as_number(job.result.get(key)))


def seconds_text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def effect_text(board: Board, effect: Effect) -> str:
    return value_text(board.monitor, effect.mean) + spread_text(board.monitor, effect.error)


def cause(job: JobRecord) -> str:
    """Why a job is not done, in a line."""
    if job.state == "waiting":
        return "never started"
    return f"{job.line} (exit {job.code})"


def short_words(board: Board, job: JobRecord) -> str:
    """What sets a job apart: its setting's name and its seed."""
    if job.state == "waiting" and not job.overrides:
        return "?"
    names = {setting.choices: setting.name for setting in board.settings}
    own = names.get(job.choices) or run_names.short_name([o for o in job.choices if o not in board.shared])
    return " · ".join(filter(None, (own, run_names.short_name(list(job.seed))))) or "default"


def notes(board: Board) -> list[str]:
    """What a reader has to know of how the numbers came about."""
    out = [RULE] if len(board.settings) > 1 else []
    if len(board.settings) > 1 and all(len(setting.jobs) == 1 for setting in board.settings):
        out.append("one job a setting: what another seed would change is in none of the errors")
    if any(math.isfinite(rung_of(job)) for job in board.jobs):
        out.append("halving: first the settings that went on to the end, then those given up at a rung, the last first")
    if lacking := [s.name for s in board.settings if len(s.jobs) < s.asked]:
        out.append(f"ranked after those that have all their jobs: {', '.join(lacking)}")
    if not is_share(board.monitor):
        out.append(f"the lowest {board.monitor} is the best")
    elif board.monitor.endswith("f1_macro"):
        out.append("F1 has no value for one image: differences to the best are those of accuracy")
    if names := [s.name for s in board.settings if math.isnan(s.mean)]:
        out.append(f"{board.monitor} is nan for a seed of: {', '.join(names)}; ranked last, in no effect and no front")
    ignoring = [job.name for job in board.jobs if job.result.get("store/code") == "ignore"]
    if ignoring:
        out.append(f"store.code=ignore in job {', '.join(ignoring)}: work of other code may have been used there")
    out += [same_model(alike) for alike in groups_of_one_model(board.settings)]
    tests = board.settings[0].average("test/accuracy") if board.settings else math.nan
    if not math.isnan(tests):
        out.append(f"test accuracy of the best setting, looked at once and used for nothing: {tests:.2%}")
    if unbalanced := dict.fromkeys(effect.key for effect in board.effects if not effect.balanced):
        out.append(f"not every combination is there: plain means for {', '.join(unbalanced)}")
    return out


def groups_of_one_model(settings: list[Setting]) -> list[list[Setting]]:
    """The settings whose jobs kept the same cycle ends, seed by seed, where there is more than one."""
    grouped: dict[tuple, list[Setting]] = {}
    for setting in settings:
        kept = sorted((job.seed, job.result.get("key", "")) for job in setting.jobs)
        if all(key for _, key in kept):
            grouped.setdefault(tuple(kept), []).append(setting)
    return [alike for alike in grouped.values() if len(alike) > 1]


def same_model(alike: list[Setting]) -> str:
    """That what was swept changed nothing that is kept, and how the last phase did with each."""
    job = alike[0].jobs[0]
    phases = [name for name, phase in phase_results(job.result).items() if "accuracy" in phase]
    names = ", ".join(setting.name for setting in alike)
    line = f"one and the same model is kept with {names}: that of {job.result.get('best/phase')}"
    if not phases or phases[-1] == job.result.get("best/phase"):
        return line
    ends = ", ".join(f"{setting.average(f'phase/{phases[-1]}/accuracy'):.2%}" for setting in alike)
    return f"{line}, which {phases[-1]} did not better ({ends})"
