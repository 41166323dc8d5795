"""The folders of runs: which folder a run gets, and what earlier runs left there or in the store."""

import os
import shutil
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from thaw.config import paths, run_names
from thaw.config.command_line import CommandLine
from thaw.config.job_request import JobRequest
from thaw.config.overrides import split_overrides, unquote
from thaw.runtime.console import say
from thaw.runtime.errors import UserError
from thaw.runtime.files import json_text, new_folder, read_json, short_path
from thaw.runtime.job_status import is_gone
from thaw.store import keys
from thaw.store.publish import sha256_of
from thaw.store.store import Store
from thaw.sweep.jobs import overrides_in
from thaw.train import fingerprint

UNRUN = {".hydra", "status.json", "plan.txt", "plan.png"}  # the only files in a folder before its run begins


def refuse_folder(folder: Path, before: dict, overrides: list[str]) -> UserError | None:
    """Return why a run cannot use this folder: it is in use (exit 5) or contains another run (exit 6); else None."""
    here = before.get("state") == "running" and before.get("host") == socket.gethostname()
    if here and not is_gone(before, (folder / "status.json").stat().st_mtime):
        return UserError(5, f"hydra.run.dir={folder}: in use by process {before.get('pid')}; give another folder")
    if before and before.get("overrides") != overrides and (folder / "run.json").exists():
        other = run_names.short_name(before.get("overrides", [])) or "default"
        return UserError(6, f"hydra.run.dir={folder}: contains another run ({other}); give another folder")
    return None


def refuse_sweep_folder(folder: Path, argv: list[str]) -> UserError | None:
    """Return why a sweep cannot use this folder: it contains a sweep over other settings (exit 6); else None.

    A sweep over the same settings with more values continues the earlier one.
    """
    before = overrides_in(folder) if any(folder.glob("*/status.json")) else None

    def keys_of(overrides: list[str]) -> set[str]:
        given = {key for _, key, _ in split_overrides(overrides)}
        return {
            key for key in given if not key.startswith("hydra") and not run_names.is_within(key, fingerprint.UNRELATED)
        }

    if before is None or keys_of(before) == keys_of(argv):
        return None
    other = run_names.short_name(before) or "default"
    return UserError(6, f"hydra.sweep.dir={folder}: contains another sweep ({other}); give another folder")


def done_before(store: Store, identity: str | None, folder: Path, in_unnamed_folder: bool) -> bool:
    """Return whether a finished, undamaged run of the same identity can be used instead of this one; if so, report it.

    A folder the user named is different: it gets its own copy of the result, from the store.
    """
    if not (done := store.recall(f"finished_{identity}", folder=str, accuracy=int | float)):
        return False
    where = Path(done["folder"])
    if not (result := finished_result(where)) or result.get("identity") != identity:
        return False
    if folder != where and not in_unnamed_folder:
        return False
    for line in result.get("warnings", ()):
        say(line)
    in_sweep = " (a job of a sweep)" if done.get("in_sweep") else ""
    say(f"already done: accuracy {done['accuracy']:.2%}, {short_path(where)}{in_sweep}; fresh=true trains again")
    if not in_sweep:
        link_latest(where)
    return True


def remember_done(store: Store, identity: str, folder: Path, accuracy: float, in_sweep: bool) -> None:
    """Remember that a run is finished. A job of a sweep does not take the place of a single run that still exists."""
    name = f"finished_{identity}"
    before = store.recall(name, folder=str)
    if in_sweep and not before.get("in_sweep", True) and (Path(before["folder"]) / "result.json").exists():
        return
    store.remember(name, {"folder": str(folder), "accuracy": accuracy, "in_sweep": in_sweep})


def finished_result(folder: Path) -> dict:
    """Return the result of a finished run, or {} if it is missing or the model file has changed since."""
    result = read_json(folder / "result.json")
    with suppress(OSError):
        return result if result.get("model_sha256") == sha256_of(folder / "model.safetensors") else {}
    return {}


def keep_plan_alone(folder: Path) -> None:
    """Remove status.json and .hydra from the folder of a run that was only planned."""
    (folder / "status.json").unlink(missing_ok=True)
    shutil.rmtree(folder / ".hydra", ignore_errors=True)


def remove_unrun(folder: Path) -> None:
    """Remove the folder of a run that never began, unless it contains a file that an error message names."""
    if {path.name for path in folder.glob("*")} <= UNRUN:
        shutil.rmtree(folder, ignore_errors=True)


def begin_work(context, request: JobRequest) -> None:
    """Start run.json and metrics.jsonl of a run; report why earlier work of the same command is not resumed."""
    typed = [
        parts
        for parts in split_overrides(request.overrides)
        if not run_names.is_within(parts[1], fingerprint.UNRELATED)
    ]
    name = f"work_{run_names.short_hash(sorted(map(str, typed)))}"
    before = context.store.recall(name, code=dict, data=dict, phases=dict)
    if before and (why := keys.changed(before, context.parts)):
        say(f"not resuming the earlier run: {why}; what does not depend on it comes from the store")
    context.store.remember(name, context.parts)
    (context.folder / "run.json").write_text(json_text(request.about | {"parts": context.parts}, indent=1))
    (context.folder / "metrics.jsonl").write_text("")  # drop rows of an earlier attempt; all are logged again
    drawn = ("report.html", "report.png", *(["plan.png"] if request.sweep else []))
    for file in (*map(context.folder.joinpath, drawn), *context.folder.glob("find_*.png")):  # of an earlier attempt
        file.unlink(missing_ok=True)


def link_latest(target: Path) -> None:
    """Point outputs/latest at a run or sweep, if its folder is in outputs."""
    if not target.is_relative_to(paths.OUTPUTS):
        return
    temporary = paths.OUTPUTS / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.relative_to(paths.OUTPUTS))
    temporary.replace(paths.OUTPUTS / "latest")


def named_folder(typed: CommandLine) -> Path | None:
    """Return the folder the user named for a run or sweep, or None. Raise UserError (exit 2) if it contains `${`."""
    key = "hydra.sweep.dir=" if typed.multirun else "hydra.run.dir="
    given = [unquote(arg.removeprefix(key)) for arg in typed.argv if arg.startswith(key)]
    if given and "${" in given[-1]:
        raise UserError(2, f"{key}{given[-1]}: must not contain ${{...}}; without it the folder is named by date")
    return Path(given[-1]) if given else None


def folder_for(typed: CommandLine, named: Path | None) -> Path:
    """Return the folder of a run or sweep: the one the user named, that of the same sweep before, or a new dated one.

    Raise UserError if it contains another sweep (exit 6) or no new folder can be made (exit 5).
    """
    if named:
        if typed.multirun and (taken := refuse_sweep_folder(named, typed.argv)):
            raise taken
        return named
    if typed.multirun:
        before = sorted((paths.OUTPUTS / "multirun").glob(f"*_{run_names.sweep_hash(typed.argv)}"))
        if before:
            if any(before[-1].glob("*/status.json")):  # without any, it was only planned
                say(f"note: continuing the same sweep in {short_path(before[-1])}; finished jobs are not run again")
            return before[-1]
    name = run_names.folder_name(typed.argv, datetime.now(), typed.multirun)
    return new_folder(paths.OUTPUTS / ("multirun" if typed.multirun else "runs") / name)
