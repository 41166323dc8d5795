"""Signals stop a process at once, or after the step while a cycle trains, always with one line and an exit code."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from faults import in_child

from thaw.config.paths import ROOT
from thaw.runtime import entry, signals
from thaw.runtime.errors import UserError
from thaw.runtime.job_status import as_user_errors, state_after, write_status
from thaw.sweep.jobs import read_job


def ask(number=signal.SIGTERM):
    os.kill(os.getpid(), number)
    time.sleep(0)  # Python calls the handler between two of its own instructions


def waits():
    ask()
    raise AssertionError("the signal was ignored")


def waits_in_a_callback():
    sys.unraisablehook = signals.resend  # pytest has set its own

    class Swallows:
        def __del__(self):
            ask()

    Swallows()
    time.sleep(10)
    raise AssertionError("the signal was not sent again")


def fails_to_load():
    with suppress(signals.Stopped):
        ask()
    raise SystemError("initialization of _numpy raised unreported exception")  # what C code turns a signal into


def ends_slowly():
    try:
        ask()
    finally:
        ask()
        ask(signal.SIGHUP)  # must not interrupt the cleanup


@pytest.mark.parametrize("main", [waits, waits_in_a_callback, fails_to_load, ends_slowly])
def test_a_signal_ends_a_script_in_a_line(main, tmp_path):
    assert in_child(lambda: entry.run(main), tmp_path / "says") == 143
    assert (tmp_path / "says").read_text() == "stopped (SIGTERM)\n"


def test_another_program_that_imports_thaw_keeps_its_handlers():
    look = "import sys, signal; before = signal.getsignal(2), sys.excepthook, sys.unraisablehook; import thaw; "
    look += "assert before == (signal.getsignal(2), sys.excepthook, sys.unraisablehook)"
    assert subprocess.run([sys.executable, "-c", look]).returncode == 0


@pytest.mark.parametrize("main", [waits, fails_to_load])
def test_a_signal_ends_a_job_in_a_line(main, tmp_path):
    def job():
        with as_user_errors(tmp_path):
            main()

    assert in_child(lambda: entry.run(job), tmp_path / "says") == 143
    said = (tmp_path / "says").read_text()
    assert said == "stopped before the end (SIGTERM); run the same command again to continue\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU])
def test_a_job_ended_by_a_signal_is_stopped_and_not_failed(tmp_path, number):
    error = signals.Stopped(number, "after step 3")
    write_status(tmp_path, state=state_after(error), code=error.code, line=error.line)
    job = read_job(tmp_path)
    assert (job.state, job.code, job.line) == ("stopped", error.code, error.line)
    assert state_after(UserError(5, "no memory")) == "failed"


def test_a_sweep_stopped_by_a_signal_says_so():
    line = signals.Stopped(signal.SIGTERM, sweep=True).line
    assert line == "sweep stopped (SIGTERM); run the same command again to continue"


def test_a_job_that_slurm_requeues_waits(monkeypatch):
    monkeypatch.setitem(signals.chained, signal.SIGUSR2, print)
    assert state_after(signals.Stopped(signal.SIGUSR2, "after step 3")) == "waiting"


def test_a_step_ends_before_it_stops(tmp_path):
    def main():
        with signals.stopping(at_once=False):
            ask(signal.SIGXCPU)
            assert signals.pending() == signal.SIGXCPU
            raise UserError(4, "the loss is not finite")

    assert in_child(lambda: entry.run(main)) == 4


def test_the_limit_of_cpu_time_is_exit_5(tmp_path):
    assert in_child(lambda: entry.run(lambda: ask(signal.SIGXCPU)), tmp_path / "says") == 5
    assert (tmp_path / "says").read_text() == "stopped (the limit of CPU time is reached: ulimit -t)\n"


def test_a_forked_process_leaves_signals_to_its_parent():
    def parent():
        signals.listen()
        return in_child(lambda: ask(signal.SIGINT))

    assert in_child(parent) == 0


@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGINT, 130, "SIGINT, Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_a_signal_while_modules_are_loaded_is_a_line(number, code, name):
    started = f"import os, sys; sys.modules['__main__'].__file__ = {str(ROOT / 'src/train.py')!r}"
    source = f"{started}; import thaw; os.kill(os.getpid(), {int(number)}); import this"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"stopped ({name})\n")
