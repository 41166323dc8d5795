"""thaw turns a pretrained network into an image classifier, by fast.ai's eight steps."""

import sys
from importlib.util import find_spec
from pathlib import Path

from thaw.runtime import signals

CHECKOUT = Path(__file__).resolve().parents[2]
started = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
if any(started.is_relative_to(CHECKOUT / folder) for folder in ("src", "scripts")):
    # Ctrl-C may arrive while the other modules load. Another program that imports thaw keeps its own handlers.
    signals.listen()
    sys.excepthook, sys.unraisablehook = signals.end_in_a_line, signals.resend

if find_spec("hydra") is None:  # one line instead of a traceback
    sys.stderr.write(
        "error: this Python lacks the packages that thaw needs: run `source .venv/bin/activate` first "
        '(`make setup` creates it), or use make train ARGS="..."\n'
    )
    raise SystemExit(5)
