"""Runs the scripts as a person does, in processes of their own."""

import os
import subprocess
import sys

from thaw.config.paths import ROOT


def script(name, *args, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=120)
