"""thaw's entry point: what was typed -> composed by Hydra -> plain dataclasses -> the plan -> the run.

python src/train.py --help lists what can be typed. Heavy imports (torch, timm, wandb) come only after the plan is
printed, so that a wrong word or a plan costs a second.
"""

import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

from thaw.config import command_line, compose
from thaw.config.help import help_text
from thaw.config.hydra_errors import explain
from thaw.config.paths import CONF
from thaw.config.validate import check_swept
from thaw.runtime import machine, signals
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.runtime.files import is_machine_error, machine_error, short_path
from thaw.runtime.job_status import causes, exit_codes, internal_error, print_error, read_status
from thaw.store import lock
from thaw.store.fresh import FRESH, end_fresh
from thaw.sweep import preview
from thaw.sweep.jobs import by_number, progress_line, search_value
from thaw.train.job import carry_out
from thaw.train.run_folders import folder_for

TRACES = bool(os.environ.get("HYDRA_FULL_ERROR"))  # the user wants tracebacks


def main() -> int:
    """Run what was typed; return the exit code."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(CONF))
        return 0
    exit_codes.clear()
    machine.wait_passively()
    if several := machine.several_processes():
        return print_error(several) if machine.is_first_process() else several.code
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what goes wrong instead of printing it and leaving
    try:
        typed = command_line.normalise(sys.argv[1:], CONF)
        for note in typed.notes:
            say(f"note: {note}")
        return run_typed(typed)
    except UserError as error:
        return print_error(error)
    except signals.Stopped as stopped:
        print(stopped.line, file=sys.stderr)
        return stopped.code
    except KeyboardInterrupt:
        print("stopped (signal 2)", file=sys.stderr)
        return 130
    except Exception as error:
        if TRACES:
            raise
        return print_error(internal_error(error))


def run_typed(typed: command_line.CommandLine) -> int:
    """Run one job or a sweep in its folder, and close the sweep. Return the exit code of the first job that failed."""
    if typed.multirun:
        check_swept(typed.argv)
    folder = folder_for(typed)
    planned = any(word.lower() == "plan_only=true" for word in typed.argv)
    try:
        with lock.only_one_at_work(folder) if typed.multirun and not planned else nullcontext(True) as free:
            if not free:
                what = "this sweep is at work already; scripts/status.py shows how far"
                raise UserError(5, f"{short_path(folder)}: {what}")
            start_hydra(typed, folder)
    except preview.PlanOnly:
        return first_code()
    except signals.Stopped:
        if any(folder.glob("*/result.json")):
            close_sweep(folder)
        elif typed.multirun:
            say(progress_line(folder))
        raise
    finally:
        with suppress(OSError):  # it is not empty
            folder.rmdir()
    jobs = sorted((file.parent for file in folder.glob("*/status.json")), key=by_number)
    ends = [read_status(job_folder) for job_folder in jobs]
    if ends:
        if all(end.get("state") == "done" for end in ends):
            end_fresh(folder / FRESH)
        close_sweep(folder)
    elif alone := read_status(folder):
        ends = [alone]
    # A job that still says it is running was killed, or could not write how it ended.
    return next((end.get("code", 5) for end in ends if end.get("state") != "done"), first_code())


def start_hydra(typed: command_line.CommandLine, folder: Path) -> None:
    """Hand the command line to Hydra, which composes the configuration and starts one job or a sweep of them.

    Errors: what cannot be composed, exit 2. A job raises no failure of its own: its status.json says it, so that no
    launcher loses the others.
    """
    import hydra

    compose.register(typed.backbones)
    os.environ["THAW_FOLDER"] = str(folder)
    sys.argv[1:] = typed.argv
    try:
        hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(job)()
    except (UserError, preview.PlanOnly):
        raise
    except Exception as error:
        if TRACES:
            raise
        if disk := next((one for one in causes(error) if is_machine_error(one)), None):
            raise machine_error(disk, folder) from None
        raise explain(error, typed.argv, CONF) from None


def first_code() -> int:
    """Return the exit code of the first refusal in this process, 0 without one."""
    return exit_codes[0] if exit_codes else 0


def close_sweep(folder: Path) -> None:
    """Say what a sweep came to; where a job has a result, write the leaderboard and the report into its folder."""
    from thaw.sweep import page, text
    from thaw.sweep.board import leaderboard

    board = leaderboard(folder)
    for line in text.terminal(board):
        say(line)
    if board.settings:
        try:
            page.write_sweep_report(board)
        except OSError as error:  # on a full disk the lines above have to do
            say(f"warning: no leaderboard written ({error})")


def job(cfg) -> float | None:
    """Carry out a job, which Hydra calls for each configuration; return the value of `monitor`, for sweepers."""
    from hydra.core.hydra_config import HydraConfig

    hydra_ = HydraConfig.get()
    folder = Path(hydra_.runtime.output_dir)
    carry_out(cfg, hydra_, folder)
    return search_value(folder, cfg.monitor)


if __name__ == "__main__":
    sys.exit(main())
