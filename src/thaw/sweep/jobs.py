"""The jobs of a sweep, read from their folders: overrides, state, result."""

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from thaw.config.conf_files import part, read_yaml
from thaw.config.overrides import split_override, split_values
from thaw.config.run_names import SEEDS, key_and_value, setting_of
from thaw.runtime.errors import UserError
from thaw.runtime.files import as_number, read_result, short_path
from thaw.runtime.job_status import is_gone, read_status

RUNG = "stop_after="  # the override that hydra/sweeper=halving adds to the jobs of all rungs but the last
STOPPED = (129, 130, 143)  # exit codes of a closed terminal, Ctrl-C and kill
DEFAULT_MONITOR = "valid/accuracy"
MOST_VALUES = 100_000  # longer ranges are not counted


@dataclass(frozen=True)
class JobRecord:
    """One job of a sweep, or a single run."""

    folder: Path
    state: str  # done, failed, stopped (by a signal), running, dead (the process is gone without a status), waiting
    overrides: tuple[str, ...]
    code: int  # exit code: 0 unless it failed or died
    line: str  # error message if it failed
    result: dict  # contents of result.json; empty until the job is done
    waits_for: str = ""  # the artifact that this job waits for while another job makes it

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def choices(self) -> tuple[str, ...]:
        return setting_of(self.overrides)

    @property
    def seed(self) -> tuple[str, ...]:
        """The overrides of seed and fold."""
        return tuple(o for o in self.overrides if o.startswith(SEEDS))

    @property
    def log(self) -> Path:
        """The file with the most details of how the job ended."""
        files = (self.folder / name for name in ("train.log", "output.txt", "status.json"))
        return next((file for file in files if file.exists()), self.folder)


def read_jobs(folder: Path) -> list[JobRecord]:
    """Return the jobs of a sweep's folder by number, or the one job of a run's folder.

    Raise UserError (exit 6) if the folder is neither.
    """
    if (folder / "status.json").exists():
        return [read_job(folder)]
    found = [path for path in folder.glob("*/") if (path / "status.json").exists() or (path / ".hydra").is_dir()]
    if not folder.exists():
        raise UserError(6, f"{short_path(folder)}: no such folder")
    if not found:
        raise UserError(6, f"{folder}: no sweep and no run found (no status.json in it or one level below)")
    return latest_rungs([read_job(path) for path in sorted(found, key=by_number)])


def single_run(folder: Path) -> JobRecord:
    """Return the job in the folder of a run. Raise UserError (exit 6) if the folder is a sweep or neither."""
    jobs = read_jobs(folder)
    if not (folder / "status.json").exists():
        example = short_path(jobs[0].folder)
        raise UserError(6, f"{short_path(folder)}: this is a sweep; name one of its jobs, e.g. {example}")
    return jobs[0]


def latest_rungs(jobs: Sequence[JobRecord]) -> list[JobRecord]:
    """Return the jobs without those that a later rung of hydra/sweeper=halving continues.

    The seconds paid by all rungs of a job are added up.
    """
    rungs: dict[tuple, list[JobRecord]] = {}
    for job in jobs:
        rungs.setdefault(tuple(o for o in job.overrides if not o.startswith(RUNG)), []).append(job)
    last = {}
    for same in rungs.values():
        if not any(o.startswith(RUNG) for job in same for o in job.overrides):
            last |= {id(job): job for job in same}
            continue
        paid = [as_number(job.result.get("cost/seconds_paid")) for job in same if job.result]
        result = same[-1].result | ({"cost/seconds_paid": math.fsum(paid)} if same[-1].result else {})
        last[id(same[-1])] = replace(same[-1], result=result)
    return [last[id(job)] for job in jobs if id(job) in last]


def rung_of(job: JobRecord) -> float:
    """Return the number of cycles after which hydra/sweeper=halving stopped a job; inf if it did not."""
    rungs = (as_number(o.removeprefix(RUNG)) for o in job.overrides if o.startswith(RUNG))
    return next((rung for rung in rungs if not math.isnan(rung)), math.inf)


def by_number(folder: Path) -> tuple:
    """Return a sort key: numbered folders by number, then the others by name."""
    return (0, int(folder.name), "") if folder.name.isdecimal() else (1, 0, folder.name)


def read_job(folder: Path) -> JobRecord:
    """Return the job in a folder."""
    status = read_status(folder)
    state, code, line = status.get("state", "waiting"), status.get("code", 0), status.get("line", "")
    if state == "failed" and code in STOPPED:
        state = "stopped"
    if state == "running" and is_gone(status, (folder / "status.json").stat().st_mtime):
        state, code = "dead", 5
        line = f"killed or lost with its machine: process {status.get('pid', '?')} is gone and left no error"
    overrides = status.get("overrides") or hydra_overrides(folder)
    result = read_result(folder) if state == "done" else {}
    waits_for = status.get("waits_for") if state == "running" else None
    return JobRecord(folder, state, tuple(overrides), code, line, result, waits_for or "")


def hydra_overrides(folder: Path) -> list[str]:
    """Read the overrides that Hydra wrote for a job before it started."""
    return texts(part(read_yaml(folder / ".hydra/overrides.yaml"), kind=list))


def monitor_of(jobs: Iterable[JobRecord]) -> str:
    """Return the value that the sweep ranks its jobs by: `monitor` as composed by Hydra, else as typed."""
    for job in jobs:
        if composed := part(read_yaml(job.folder / ".hydra/config.yaml"), "monitor", kind=str):
            return composed
        for sign, key, value in map(split_override, job.overrides):
            if not sign and key == "monitor" and value:
                return value
    return DEFAULT_MONITOR


def monitored_value(job: JobRecord, monitor: str) -> float:
    """Return the monitored value of a finished job, such as valid/accuracy or test/accuracy; nan if it has none."""
    split, _, name = monitor.partition("/")
    return as_number(job.result.get(monitor if split == "test" else f"best/{name}"))


def search_value(folder: Path, monitor: str) -> float:
    """Return the monitored value of a job as a search sees it: the worst possible value if the job has none."""
    value = monitored_value(read_job(folder), monitor)
    if math.isnan(value):
        return math.inf if monitor.endswith("loss") else 0.0
    return value


def planned_jobs(folder: Path) -> int | None:
    """Return the number of different jobs that a sweep will have, from its multirun.yaml; None if it is unknown.

    It is known for searches, which set `n_trials`, and for Hydra's basic sweeper.
    """
    sweeper = part(read_multirun(folder), "sweeper")
    if (trials := part(sweeper, "n_trials", kind=str)).isdecimal():
        return int(trials)
    counts = [len(values) for values in asked_values(folder).values()]
    if not counts or 0 in counts or not part(sweeper, "_target_", kind=str).endswith(".BasicSweeper"):
        return None
    return math.prod(counts)


def keys_swept_in(folder: Path) -> set[str]:
    """Return the keys for which a sweep has several values or a search space."""
    return {key for key, values in asked_values(folder).items() if len(values) != 1}


def asked_values(folder: Path) -> dict[str, set[str]]:
    """Return the values of each key of a sweep from its multirun.yaml; no values for a key if they cannot be listed.

    What was typed comes last, so that it replaces what an experiment sets.
    """
    values = [(key, str(value)) for key, value in part(read_multirun(folder), "sweeper", "params").items()]
    values += [split_override(override)[1:] for override in overrides_in(folder)]
    return {key: values_in(value or "") for key, value in values}


def overrides_in(folder: Path) -> list[str]:
    """Return the overrides that were typed for a sweep."""
    return texts(part(read_multirun(folder), "overrides", "task", kind=list))


def texts(values: Iterable) -> list[str]:
    """Return those values that are strings: a damaged file may hold anything."""
    return [value for value in values if isinstance(value, str)]


def read_multirun(folder: Path) -> dict:
    """Return Hydra's own settings of a sweep from multirun.yaml, which the sweeper writes."""
    return part(read_yaml(folder / "multirun.yaml"), "hydra")


def progress_line(folder: Path) -> str:
    """Return a line with the number of finished jobs, for a sweep that was stopped."""
    states = [read_status(file.parent).get("state") for file in folder.glob("*/status.json")]
    total = max(len(states), planned_jobs(folder) or 0)
    return f"sweep: {states.count('done')}/{total or '?'} jobs done, in {short_path(folder)}"


def values_in(value: str) -> set[str]:
    """Return the values of a sweep such as `a,b`, `choice(a,b)` or `range(0,3)`; none if they cannot be listed."""
    if found := re.fullmatch(r"range\(([-\d, ]+)\)", value):
        with suppress(ValueError, TypeError):  # an invalid range, which Hydra refuses too
            numbers = range(*map(int, found[1].split(",")))
            return set(map(str, numbers)) if len(numbers) <= MOST_VALUES else set()
        return set()
    if re.match(r"(glob|interval|range|tag)\(", value):
        return set()
    inner = re.fullmatch(r"(?:choice|shuffle|sort)\((.*)\)", value)
    return set(split_values(inner[1] if inner else value))


def swept_keys(jobs: Sequence[JobRecord]) -> list[str]:
    """Return the keys in which the settings of these jobs differ, in the order typed."""
    all_choices = [dict(key_and_value(o) for o in job.choices) for job in jobs]
    keys = dict.fromkeys(key for one in all_choices for key in one)
    return [key for key in keys if len({one.get(key, "") for one in all_choices}) > 1]
