"""An attempt at a job: what was composed, planned and carried out; whatever happens is said in its status.json.

Heavy imports (torch, timm, wandb) come only after the plan is printed, so that a wrong word or a plan costs a second.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from thaw import again, composed, forecast, keys, machine, plan, preview, signals, table, tend, titles, unread
from thaw.checks import size_in_bytes
from thaw.composed import ROOT, anchored, as_settings, plain, structured
from thaw.disk import write_whole
from thaw.endings import as_refusal, refused, said, status, status_of
from thaw.errors import UserError
from thaw.facts import known_facts
from thaw.files import near, show_bytes, text_of, write_lists
from thaw.help import overrides_of
from thaw.progress import notes, say
from thaw.settings import Settings
from thaw.store import Store, sha256_of
from thaw.sweep.jobs import gone, swept_in, typed_in

GROUPS = ("scheduler", "rates", "resize", "backbone", "augment", "checklist", "optimizer", "head", "data", "loss")


def carry_out(cfg, hydra_, folder: Path) -> None:
    """The composed configuration made into a plan and carried out; whatever happens is said in status.json.

    Errors: a signal that asks to stop. A failure is no error here, so that no launcher loses the other jobs.
    """
    about = about_of(hydra_)
    overrides, before = about["overrides"], status_of(folder)
    if (several := machine.several_processes()) and not machine.is_first():
        return
    sweep = folder.parent.name if hydra_.mode.name == "MULTIRUN" else None
    if sweep is None and (taken := taken_by(folder, before, overrides)):
        refused(taken)  # and nothing is written there
        return
    trackers: list = []  # one, once there is a W&B run

    def opened(settings: Settings, key: str, **columns):
        from thaw import dashboard, track

        swept = swept_in(folder.parent) if sweep else ()
        choices = {group: choice for group, choice in hydra_.runtime.choices.items() if group in GROUPS}
        identity = dashboard.identity_of(settings, folder, about, sweep, swept, choices, plain(cfg), key)
        identity["config"] |= columns
        trackers.append(track.open_tracker(folder, settings.wandb, track.Identity(**identity), say))
        return trackers[-1]

    def told(code: int, line: str) -> dict:
        for tracker in trackers:
            tracker.summary({"error": line})
            tracker.finish(code)
        return {"wandb_offline": trackers[0].unsent} if trackers else {}

    try:
        signals.listen()
        if several:
            raise several
        settings = as_settings(cfg, overrides)
        mark = None if settings.plan_only else again.stamp(settings)
        same = sweep and mark and before.get("stamp") == mark and before["overrides"] == overrides
        if same and (result := whole(folder)):
            say(f"job {folder.name}: done before, accuracy {result['best/accuracy']:.2%}")
            return
        status(folder, state="running", pid=os.getpid(), host=socket.gethostname(), **about)
        dated = not before and not named(hydra_) and folder.parent == composed.OUTPUTS / "runs"
        result = train(settings, folder, about, sweep, opened, mark, dated)
        if result is None and dated and not settings.plan_only:
            shutil.rmtree(folder)  # it was done already: nothing but Hydra's files and ours of a second ago
            return
        status(folder, state="done", stamp=mark if result and not settings.fresh else None, **about)
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, signals.Stopped) else signals.Stopped(signal.SIGINT, "before training")
        with suppress(OSError):
            state = "waiting" if stopped.requeued else "failed"
            words = told(stopped.code, stopped.line)
            status(folder, state=state, code=stopped.code, line=stopped.line, **about, **words)
        raise stopped from None
    except (Exception, SystemExit) as error:
        error = as_refusal(error, folder)
        code = refused(error)
        if sweep and not trackers and not cfg.plan_only:  # refused before it had a W&B run: there it is a failed one
            with suppress(Exception):
                opened(anchored(structured(cfg)), folder.name)
        with suppress(OSError):  # on a full disk the line on the terminal has to do
            status(folder, state="failed", code=code, line=error.line, **about, **told(code, error.line))


def taken_by(folder: Path, before: dict, overrides: list[str]) -> UserError | None:
    """Why a run may not have this folder: it is in use, exit 5, or it holds another run, exit 6."""
    here = before.get("state") == "running" and before.get("host") == socket.gethostname()
    if here and not gone(before, (folder / "status.json").stat().st_mtime):
        return UserError(5, f"hydra.run.dir={folder}: in use by process {before['pid']}; give another folder")
    if before and before["overrides"] != overrides and (folder / "run.json").exists():
        other = titles.words(before["overrides"]) or "default"
        return UserError(6, f"hydra.run.dir={folder}: another run is there ({other}); give another folder")
    return None


def other_sweep(folder: Path, argv: list[str]) -> UserError | None:
    """Why a sweep may not have this folder: one of other keys is there, exit 6. More values of its keys go on."""
    before = typed_in(text_of(folder / "multirun.yaml")) if any(folder.glob("*/status.json")) else None

    def keys_of(overrides: list[str]) -> set[str]:
        given = {key for _, key, _ in overrides_of(overrides)}
        return {key for key in given if not key.startswith("hydra") and not titles.within(key, again.UNRELATED)}

    if before is None or keys_of(before) == keys_of(argv):
        return None
    other = titles.words(before) or "default"
    return UserError(6, f"hydra.sweep.dir={folder}: another sweep is there ({other}); give another folder")


def named(hydra_) -> bool:
    """Whether the user said where the run is to lie."""
    return any(o.lstrip("+").startswith("hydra.run.dir=") for o in hydra_.overrides.hydra)


def about_of(hydra_) -> dict:
    """What was asked for, as every file of a job says it."""
    overrides = list(hydra_.overrides.task)
    recipe = hydra_.mode.name == "MULTIRUN" and any(o.startswith("experiment=") for o in overrides)
    alone = ["hydra.mode=RUN"] if recipe else []  # else the recipe's own sweep may start
    return {"overrides": overrides, "command": titles.command(overrides + alone), "commit": commit()}


def train(
    settings: Settings,
    folder: Path,
    about: dict,
    sweep: str | None,
    opened: Callable,
    mark: str | None,
    dated: bool,
) -> dict | None:
    """Plan, and unless that is all that is wanted, train, export and report.

    `mark` is the stamp of the settings, None with plan_only. `dated`: the folder is a new one of outputs/runs that
    nobody named; only then may a finished run stand for this one. `opened(settings, key, **columns)` opens the tracker;
    whoever gave it ends it where this raises. The result as in result.json; None where nothing was trained, as it was
    asked or is done already.
    """
    began = time.perf_counter()
    keys.code_of(keys.ALL_CODE)  # the code that runs is the code that is there now
    store = tend.open_store(settings, say)
    store.waits = lambda name: said(folder, waits_for=name)
    look = sweep is None and not (settings.fresh or settings.plan_only or settings.stop_after)  # was it done before?
    known = f"stamp_{mark}" if mark else None
    anew = folder.parent / tend.FRESH if sweep else store.root / "facts" / f"fresh_{known}.json"
    if settings.fresh and known:
        tend.begin_anew(store, anew)
    if look and finished(store, store.recall(known).get("identity"), folder, dated):
        return None
    found, spool = None, None if settings.plan_only else spool_of(settings, store)
    if settings.data.kind in ("folder", "csv"):
        from thaw.data.count import count

        found = count(settings, store, say, spool)
    planned = show_plan(settings, folder, store)
    for line in unread.no_effect(about["overrides"], settings, planned.phases):
        say(f"warning: {line}")
    if settings.plan_only:
        if found is not None:  # else the run itself says it
            notes([*found.notes, *unread.share_unread(about["overrides"], found.valid_from)])
            write_lists(folder, found.bad, found.disputed)
        say(preview.alone(settings, planned, store))
        say(f"plan only: {near(folder)}/plan.txt, plan.png")
        return None

    from thaw import dashboard
    from thaw.run import columns, run
    from thaw.setup import set_up

    try:
        job, spool = set_up(settings, folder, store, spool), None  # whose disk is free again
    except Exception:  # what was refused can be seen there; what was stopped is gone on with
        opened(settings, folder.name)
        raise
    notes(unread.share_unread(about["overrides"], job.source.table.valid_from))
    if job.plan.facts != planned.facts:  # what was '?' is known now
        say(table.table(job.plan, settings))
    store.remember(known, {"identity": job.identity})
    if look and finished(store, job.identity, folder, dated):
        return None
    say(f"device: {job.computes_on}")
    begin_work(job, about)
    link("latest", folder if sweep is None else folder.parent)
    tracker = opened(settings, job.identity, **columns(job))
    result = run(job, tracker.log)
    result |= {"identity": job.identity, "model_sha256": sha256_of(folder / "model.safetensors")}
    result |= about | {"wandb_id": tracker.id, "wandb_offline": tracker.unsent, "versions": versions()}
    write_whole(folder / "result.json", json.dumps(result, indent=1))
    dashboard.leave_report(job, result, tracker)
    if result["wandb_offline"] != tracker.unsent:  # the server was lost on the way
        result["wandb_offline"] = tracker.unsent
        write_whole(folder / "result.json", json.dumps(result, indent=1))
    if settings.stop_after is None:
        store.remember(f"finished_{job.identity}", {"folder": str(folder), "accuracy": result["best/accuracy"]})
    looked_at = [path for path in store.used if path.relative_to(store.root).parts[0] in ("pixels", "activations")]
    forecast.remember(store, job.links[0], looked_at, time.perf_counter() - began - job.counters.paid, made=True)
    dashboard.summary(result, folder, sweep is None)
    if not sweep:  # of which the end is known to train.py
        tend.end_anew(anew)
    if store.added >= 1e5:
        say(f"store: {show_bytes(store.added)} added to {near(store.root)}")
    return result


def spool_of(settings: Settings, store: Store):
    """Where the scan leaves what it decodes for the store; None where there is no file, or no size is known yet."""
    size = plan.final_size(settings, known_facts(settings, store.recall))
    if size is None or settings.data.kind in ("digits", "shapes"):
        return None
    from thaw.data.spool import Spool

    budget = size_in_bytes(settings.data.pixels_budget, "data.pixels_budget")
    return Spool(store.root, round(size / settings.data.crop_pct), budget)


def show_plan(settings: Settings, folder: Path, store: Store) -> plan.Plan:
    """Plan with what is known before anything is loaded; print it, write it, draw it."""
    planned = plan.plan(settings, known_facts(settings, store.recall))
    text = table.table(planned, settings)
    say(text)
    (folder / "plan.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
    from thaw import report

    report.plan_png(table.timeline(planned, settings), folder / "plan.png")
    return planned


def finished(store: Store, identity: str | None, folder: Path, dated: bool) -> bool:
    """Whether a run that depends on the same things is finished and whole, where this one may point to it; says so.

    A folder that was asked for by name gets its own copy, from the store.
    """
    done = store.recall(f"finished_{identity}")
    where = Path(done.get("folder", "."))
    if not (result := whole(where)) or result.get("identity") != identity:
        return False
    if folder != where and not dated:
        return False
    for line in result.get("warnings", ()):
        say(line)
    say(f"already done: accuracy {done['accuracy']:.2%}, {near(where)}; fresh=true trains anew")
    link("latest", where)
    return True


def whole(folder: Path) -> dict:
    """The result of a finished run whose model is the one that it left, else nothing."""
    try:
        result = json.loads((folder / "result.json").read_text())
        return result if result["model_sha256"] == sha256_of(folder / "model.safetensors") else {}
    except (OSError, ValueError, LookupError):
        return {}


def begin_work(job, about: dict) -> None:
    """Begin the files of a run, run.json with what it depends on, and say why work of the same command is of no use."""
    typed = [parts for parts in overrides_of(about["overrides"]) if not titles.within(parts[1], again.UNRELATED)]
    name = f"work_{plan.digest(sorted(map(str, typed)))}"
    before = job.store.recall(name)
    if before and (why := keys.changed(before, job.parts)):
        say(f"not resuming: {why}; what does not depend on it comes from the store")
    job.store.remember(name, job.parts)
    (job.folder / "run.json").write_text(json.dumps(about | {"parts": job.parts}, indent=1))
    (job.folder / "metrics.jsonl").write_text("")  # of an attempt before: all rows come again


def versions() -> dict:
    return {
        name: version(name)
        for name in ("torch", "timm", "albumentations", "opencv-python-headless", "hydra-core", "wandb")
    }


def link(name: str, target: Path) -> None:
    """outputs/NAME points at the newest run or sweep there; one that was put elsewhere is found by who put it there."""
    if not target.is_relative_to(composed.OUTPUTS):
        return
    temporary = composed.OUTPUTS / f".{name}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.relative_to(composed.OUTPUTS))
    temporary.replace(composed.OUTPUTS / name)


def commit() -> str | None:
    """None where the code is not in git, or git is not on this machine."""
    asked = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError):
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or None
