"""What a person sees while it runs: one moving line a phase on a terminal, plain lines in a pipe."""

import os
import re
import sys
import threading
import time
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm
from wcwidth import wcswidth

SILENCE_S = 60.0  # in a pipe, the next epoch has a line after so long without one
FORMAT = "{desc} {percentage:3.0f}%|{bar:16}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
# tqdm's own lock is one of all forked processes: a job that is killed while it holds it would silence the others.
tqdm.set_lock(threading.RLock())
# Control characters but newline and tab, and those that turn the direction of what follows.
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
BREAKS = re.compile(r"[\t\n\u2028\u2029]")


def say(line: str = "") -> None:
    """Write a line to standard output, above any moving one; a break in it belongs to a name and is escaped."""
    write(one_line(line), sys.stdout)


def say_text(text: str) -> None:
    """Write a text of several lines, whose names went through `one_line`, to standard output."""
    write(text, sys.stdout)


def complain(text: str) -> None:
    """Write to standard error, above any moving line."""
    write(text, sys.stderr)


def say_notes(lines: Iterable[str]) -> None:
    """Notes for the user, a line each; a warning is one by itself, what begins with spaces belongs to one before it."""
    for line in lines:
        say(line if line.startswith(("warning: ", "  ")) else f"note: {line}")


def write(text: str, stream: TextIO | None) -> None:
    """Write what is printable of a text and a line break; go on silently where it cannot be written.

    Whoever read along has left (| head), or the output is a file on a full disk: the work does not end for it.
    """
    if stream is None:  # closed by whoever started the process (>&-)
        return
    try:
        tqdm.write(printable(text, stream.encoding or "ascii"), file=stream)
        stream.flush()
    except OSError:
        discard(stream)


def printable(text: str, encoding: str = "utf-8") -> str:
    """Return a text with escapes for what the encoding lacks and for what a terminal obeys instead of showing it."""
    return escape(OBEYED, text).encode(encoding, "backslashreplace").decode(encoding)


def one_line(text: str) -> str:
    """Return a printable text that stays in its line and cell, whatever names are in it."""
    return escape(BREAKS, printable(text))


def escape(what: re.Pattern, text: str) -> str:
    return what.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def discard(stream: TextIO) -> None:
    """Have all that is written to a stream from now on, and what its buffer holds, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_terminal() -> bool:
    return sys.stderr.isatty()


def bar(items: Iterable, total: int, label: str) -> Iterable:
    """The items, with a moving line on a terminal and a plain one, where there are many, in a pipe."""
    if not is_terminal() and total > 1000:
        say(f"{label}: {total:,}")
    return tqdm(items, total=total, desc=one_line(label), disable=None, leave=False, bar_format=FORMAT)


class PhaseBar:
    """The moving line of one phase; where nothing can move, a line a cycle, and now and then one for an epoch.

    With `verbose`, a line an epoch wherever it is.
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
        """One step further; `text` is what stands behind the bar from now on."""
        if text is not None:
            self.line.set_postfix_str(text, refresh=False)
        self.line.update()

    def epoch(self, text: str, worth_a_line: bool) -> None:
        """Tell how an epoch went; one that is not worth a line has one where nothing was said for a minute."""
        due = worth_a_line or time.monotonic() - self.said > SILENCE_S
        if self.verbose or (due and not is_terminal()):
            say(f"  {self.name}: {text}")
            self.said = time.monotonic()

    def extend(self, steps: int) -> None:
        """The phase goes on for that many more steps."""
        self.line.total += steps


def grid(head, rows) -> list[str]:
    """Columns as wide as their widest entry, two spaces between them, a rule under the head."""
    head, *rows = ([one_line(cell) for cell in row] for row in (head, *rows))
    widths = [max(text_width(row[column]) for row in (head, *rows)) for column in range(len(head))]
    out = [
        "  ".join(cell + " " * (width - text_width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return [out[0], "-" * max(map(text_width, out)), *out[1:]]


def text_width(text: str) -> int:
    """The columns that a terminal gives a text: two a letter of East Asia or an image, none an accent of its own."""
    return wcswidth(text)
