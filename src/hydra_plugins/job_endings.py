"""The lines that a sweep prints when its jobs end."""

import math
import signal
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thaw.config import run_names
from thaw.config.run_names import key_and_value
from thaw.runtime.console import say, say_error
from thaw.runtime.errors import UserError
from thaw.runtime.files import as_number, format_duration, short_path
from thaw.runtime.job_status import print_error, read_status, update_status
from thaw.sweep.jobs import read_job


@dataclass
class Progress:
    """The number of jobs that have ended, and when the others should; `swept`: the keys in which they differ.

    `done`: how many jobs were done before. They end at once, and do not count for the time.
    """

    total: int
    swept: Collection[str]
    done: int = 0
    ended: int = 0
    ended_now: int = 0  # those that were not done before
    began: float = field(default_factory=time.monotonic)

    def count(self, ran: bool) -> str:
        """Count one more job; return the end of its line. `ran`: it was not done before."""
        self.ended, self.ended_now = self.ended + 1, self.ended_now + ran
        if self.total == 1:  # a search starts one after the other
            return ""
        still = self.total - self.done - self.ended_now
        left = (time.monotonic() - self.began) / self.ended_now * still if self.ended_now else 0
        return f" ({self.ended} of {self.total}{f', about {format_duration(left)} left' if left >= 1 else ''})"


def report_ending(folder: Path, code: int, log: Path | None, progress: Progress, wrote: bool = True) -> int:
    """Report a job's outcome if it could not itself or printed to `log`; return its exit code.

    `code`: negative if a signal killed the job. `wrote`: whether this attempt has written a status; if not, the status
    in the folder is that of an earlier attempt.
    """
    counted = progress.count(wrote)
    found = read_status(folder)
    if code < 0 and not (wrote and found.get("state") == "done"):
        line = f"killed by signal {-code}{', possibly out of memory' if code == -signal.SIGKILL else ''}"
        update_status(folder, state="failed", code=5, line=line)
        return print_error(UserError(5, f"job {folder.name}: {line}; run the same command again to retry it"))
    if code > 0:
        if found.get("state") not in ("failed", "stopped"):
            found = update_status(folder, state="failed", code=code, line=f"exited with code {code} and no message")
        if log:
            say_error(f"error: job {folder.name}: {found['line']}; see {short_path(log)}")
    elif log:
        result = read_job(folder).result
        accuracy, seconds = as_number(result.get("best/accuracy")), as_number(result.get("cost/seconds_paid"))
        reached = "" if math.isnan(accuracy) else f": accuracy {accuracy:.2%}, {format_duration(seconds)}"
        warnings = len(result.get("warnings") or ())
        reached += f", {warnings} warning{'s' * (warnings > 1)} in {short_path(log)}" if warnings else ""
        name = job_name([o for o in found.get("overrides", []) if key_and_value(o)[0] in progress.swept])
        say(f"job {folder.name} {'done' if wrote else 'was done before'}: {name}{reached}{counted}")
    return max(code, 0)


def job_name(overrides: Sequence[str]) -> str:
    """Return the short name of a job's overrides without those of Hydra."""
    return run_names.short_name([o for o in overrides if not o.startswith("hydra")]) or "default"
