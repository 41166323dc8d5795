"""Name the places of the checkout: the repository, conf/ and outputs/."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from thaw.runtime.console import complain

ROOT = Path(__file__).resolve().parents[3]
CONF = ROOT / "conf"
OUTPUTS = ROOT / "outputs"


def from_root(path: str) -> str:
    """Return a path of our own outputs, which is that of the checkout wherever the command is started."""
    return str(ROOT / Path(path).expanduser())


def git_commit() -> str | None:
    """Return the commit of the checkout; None where the code is not in git, or git is not on this machine."""
    asked = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError):
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or None


def require_checkout(script: str) -> None:
    """Refuse to run a script with the thaw of another checkout, which would measure or show other code.

    script: its `__file__`. Leaves with exit code 5.
    """
    path = Path(script).resolve()
    if not path.is_relative_to(ROOT):
        complain(f"error: {path}: the thaw installed here is that of {ROOT}; make setup in its own checkout")
        sys.exit(5)
