"""The preview of a sweep (plan_only=true with -m), which a launcher shows instead of starting the jobs."""

from collections.abc import Sequence
from pathlib import Path

from thaw.config.sources import SOURCES
from thaw.plan.facts import fact_names
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.runtime.files import short_path
from thaw.runtime.job_status import print_error, read_status
from thaw.store.open import open_store
from thaw.sweep import preview


def show(launcher, job_overrides: Sequence[Sequence[str]], at_once: int) -> None:
    """Print what the jobs would do and cost, and write it into the sweep's folder.

    Always raise `preview.PlanOnly`, so that the sweeper launches nothing more.
    """
    folder, sweeper = Path(launcher.config.hydra.sweep.dir), launcher.config.hydra.sweeper
    jobs, codes = [], []

    def refuse(number: int, error: UserError) -> None:
        codes.append(print_error(UserError(error.code, f"job {number}: {error.line}")))

    for number, overrides in enumerate(job_overrides):
        match launcher.checks.outcome(overrides):
            case UserError() as error:
                refuse(number, error)
            case settings:
                jobs.append((number, overrides, settings))
    if jobs:
        store = open_store(jobs[0][2], say)
        count(jobs, store)
        records = [read_status(file.parent) for file in folder.glob("*/status.json")]
        finished = [record.get("overrides", ()) for record in records if record.get("state") == "done"]
        done = [tuple(word for word in own if not word.startswith("--config-dir=")) for own in finished]
        lines = preview.preview_sweep(jobs, store, refuse, done, at_once, int(sweeper.get("n_trials") or 0))
        for line in lines:
            say(line)
        say(f"plan only: {short_path(preview.write_preview(lines, folder))}")
    raise preview.PlanOnly(next(iter(codes), 0))


def count(jobs: Sequence, store) -> None:
    """Scan the user's own images, once per source. Raise UserError (exit 3) if there are none."""
    own = {fact_names(s)[0]: s for _, _, s in jobs if SOURCES[s.data.kind].local}
    if own:
        from thaw.data.scan import scan_ahead

        for settings in own.values():
            scan_ahead(settings, store, say)
