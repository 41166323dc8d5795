"""What asks a process to stop: heard at once, while a cycle trains after its step, and always one line and a code."""

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
from thaw.runtime.job_status import in_one_line


def ask(number=signal.SIGTERM):
    os.kill(os.getpid(), number)
    time.sleep(0)  # Python calls the handler between two of its own instructions


def waits():
    ask()
    raise AssertionError("it was to be over")


def waits_in_a_callback():
    sys.unraisablehook = signals.insist  # pytest has its own there

    class Swallows:
        def __del__(self):
            ask()

    Swallows()
    time.sleep(10)
    raise AssertionError("it was to be asked again")


def fails_to_load():
    with suppress(signals.Stopped):
        ask()
    raise SystemError("initialization of _numpy raised unreported exception")  # which C makes of a signal


def ends_slowly():
    try:
        ask()
    finally:
        ask()
        ask(signal.SIGHUP)  # not again while it ends


@pytest.mark.parametrize("main", [waits, waits_in_a_callback, fails_to_load, ends_slowly])
def test_a_signal_ends_a_script_in_a_line(main, tmp_path):
    assert in_child(lambda: entry.run(main), tmp_path / "says") == 143
    assert (tmp_path / "says").read_text() == "stopped (SIGTERM)\n"


def test_a_program_of_somebody_else_keeps_its_handlers():
    look = "import sys, signal; before = signal.getsignal(2), sys.excepthook, sys.unraisablehook; import thaw; "
    look += "assert before == (signal.getsignal(2), sys.excepthook, sys.unraisablehook)"
    assert subprocess.run([sys.executable, "-c", look]).returncode == 0


@pytest.mark.parametrize("main", [waits, fails_to_load])
def test_a_signal_ends_a_job_in_a_line(main, tmp_path):
    def job():
        with in_one_line(tmp_path):
            main()

    assert in_child(lambda: entry.run(job), tmp_path / "says") == 143
    assert (tmp_path / "says").read_text() == "stopped before its end (SIGTERM); the same command goes on from there\n"


def test_a_step_ends_before_it_stops(tmp_path):
    def main():
        with signals.stopping(at_once=False):
            ask(signal.SIGXCPU)
            assert signals.pending() == signal.SIGXCPU
            raise UserError(4, "and says how it went")

    assert in_child(lambda: entry.run(main)) == 4


def test_the_limit_of_cpu_time_is_the_machines(tmp_path):
    assert in_child(lambda: entry.run(lambda: ask(signal.SIGXCPU)), tmp_path / "says") == 5
    assert (tmp_path / "says").read_text() == "stopped (its CPU time is used up: ulimit -t)\n"


def test_a_process_that_is_forked_leaves_it_to_the_one_that_listens():
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
