"""UserError, the error that users see: one line they can act on and an exit code."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """An error that the user can act on, in one line.

    `code` is the exit code: 2 configuration, 3 data, 4 numbers, 5 machine, 6 checkpoint, run or store refused.
    """

    def __init__(self, code: int, line: str):
        super().__init__(line)
        self.code = code
        self.line = line

    def __reduce__(self):  # Hydra's launchers pickle a job's exception
        return type(self), (self.code, self.line)


class BadFiles(UserError):
    """More unusable files than tolerated. `rows` has the (path, reason) of each."""

    def __init__(self, line: str, rows: tuple[tuple[str, str], ...]):
        super().__init__(3, line)
        self.rows = rows

    def __reduce__(self):
        return type(self), (self.line, self.rows)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "did you mean a or b?" with up to three similar words, else "known: ..." for at most 20 words, else ''."""
    known = [str(name) for name in known]
    close = get_close_matches(str(word), known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(known)}" if 0 < len(known) <= 20 else ""


def one_line_text(error: object, most: int = 160) -> str:
    """Return an error's text in one line of at most `most` letters, or the name of its type if it has no text."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
