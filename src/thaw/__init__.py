"""thaw: a pretrained network, from frozen to a finished image classifier."""

import sys
from importlib.util import find_spec
from pathlib import Path

from thaw.runtime import signals

CHECKOUT = Path(__file__).resolve().parents[2]
started = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
if any(started.is_relative_to(CHECKOUT / folder) for folder in ("src", "scripts")):
    # Ctrl-C may come while the other modules are loaded. A program of somebody else keeps its own handlers.
    signals.listen()
    sys.excepthook, sys.unraisablehook = signals.end_in_a_line, signals.insist

if find_spec("hydra") is None:  # a line instead of the traceback that everybody sees once
    sys.stderr.write(
        "error: this Python has not what thaw needs: source .venv/bin/activate first (make setup makes it), "
        'or make train ARGS="..."\n'
    )
    raise SystemExit(5)
