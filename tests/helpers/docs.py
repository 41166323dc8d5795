"""The README and the pages of docs/ as tests read them: their blocks of code, and the diffs of docs/extending.md."""

import re
import shutil
import subprocess
from pathlib import Path

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
    """Copy the code and the yamls to a folder, and make every extension of docs/extending.md there."""
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("local.yaml", "__pycache__"))
    for diff in code_blocks(ROOT / "docs" / "extending.md", "diff"):
        applied = subprocess.run(["git", "apply"], input=diff, text=True, cwd=folder, capture_output=True)
        assert applied.returncode == 0, applied.stderr
    return folder
