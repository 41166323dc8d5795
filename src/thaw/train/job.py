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

from thaw.config import paths, run_names
from thaw.config.compose import anchored, structured, to_plain, to_settings
from thaw.config.overrides import split_overrides
from thaw.config.paths import ROOT
from thaw.config.schema import Settings
from thaw.config.values import parse_bytes
from thaw.plan import phases, plan, show, unused_settings
from thaw.plan.facts import known_facts
from thaw.runtime import machine, signals
from thaw.runtime.console import say, say_notes
from thaw.runtime.errors import UserError
from thaw.runtime.files import format_bytes, read_text, short_path, write_atomically, write_data_lists
from thaw.runtime.job_status import as_user_error, print_error, read_status, update_status, write_status
from thaw.store import code_hash, estimates, keys
from thaw.store.open import FRESH, begin_fresh, end_fresh, open_store
from thaw.store.store import Store, sha256_of
from thaw.sweep import preview
from thaw.sweep.jobs import is_gone, keys_swept_in, overrides_in
from thaw.train import fingerprint

GROUPS = ("scheduler", "rates", "resize", "backbone", "augment", "checklist", "optimizer", "head", "data", "loss")


def carry_out(cfg, hydra_, folder: Path) -> None:
    """The composed configuration made into a plan and carried out; whatever happens is said in status.json.

    Errors: a signal that asks to stop. A failure is no error here, so that no launcher loses the other jobs.
    """
    about = about_job(hydra_)
    overrides, before = about["overrides"], read_status(folder)
    if (several := machine.several_processes()) and not machine.is_first_process():
        return
    sweep = folder.parent.name if hydra_.mode.name == "MULTIRUN" else None
    if sweep is None and (taken := refuse_folder(folder, before, overrides)):
        print_error(taken)  # and nothing is written there
        return
    trackers: list = []  # one, once there is a W&B run

    def opened(settings: Settings, key: str, **columns):
        from thaw.report import publish, tracker

        swept = keys_swept_in(folder.parent) if sweep else ()
        choices = {group: choice for group, choice in hydra_.runtime.choices.items() if group in GROUPS}
        identity = publish.identity_of(settings, folder, about, sweep, swept, choices, to_plain(cfg), key)
        identity["config"] |= columns
        trackers.append(tracker.open_tracker(folder, settings.wandb, tracker.RunIdentity(**identity), say))
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
        settings = to_settings(cfg, overrides)
        mark = None if settings.plan_only else fingerprint.fingerprint(settings)
        same = sweep and mark and before.get("stamp") == mark and before["overrides"] == overrides
        if same and (result := finished_result(folder)):
            say(f"job {folder.name}: done before, accuracy {result['best/accuracy']:.2%}")
            return
        write_status(folder, state="running", pid=os.getpid(), host=socket.gethostname(), **about)
        dated = not before and not has_named_folder(hydra_) and folder.parent == paths.OUTPUTS / "runs"
        result = train_job(settings, folder, about, sweep, opened, mark, dated)
        if result is None and dated and not settings.plan_only:
            shutil.rmtree(folder)  # it was done already: nothing but Hydra's files and ours of a second ago
            return
        write_status(folder, state="done", stamp=mark if result and not settings.fresh else None, **about)
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, signals.Stopped) else signals.Stopped(signal.SIGINT, "before training")
        with suppress(OSError):
            state = "waiting" if stopped.requeued else "failed"
            words = told(stopped.code, stopped.line)
            write_status(folder, state=state, code=stopped.code, line=stopped.line, **about, **words)
        raise stopped from None
    except (Exception, SystemExit) as error:
        error = as_user_error(error, folder)
        code = print_error(error)
        if sweep and not trackers and not cfg.plan_only:  # refused before it had a W&B run: there it is a failed one
            with suppress(Exception):
                opened(anchored(structured(cfg)), folder.name)
        with suppress(OSError):  # on a full disk the line on the terminal has to do
            write_status(folder, state="failed", code=code, line=error.line, **about, **told(code, error.line))


def refuse_folder(folder: Path, before: dict, overrides: list[str]) -> UserError | None:
    """Why a run may not have this folder: it is in use, exit 5, or it holds another run, exit 6."""
    here = before.get("state") == "running" and before.get("host") == socket.gethostname()
    if here and not is_gone(before, (folder / "status.json").stat().st_mtime):
        return UserError(5, f"hydra.run.dir={folder}: in use by process {before['pid']}; give another folder")
    if before and before["overrides"] != overrides and (folder / "run.json").exists():
        other = run_names.short_name(before["overrides"]) or "default"
        return UserError(6, f"hydra.run.dir={folder}: another run is there ({other}); give another folder")
    return None


def refuse_sweep_folder(folder: Path, argv: list[str]) -> UserError | None:
    """Why a sweep may not have this folder: one of other keys is there, exit 6. More values of its keys go on."""
    before = overrides_in(read_text(folder / "multirun.yaml")) if any(folder.glob("*/status.json")) else None

    def keys_of(overrides: list[str]) -> set[str]:
        given = {key for _, key, _ in split_overrides(overrides)}
        return {
            key for key in given if not key.startswith("hydra") and not run_names.is_within(key, fingerprint.UNRELATED)
        }

    if before is None or keys_of(before) == keys_of(argv):
        return None
    other = run_names.short_name(before) or "default"
    return UserError(6, f"hydra.sweep.dir={folder}: another sweep is there ({other}); give another folder")


def has_named_folder(hydra_) -> bool:
    """Whether the user said where the run is to lie."""
    return any(o.lstrip("+").startswith("hydra.run.dir=") for o in hydra_.overrides.hydra)


def about_job(hydra_) -> dict:
    """What was asked for, as every file of a job says it."""
    overrides = list(hydra_.overrides.task)
    recipe = hydra_.mode.name == "MULTIRUN" and any(o.startswith("experiment=") for o in overrides)
    alone = ["hydra.mode=RUN"] if recipe else []  # else the recipe's own sweep may start
    return {"overrides": overrides, "command": run_names.typed_command(overrides + alone), "commit": commit()}


def train_job(
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
    code_hash.code_by_module(code_hash.ALL_CODE)  # the code that runs is the code that is there now
    store = open_store(settings, say)
    store.waits = lambda name: update_status(folder, waits_for=name)
    look = sweep is None and not (settings.fresh or settings.plan_only or settings.stop_after)  # was it done before?
    known = f"stamp_{mark}" if mark else None
    anew = folder.parent / FRESH if sweep else store.root / "facts" / f"fresh_{known}.json"
    if settings.fresh and known:
        begin_fresh(store, anew)
    if look and done_before(store, store.recall(known).get("identity"), folder, dated):
        return None
    found, decode_cache = None, None if settings.plan_only else decode_cache_of(settings, store)
    if settings.data.kind in ("folder", "csv"):
        from thaw.data.scan import count_pictures

        found = count_pictures(settings, store, say, decode_cache)
    planned = show_plan(settings, folder, store)
    for line in unused_settings.no_effect(about["overrides"], settings, planned.phases):
        say(f"warning: {line}")
    if settings.plan_only:
        if found is not None:  # else the run itself says it
            say_notes([*found.notes, *unused_settings.unused_share(about["overrides"], found.valid_from)])
            write_data_lists(folder, found.bad, found.disputed)
        say(preview.preview_run(settings, planned, store))
        say(f"plan only: {short_path(folder)}/plan.txt, plan.png")
        return None

    from thaw.report import publish
    from thaw.train.run import result_columns, run_plan
    from thaw.train.setup import set_up

    try:
        context, decode_cache = set_up(settings, folder, store, decode_cache), None  # whose disk is free again
    except Exception:  # what was refused can be seen there; what was stopped is gone on with
        opened(settings, folder.name)
        raise
    say_notes(unused_settings.unused_share(about["overrides"], context.dataset.table.valid_from))
    if context.plan.facts != planned.facts:  # what was '?' is known now
        say(show.plan_table(context.plan, settings))
    store.remember(known, {"identity": context.identity})
    if look and done_before(store, context.identity, folder, dated):
        return None
    say(f"device: {context.computes_on}")
    begin_work(context, about)
    link("latest", folder if sweep is None else folder.parent)
    tracker = opened(settings, context.identity, **result_columns(context))
    result = run_plan(context, tracker.log)
    result |= {"identity": context.identity, "model_sha256": sha256_of(folder / "model.safetensors")}
    result |= about | {"wandb_id": tracker.id, "wandb_offline": tracker.unsent, "versions": versions()}
    write_atomically(folder / "result.json", json.dumps(result, indent=1))
    publish.publish_report(context, result, tracker)
    if result["wandb_offline"] != tracker.unsent:  # the server was lost on the way
        result["wandb_offline"] = tracker.unsent
        write_atomically(folder / "result.json", json.dumps(result, indent=1))
    if settings.stop_after is None:
        store.remember(f"finished_{context.identity}", {"folder": str(folder), "accuracy": result["best/accuracy"]})
    looked_at = [path for path in store.used if path.relative_to(store.root).parts[0] in ("pixels", "activations")]
    estimates.remember_cost(
        store, context.links[0], looked_at, time.perf_counter() - began - context.counters.paid, made=True
    )
    publish.say_summary(result, folder, sweep is None)
    if not sweep:  # of which the end is known to train.py
        end_fresh(anew)
    if store.added >= 1e5:
        say(f"store: {format_bytes(store.added)} added to {short_path(store.root)}")
    return result


def decode_cache_of(settings: Settings, store: Store):
    """Where the scan leaves what it decodes for the store; None where there is no file, or no size is known yet."""
    size = plan.final_size(settings, known_facts(settings, store.recall))
    if size is None or settings.data.kind in ("digits", "shapes"):
        return None
    from thaw.data.decode_cache import DecodeCache

    budget = parse_bytes(settings.data.pixels_budget, "data.pixels_budget")
    return DecodeCache(store.root, round(size / settings.data.crop_pct), budget)


def show_plan(settings: Settings, folder: Path, store: Store) -> phases.Plan:
    """Plan with what is known before anything is loaded; print it, write it, draw it."""
    planned = plan.make_plan(settings, known_facts(settings, store.recall))
    text = show.plan_table(planned, settings)
    say(text)
    (folder / "plan.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
    from thaw.report import timeline

    timeline.plan_png(show.plan_timeline(planned, settings), folder / "plan.png")
    return planned


def done_before(store: Store, identity: str | None, folder: Path, dated: bool) -> bool:
    """Whether a run that depends on the same things is finished and whole, where this one may point to it; says so.

    A folder that was asked for by name gets its own copy, from the store.
    """
    done = store.recall(f"finished_{identity}")
    where = Path(done.get("folder", "."))
    if not (result := finished_result(where)) or result.get("identity") != identity:
        return False
    if folder != where and not dated:
        return False
    for line in result.get("warnings", ()):
        say(line)
    say(f"already done: accuracy {done['accuracy']:.2%}, {short_path(where)}; fresh=true trains anew")
    link("latest", where)
    return True


def finished_result(folder: Path) -> dict:
    """The result of a finished run whose model is the one that it left, else nothing."""
    try:
        result = json.loads((folder / "result.json").read_text())
        return result if result["model_sha256"] == sha256_of(folder / "model.safetensors") else {}
    except (OSError, ValueError, LookupError):
        return {}


def begin_work(context, about: dict) -> None:
    """Begin the files of a run, run.json with what it depends on, and say why work of the same command is of no use."""
    typed = [
        parts
        for parts in split_overrides(about["overrides"])
        if not run_names.is_within(parts[1], fingerprint.UNRELATED)
    ]
    name = f"work_{run_names.short_hash(sorted(map(str, typed)))}"
    before = context.store.recall(name)
    if before and (why := keys.changed(before, context.parts)):
        say(f"not resuming: {why}; what does not depend on it comes from the store")
    context.store.remember(name, context.parts)
    (context.folder / "run.json").write_text(json.dumps(about | {"parts": context.parts}, indent=1))
    (context.folder / "metrics.jsonl").write_text("")  # of an attempt before: all rows come again


def versions() -> dict:
    return {
        name: version(name)
        for name in ("torch", "timm", "albumentations", "opencv-python-headless", "hydra-core", "wandb")
    }


def link(name: str, target: Path) -> None:
    """outputs/NAME points at the newest run or sweep there; one that was put elsewhere is found by who put it there."""
    if not target.is_relative_to(paths.OUTPUTS):
        return
    temporary = paths.OUTPUTS / f".{name}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.relative_to(paths.OUTPUTS))
    temporary.replace(paths.OUTPUTS / name)


def commit() -> str | None:
    """None where the code is not in git, or git is not on this machine."""
    asked = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError):
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or None
