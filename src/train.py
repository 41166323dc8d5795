"""Entry point: command line -> configuration composed by Hydra -> plain dataclasses -> plan -> run.

`python src/train.py --help` lists the settings. Heavy modules (torch, timm, wandb) are imported only after the plan is
printed, so that a typing error or a plan takes only a second.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from thaw.config import command_line, compose
from thaw.config.flags import unchecked_config_dirs
from thaw.config.help import help_text
from thaw.config.hydra_errors import explain
from thaw.config.overrides import quote
from thaw.config.paths import CONF
from thaw.runtime import machine, signals
from thaw.runtime.console import say, say_notes, say_text
from thaw.runtime.entry import TRACES, as_known, run
from thaw.runtime.errors import UserError
from thaw.runtime.failures import causes, is_machine_error, machine_error, machine_failure, names_file
from thaw.runtime.files import short_path
from thaw.runtime.job_status import internal_error, print_error
from thaw.store import lock
from thaw.store.fresh import FRESH, end_fresh
from thaw.sweep import preview
from thaw.sweep.jobs import progress_line
from thaw.train.job import Task
from thaw.train.run_folders import folder_for, named_folder

BEST = 3  # jobs whose reports a sweep draws at its end, unless they did so themselves


def main() -> int:
    """Run the typed command and return its exit code. Raise UserError (exit 2) if it cannot be parsed or composed."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        say_text(help_text(CONF, *unchecked_config_dirs(sys.argv[1:])))
        return 0
    machine.wait_passively()
    if several := machine.several_processes():
        if machine.is_first_process():
            raise several
        return several.code
    typed = command_line.normalise(sys.argv[1:], CONF)
    say_notes(typed.notes)
    named = named_folder(typed)
    folder = folder_for(typed, named)
    task = Task(named is not None)
    import hydra

    compose.register(typed.backbones)
    key = "hydra.sweep.dir" if typed.multirun else "hydra.run.dir"
    sys.argv[1:] = typed.argv + ([] if named else [f"{key}={quote(str(folder))}"])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of printing them and exiting
    try:
        with sweep_in(folder, typed, task) if typed.multirun else run_in(folder), explained(typed, folder):
            hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(task)()
    except preview.PlanOnly as planned:
        return planned.code
    return task.code


@contextmanager
def explained(typed: command_line.CommandLine, folder: Path) -> Iterator[None]:
    """Turn an error that Hydra raises into a UserError with one line.

    Raise UserError (exit 2) if the settings do not compose. A failed job does not raise; see its status.json.
    """
    try:
        yield
    except (UserError, preview.PlanOnly):
        raise
    except SystemExit as left:
        if left.code:  # Hydra has printed the reason
            sys.exit(2)
        raise
    except Exception as error:
        if TRACES:
            raise
        if failure := machine_failure(error):
            raise failure from None
        if place := next((one for one in causes(error) if is_machine_error(one) or names_file(one)), None):
            raise machine_error(place, folder, "use") from None
        raise explain(error, typed.argv, CONF, compose.is_accepted) from None


@contextmanager
def run_in(folder: Path) -> Iterator[None]:
    """Remove the folder at the end if nothing was run in it."""
    try:
        yield
    finally:
        with suppress(OSError):  # the folder is not empty
            if [file.name for file in folder.iterdir()] == ["multirun.yaml"]:  # left by a refused sweep
                (folder / "multirun.yaml").unlink()
            folder.rmdir()


@contextmanager
def sweep_in(folder: Path, typed: command_line.CommandLine, task: Task) -> Iterator[None]:
    """Lock the sweep's folder for this process, and write the sweep's results when its jobs have ended.

    Raise UserError (exit 5) if another process is running this sweep.
    """
    planned = any(word.lower() == "plan_only=true" for word in typed.argv)
    with run_in(folder), nullcontext(True) if planned else lock.only_one_at_work(folder) as free:
        if not free:
            what = "this sweep is already running; scripts/status.py shows its progress"
            raise UserError(5, f"{short_path(folder)}: {what}")
        try:
            yield
        except signals.Stopped:
            if any(folder.glob("*/result.json")):
                with after_failures(True):
                    close_sweep(folder)
            else:
                say(progress_line(folder))
            raise
        if task.codes and not task.code:
            end_fresh(folder / FRESH)
        if task.codes:  # otherwise only the configuration was printed
            with after_failures(bool(task.code)):
                close_sweep(folder)


@contextmanager
def after_failures(failed: bool) -> Iterator[None]:
    """Print an error of the block instead of raising it if jobs have failed, so that their exit code is returned."""
    try:
        yield
    except Exception as error:
        if not failed or TRACES:
            raise
        print_error(as_known(error) or internal_error(error))


def close_sweep(folder: Path) -> None:
    """Print the results of a sweep; if any job has a result, write the leaderboard and the reports.

    The report of the sweep links to those of the jobs that have one: at least the best.
    """
    from thaw.sweep import page, reports, text
    from thaw.sweep.board import leaderboard

    board = leaderboard(folder)
    for line in text.terminal(board):
        say(line)
    if board.settings:
        try:
            best = board.best_jobs(BEST)
            reports.draw_reports(job for job in best if not (job.folder / "report.html").exists())
            page.write_sweep_report(board)
        except OSError as error:  # for example a full disk; the lines above are printed already
            say(f"warning: no leaderboard written ({error})")


if __name__ == "__main__":
    sys.exit(run(main))
