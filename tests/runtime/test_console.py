"""Text on the terminal: control characters are escaped, and unwritable streams are ignored."""

import os
import subprocess
import sys

import pytest

from thaw.runtime import console

PRINTABLE = {
    "plain, tab\tand\nline": "plain, tab\tand\nline",
    "a\x1b[31mb.jpg": r"a\x1b[31mb.jpg",
    "x\x07\x00\x7f": r"x\x07\x00\x7f",
    "one\rother": r"one\rother",
    "\x85\x9b31m": r"\x85\x9b31m",
    "\u202egpj.exe\u2066": r"\u202egpj.exe\u2066",
    "\udcff.jpg": r"\udcff.jpg",
    "Straße, 猫, e\u0301, \u200b, \u061c": "Straße, 猫, e\u0301, \u200b, \u061c",
    "C:\\x1b": "C:\\x1b",
}


@pytest.mark.parametrize(("text", "shown"), PRINTABLE.items())
def test_control_characters_are_escaped(text, shown):
    assert console.printable(text) == shown


LINES = {
    "one\nother\tlast": r"one\nother\tlast",
    "a\u2028b\u2029\x1b]0;x\x07": r"a\u2028b\u2029\x1b]0;x\x07",
    "Straße 猫": "Straße 猫",
}


@pytest.mark.parametrize(("text", "shown"), LINES.items())
def test_line_breaks_in_a_name_are_escaped(text, shown, capsys):
    assert console.one_line(text) == shown
    console.say(text)
    assert capsys.readouterr().out == f"{shown}\n"


WIDE = ["a\nb\x1b[31m", "猫と犬", "e\u0301te\u0301", "👩\u200d👩\u200d👧", "🇩🇪", "\u200b", "\udcff", ""]


@pytest.mark.parametrize("name", WIDE)
def test_columns_are_aligned_whatever_the_letters_take(name):
    lines = console.grid(("name", "n"), [(name, "1"), ("a cat", "2")])
    assert {console.text_width(line) for line in lines} == {console.text_width(lines[1])}
    assert all("\n" not in line and "\x1b" not in line for line in lines)


def test_characters_that_the_encoding_lacks_are_escaped():
    assert console.printable("5 × 猫\x1b", "ascii") == r"5 \xd7 \u732b\x1b"
    assert console.printable("5 × 猫", "latin-1") == r"5 × \u732b"


def test_both_streams_escape(capsys):
    console.say("a\x1b[31m")
    console.say_error("b\x1b[31m")
    assert capsys.readouterr() == ("a\\x1b[31m\n", "b\\x1b[31m\n")


@pytest.mark.parametrize("stream", [1, 2])
@pytest.mark.parametrize("closed", ["before", "by its reader"])
def test_a_stream_that_nobody_reads_is_no_error(stream, closed):
    prepare = "os.close(r); os.dup2(w, {0})" if closed == "by its reader" else "os.close({0}); sys.{1} = None"
    words = (stream, ("stdout", "stderr")[stream - 1])
    code = f"import os, sys; r, w = os.pipe(); {prepare.format(*words)}\n"
    code += "from thaw.runtime import console\nfor _ in range(3): console.say('x' * 10000); console.say_error('y')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert (done.stderr if stream == 1 else done.stdout).count("\n") == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full (Linux)")
def test_a_log_on_a_full_disk_ends_neither_the_work_nor_its_exit_code():
    code = "import sys; from thaw.runtime import console, entry\nfrom thaw.runtime.errors import UserError\n"
    code += "def main():\n    console.say('x' * 10000)\n    raise UserError(4, 'no')\nsys.exit(entry.run(main))"
    with open("/dev/full", "w") as full:
        assert subprocess.run([sys.executable, "-c", code], stdout=full, stderr=full).returncode == 4


def test_a_job_killed_while_it_writes_does_not_block_others():
    code = """
import os, signal
from tqdm import tqdm
from thaw.runtime import console
if os.fork() == 0:
    tqdm.get_lock().acquire()
    os.kill(os.getpid(), signal.SIGKILL)
os.wait()
console.say("still here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "still here\n"
