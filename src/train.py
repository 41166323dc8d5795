"""thaw's entry point: what was typed -> composed -> plain dataclasses -> the plan -> the run.

python src/train.py --help lists what can be typed. Heavy imports (torch, timm, wandb) come only after the plan is
printed, so that a wrong word or a plan costs a second.
"""

import os
import sys
from contextlib import nullcontext, suppress
from datetime import datetime
from pathlib import Path

from thaw.config import command_line, compose, paths, run_names
from thaw.config.help import help_text
from thaw.config.hydra_errors import explain
from thaw.config.paths import CONF
from thaw.config.validate import check_swept
from thaw.runtime import machine, signals
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.runtime.files import is_machine_error, machine_error, new_folder, short_path
from thaw.runtime.job_status import causes, exit_codes, internal_error, print_error, read_status
from thaw.store import lock
from thaw.store.open import FRESH, end_fresh
from thaw.sweep import preview
from thaw.sweep.jobs import by_number, progress_line, search_value
from thaw.train.job import carry_out, refuse_sweep_folder

TRACES = bool(os.environ.get("HYDRA_FULL_ERROR"))  # the user wants tracebacks


def main() -> int:
    """Run what was typed; the exit code."""
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
        return compose_and_run(typed)
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


def compose_and_run(typed: command_line.CommandLine) -> int:
    """Hand the command line to Hydra, which composes the configuration and starts one job or a sweep of them.

    A job never raises what is a failure of its own: its status.json says it, so that no launcher loses the others. The
    exit code is that of the first that failed.
    """
    import hydra

    if typed.multirun:
        check_swept(typed.argv)
    compose.register(typed.backbones)
    folder = folder_of(typed)
    os.environ["THAW_FOLDER"] = str(folder)
    sys.argv[1:] = typed.argv
    start = hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(job)
    try:
        planned = any(word.lower() == "plan_only=true" for word in typed.argv)
        with lock.only_one_at_work(folder) if typed.multirun and not planned else nullcontext(True) as free:
            if not free:
                raise UserError(
                    5, f"{short_path(folder)}: this sweep is at work already; scripts/status.py shows how far"
                )
            start()
    except preview.PlanOnly:
        return exit_codes[0] if exit_codes else 0
    except signals.Stopped:
        if any(folder.glob("*/result.json")):
            close(folder)
        elif typed.multirun:
            say(progress_line(folder))
        raise
    except UserError:
        raise
    except Exception as error:  # a job does not raise: this came of composing
        if TRACES:
            raise
        if disk := next((one for one in causes(error) if is_machine_error(one)), None):
            raise machine_error(disk, folder) from None
        raise explain(error, typed.argv, CONF) from None
    finally:
        with suppress(OSError):  # it is not empty
            folder.rmdir()
    jobs = sorted((file.parent for file in folder.glob("*/status.json")), key=by_number)
    ends = [read_status(job_folder) for job_folder in jobs]
    if ends:
        if all(end.get("state") == "done" for end in ends):
            end_fresh(folder / FRESH)
        close(folder)
    elif alone := read_status(folder):
        ends = [alone]
    # A job that still says it is running was killed, or could not write how it ended.
    return next((end.get("code", 5) for end in ends if end.get("state") != "done"), exit_codes[0] if exit_codes else 0)


def close(folder: Path) -> None:
    """What a sweep comes to, as far as it came."""
    from thaw.sweep import page

    page.close_sweep(folder, say)


def folder_of(typed: command_line.CommandLine) -> Path:
    """Where a run or a sweep is to lie: where its user says, a new dated folder, or that of the same sweep before."""
    key = "hydra.sweep.dir=" if typed.multirun else "hydra.run.dir="
    given = [arg.removeprefix(key).strip("'\"") for arg in typed.argv if arg.startswith(key)]
    if given:
        if "${" in given[-1]:
            raise UserError(2, f"{key}{given[-1]}: needs a name as it is; without one the folder is dated")
        if typed.multirun and (taken := refuse_sweep_folder(Path(given[-1]), typed.argv)):
            raise taken
        return Path(given[-1])
    if typed.multirun:
        before = sorted((paths.OUTPUTS / "multirun").glob(f"*_{run_names.sweep_hash(typed.argv)}"))
        if before:
            if any(before[-1].glob("*/status.json")):  # else it was only planned
                say(f"note: this sweep was begun before: what is done stays done, {short_path(before[-1])}")
            return before[-1]
    name = run_names.folder_name(typed.argv, datetime.now(), typed.multirun)
    return new_folder(paths.OUTPUTS / ("multirun" if typed.multirun else "runs") / name)


def job(cfg) -> float | None:
    """One job as Hydra calls it; the value of `monitor`, for sweepers."""
    from hydra.core.hydra_config import HydraConfig

    hydra_ = HydraConfig.get()
    folder = Path(hydra_.runtime.output_dir)
    carry_out(cfg, hydra_, folder)
    return search_value(folder, cfg.monitor)


if __name__ == "__main__":
    sys.exit(main())
