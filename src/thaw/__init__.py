"""thaw: a pretrained network, from frozen to a finished image classifier."""

import sys
from importlib.util import find_spec

from thaw.runtime import signals

signals.listen()  # before the other modules are loaded, for Ctrl-C may come meanwhile
sys.excepthook, sys.unraisablehook = signals.end_in_a_line, signals.insist

if find_spec("hydra") is None:  # a line instead of the traceback that everybody sees once
    sys.stderr.write(
        "error: this Python has not what thaw needs: source .venv/bin/activate first (make setup makes it), "
        'or make train ARGS="..."\n'
    )
    raise SystemExit(5)
