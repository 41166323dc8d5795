"""Runs scripts as users do, in new processes."""

import os
import subprocess
import sys

from thaw.config.paths import ROOT


def script(name, *args, **environment) -> subprocess.CompletedProcess:
    """Run a script with more environment variables; return the finished process."""
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=120)
