"""Every script ends with an exit code and at most one line on standard error, whatever exception `main` raises."""

import errno
import logging
import os
import signal
import subprocess
import sys
import warnings
from subprocess import CalledProcessError

import pytest
from commands import script

from thaw.runtime import entry
from thaw.runtime.errors import BadFiles, UserError
from thaw.runtime.signals import Stopped

ENDS = [  # the error, the exit code and the lines printed
    (UserError(4, "the loss is not finite"), 4, ["error: the loss is not finite"]),
    (UserError(2, "name=a\x1b[31mb"), 2, [r"error: name=a\x1b[31mb"]),
    (
        BadFiles("7 of 30 files cannot be used", tuple((f"{i}\x07.png", "empty file") for i in range(7))),
        3,
        [*(f"  '{i}\\x07.png': empty file" for i in range(5)), "  and 2 more", "error: 7 of 30 files cannot be used"],
    ),
    (Stopped(signal.SIGTERM, "after step 3"), 143,
     ["stopped after step 3 (SIGTERM); run the same command again to continue"]),
    (KeyboardInterrupt(), 130, ["stopped (SIGINT, Ctrl-C)"]),
    (PermissionError(errno.EACCES, "x", "/a/b"), 5, ["error: cannot use /a/b: Permission denied"]),
    (OSError(errno.EIO, "x"), 5, ["error: cannot use a file: Input/output error"]),
    (CalledProcessError(2, ["python", "train.py", "x"]), 2, ["error: python train.py failed with exit code 2"]),
    (CalledProcessError(-9, ["python", "train.py"]), 137, ["error: python train.py failed with exit code 137"]),
    (KeyError("x"), 1, ["error: internal: KeyError: 'x'; HYDRA_FULL_ERROR=1 shows the traceback; please report"]),
]  # fmt: skip


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """Restore the hooks that `run` sets, and turn tracebacks off."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    monkeypatch.setattr(entry, "TRACES", False)


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(("error", "code", "lines"), ENDS, ids=lambda value: type(value).__name__)
def test_an_error_is_a_line_and_an_exit_code(capsys, error, code, lines):
    assert entry.run(raising(error)) == code
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", lines)


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_the_return_value_is_the_exit_code(capsys, returned, code):
    assert entry.run(lambda: returned) == code
    assert capsys.readouterr() == ("", "")


def test_an_internal_error_is_a_traceback_if_wanted(monkeypatch, capsys):
    monkeypatch.setattr(entry, "TRACES", True)
    with pytest.raises(KeyError):
        entry.run(raising(KeyError("x")))
    assert entry.run(raising(UserError(2, "x"))) == 2
    with pytest.raises(SystemExit):
        entry.run(raising(SystemExit(0)))


@pytest.mark.parametrize(
    ("full", "last"),
    [("", "error: internal: KeyError: 'x'; "), ("0", "error: internal: KeyError: 'x'; "), ("1", "KeyError: 'x'")],
)
def test_hydra_full_error_is_read_before_main_can_set_it(full, last):
    code = "import os, sys\nfrom thaw.runtime.entry import run\n"
    code += "def main(): os.environ['HYDRA_FULL_ERROR'] = '1'; raise KeyError('x')\nsys.exit(run(main))"
    command = ["env", f"HYDRA_FULL_ERROR={full}", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(last)


HEAD = "import logging, sys, warnings\nfrom thaw.runtime.console import say\nfrom thaw.runtime.entry import run\n"


@pytest.mark.parametrize("write", ["print('x' * 100_000)", "print('x')", "say('x' * 100_000)"])
def test_a_closed_pipe_is_no_error(write):
    code = f"{HEAD}def main():\n    for _ in range(3): {write}\nsys.exit(run(main))"
    read, unread = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=unread, stderr=subprocess.PIPE, text=True)
    os.close(unread)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "call", ["warnings.warn('a\\x1b[31m')", "logging.getLogger('a.library').warning('a\\x1b[31m')"]
)
def test_warnings_and_logs_of_libraries_are_escaped(call):
    code = f"{HEAD}def main(): {call}\nsys.exit(run(main))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and r"a\x1b[31m" in done.stderr and "\x1b" not in done.stderr


def test_the_parser_reports_errors_in_a_line_and_prints_help_on_standard_output(capsys):
    parser = entry.Parser("What it does.\nand how")
    commands = parser.add_subparsers(required=True, metavar="ls | rm")
    commands.add_parser("ls", help="list").add_argument("--top", type=int)
    for words in (["lss"], [], ["ls", "--top", "x\x1b"], ["ls", "more"]):
        assert entry.run(lambda words=words: parser.parse_args(words)) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and "--help" in err and err.count("\n") == 1
    with pytest.raises(SystemExit) as left:
        entry.run(lambda: parser.parse_args(["--help"]))
    out, err = capsys.readouterr()
    assert left.value.code == 0 and "What it does.\nand how" in out and err == ""


@pytest.mark.parametrize("words", [
    "ablation.py", "compare.py", "status.py --monitor x", "store.py lss", "store.py prune", "predict.py",
    "wandb_view.py x", "rerun.py /nowhere", "bench/busy.py quiet", "bench/options.py --seeds x", "bench/histories.py x",
    "bench/tasks.py", "bench/real_table.py x", "bench/photos.py", "bench/time_to_accuracy.py x", "bench/same.py",
])  # fmt: skip
def test_a_wrong_argument_is_one_line(words):
    done = script(*words.split())
    assert done.returncode in (2, 6) and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["x" * 300, "file/x", "loop/x"])
def test_an_impossible_path_is_exit_5(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError) as refused:
        (tmp_path / name).mkdir(parents=True)
    assert entry.as_known(refused.value).code == 5
