"""The one way to refuse: a line a person can act on, and an exit code."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """What the user has to know, in one line.

    `code` is the exit status: 2 configuration, 3 data, 4 numbers, 5 machine, 6 checkpoint or store refused.
    """

    def __init__(self, code: int, line: str):
        super().__init__(line)
        self.code = code
        self.line = line

    def __reduce__(self):  # Hydra's launchers send a job's exception from process to process
        return type(self), (self.code, self.line)


class BadFiles(UserError):
    """More files that cannot be used than are tolerated; `rows` are (path, reason) of all of them."""

    def __init__(self, line: str, rows: tuple[tuple[str, str], ...]):
        super().__init__(3, line)
        self.rows = rows

    def __reduce__(self):
        return type(self), (self.line, self.rows)


def nearest(word: str, known: Iterable[str]) -> str:
    """'did you mean a, b?' with at most three of the known words, or all of them when few, or nothing."""
    known = [str(name) for name in known]
    close = get_close_matches(str(word), known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"known: {', '.join(known)}" if 0 < len(known) <= 20 else ""


def in_a_line(error: object, most: int = 160) -> str:
    """Return the text of an error in one line of at most so many letters; the name of its type if it has none."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
