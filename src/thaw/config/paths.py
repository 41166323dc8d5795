"""Paths of the repository, its conf/ and its outputs/."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from thaw.runtime.console import say_error

ROOT = Path(__file__).resolve().parents[3]
CONF = ROOT / "conf"
OUTPUTS = ROOT / "outputs"


def from_root(path: str) -> str:
    """Return a path of thaw's own outputs as absolute, relative to the repository and not to the current folder."""
    return str(ROOT / Path(path).expanduser())


def git_commit() -> str | None:
    """Return the commit of the repository, or None without git."""
    asked = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError):
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or None


def require_checkout(script: str) -> None:
    """Exit with code 5 if the installed thaw belongs to another checkout than the script, given by its `__file__`.

    The script would otherwise measure or show other code.
    """
    path = Path(script).resolve()
    if not path.is_relative_to(ROOT):
        say_error(f"error: {path}: the installed thaw belongs to {ROOT}; run make setup in the checkout of this script")
        sys.exit(5)
