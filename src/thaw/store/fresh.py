"""Record when a run or sweep with fresh=true began, so that it continues after an interruption."""

import json
import math
from pathlib import Path

from thaw.config.job_request import JobRequest
from thaw.config.schema import Settings
from thaw.runtime.files import as_number, read_json, write_atomically
from thaw.store.prune import file_system_time

FRESH = "fresh.json"  # in the folder of a sweep in progress with fresh=true


def fresh_file(settings: Settings, request: JobRequest, stamp: str | None) -> Path | None:
    """Return the file that says when a run or sweep with fresh=true began; None without fresh=true."""
    if not (settings.fresh and stamp):
        return None
    own = Path(settings.store.dir) / "facts" / f"fresh_stamp_{stamp}.json"
    return request.folder.parent / FRESH if request.sweep else own


def begin_fresh(root: Path, file: Path) -> float:
    """Return when the run or sweep with fresh=true began; older artifacts of the store at `root` are made again.

    The file keeps that time from the first job until `end_fresh`, so that an interrupted run or sweep continues.
    """
    root.mkdir(parents=True, exist_ok=True)
    if not math.isnan(since := as_number(read_json(file).get("since"))):
        return since
    since = file_system_time(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"since": since}))
    return since


def end_fresh(file: Path) -> None:
    """Remove the file of a finished run or sweep, so that the same command starts over."""
    file.unlink(missing_ok=True)
