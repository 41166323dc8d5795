"""thaw: a pretrained network, from frozen to a finished image classifier."""

import sys
from importlib.util import find_spec

if find_spec("hydra") is None:  # a line instead of the traceback that everybody sees once
    sys.stderr.write(
        "error: this Python has not what thaw needs: source .venv/bin/activate first (make setup makes it), "
        'or make train ARGS="..."\n'
    )
    raise SystemExit(5)
