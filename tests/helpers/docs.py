"""The README and the pages of docs/ as tests read them: their blocks of code, and the diffs of docs/extending.md."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from thaw.config.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_blocks(page: Path, language: str = "") -> list[str]:
    """Return the fenced blocks of a page that are marked with a language, or with none."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def commands(page: Path, script: str) -> list[str]:
    """Return what follows `python SCRIPT` in each command of a page, without its comment."""
    found = re.findall(rf"^python {re.escape(script)} ?(.*)$", "\n".join(code_blocks(page)), re.M)
    return [re.split(r"\s+# ", line)[0].strip() for line in found]


def extended_checkout(folder: Path) -> Path:
    """Copy the code and the yamls to a folder, and make every extension of docs/extending.md there.

    Skip the test if this checkout has them already. The diffs need one line of context, so that other additions beside
    them do not matter.
    """
    if (ROOT / "conf/scheduler/staircase.yaml").exists():
        pytest.skip("this checkout has the extensions of docs/extending.md")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("local.yaml", "__pycache__"))
    for diff in code_blocks(ROOT / "docs" / "extending.md", "diff"):
        applied = subprocess.run(["git", "apply", "-C1"], input=diff, text=True, cwd=folder, capture_output=True)
        assert applied.returncode == 0, applied.stderr
    return folder
