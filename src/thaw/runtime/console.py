"""Output to the terminal: one progress bar per phase, or plain lines if the output is a pipe."""

import os
import re
import sys
import threading
import time
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm
from wcwidth import wcswidth

SILENCE_S = 60.0  # in a pipe, an epoch is reported if nothing was printed for this long
FORMAT = "{desc} {percentage:3.0f}%|{bar:16}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
# tqdm's default lock is shared by all forked processes: a job killed while holding it would block the others.
tqdm.set_lock(threading.RLock())
# Control characters except newline and tab, and characters that change the direction of text.
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
BREAKS = re.compile(r"[\t\n\u2028\u2029]")


def say(line: str = "") -> None:
    """Write one line to standard output, above any progress bar, with line breaks and tabs escaped."""
    write(one_line(line), sys.stdout)


def say_text(text: str) -> None:
    """Write a text of several lines to standard output. Names in it must have gone through `one_line`."""
    write(text, sys.stdout)


def say_error(text: str) -> None:
    """Write a text to standard error, above any progress bar."""
    write(text, sys.stderr)


def say_notes(lines: Iterable[str]) -> None:
    """Print one note per line. Warnings, and lines indented to continue the note before, get no "note: " prefix."""
    for line in lines:
        say(line if line.startswith(("warning: ", "  ")) else f"note: {line}")


def write(text: str, stream: TextIO | None) -> None:
    """Write a text, made printable, and a line break. Do nothing if the stream cannot be written.

    A reader that has left (| head) or a full disk must not end the work.
    """
    if stream is None:  # closed by the parent process (>&-)
        return
    try:
        tqdm.write(printable(text, stream.encoding or "ascii"), file=stream)
        stream.flush()
    except OSError:
        discard(stream)


def printable(text: str, encoding: str = "utf-8") -> str:
    """Escape the characters that the encoding lacks and those that would control the terminal."""
    return escape(OBEYED, text).encode(encoding, "backslashreplace").decode(encoding)


def one_line(text: str) -> str:
    """Make a text printable and escape its line breaks and tabs, so that it stays in its line and table cell."""
    return escape(BREAKS, printable(text))


def escape(what: re.Pattern, text: str) -> str:
    return what.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def discard(stream: TextIO) -> None:
    """Redirect a stream to /dev/null, including what its buffer still holds."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_terminal() -> bool:
    return sys.stderr.isatty()


def bar(items: Iterable, total: int, label: str) -> Iterable:
    """Iterate over `items` with a progress bar on a terminal; in a pipe, print one line if they are many."""
    if not is_terminal() and total > 1000:
        say(f"{label}: {total:,}")
    return tqdm(items, total=total, desc=one_line(label), disable=None, leave=False, bar_format=FORMAT)


class PhaseBar:
    """The progress bar of one phase. In a pipe: one line per cycle, and one per epoch after a minute of silence.

    With `verbose`, one line per epoch in both cases.
    """

    def __init__(self, name: str, steps: int, verbose: bool = False):
        self.name, self.verbose = name, verbose
        self.said = time.monotonic()
        self.line = tqdm(total=steps, desc=one_line(name), disable=None, leave=False, bar_format=FORMAT)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.line.close()

    def step(self, text: str | None = None) -> None:
        """Advance by one step; show `text` behind the bar from now on."""
        if text is not None:
            self.line.set_postfix_str(text, refresh=False)
        self.line.update()

    def epoch(self, text: str, worth_a_line: bool) -> None:
        """Report an epoch. Without `worth_a_line`, do so only after a minute of silence."""
        due = worth_a_line or time.monotonic() - self.said > SILENCE_S
        if self.verbose or (due and not is_terminal()):
            say(f"  {self.name}: {text}")
            self.said = time.monotonic()

    def total(self, steps: int) -> None:
        """Set the length of the phase."""
        self.line.total = steps


def grid(head, rows) -> list[str]:
    """Lay out a table: columns as wide as their widest cell, two spaces apart, a rule under the head."""
    head, *rows = ([one_line(cell) for cell in row] for row in (head, *rows))
    widths = [max(text_width(row[column]) for row in (head, *rows)) for column in range(len(head))]
    out = [
        "  ".join(cell + " " * (width - text_width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return [out[0], "-" * max(map(text_width, out)), *out[1:]]


def text_width(text: str) -> int:
    """Return the columns that a text takes on a terminal: East Asian letters and emoji take two, accents none."""
    return wcswidth(text)
