"""Remember since when fresh=true trains anew, so that what was stopped goes on."""

import json
import math
from pathlib import Path

from thaw.config.job_request import JobRequest
from thaw.config.schema import Settings
from thaw.runtime.files import as_number, read_json, write_atomically
from thaw.store.prune import file_system_time

FRESH = "fresh.json"  # in the folder of a sweep under way with fresh=true


def fresh_file(settings: Settings, request: JobRequest, stamp: str | None) -> Path | None:
    """Return the file that says when a run or a sweep with fresh=true began; None without."""
    if not (settings.fresh and stamp):
        return None
    own = Path(settings.store.dir) / "facts" / f"fresh_stamp_{stamp}.json"
    return request.folder.parent / FRESH if request.sweep else own


def begin_fresh(root: Path, file: Path) -> float:
    """fresh=true: return when the run or the sweep began; what the store at `root` made before that is made again.

    The file says when, from the first job until `end_fresh`, so that what was stopped goes on.
    """
    root.mkdir(parents=True, exist_ok=True)
    if not math.isnan(since := as_number(read_json(file).get("since"))):
        return since
    since = file_system_time(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"since": since}))
    return since


def end_fresh(file: Path) -> None:
    """The run or the sweep is done: the same command begins anew."""
    file.unlink(missing_ok=True)
