"""The stages of one job: plan, set up, run, publish.

Heavy imports (torch, timm, wandb) come only after the plan is printed, so that a wrong word or a plan costs a second.
"""

import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from thaw.config.schema import Settings
from thaw.config.values import parse_bytes
from thaw.plan import phases, plan, show, unused_settings
from thaw.plan.facts import known_facts
from thaw.runtime.console import say, say_notes
from thaw.runtime.files import format_bytes, short_path, write_atomically, write_data_lists
from thaw.runtime.job_status import update_status
from thaw.store import code_hash, estimates
from thaw.store.fresh import FRESH, begin_fresh, end_fresh
from thaw.store.open import open_store
from thaw.store.publish import sha256_of
from thaw.store.store import Store
from thaw.sweep import preview
from thaw.train.run_folders import begin_work, done_before, link_latest


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

    `mark` is the fingerprint of the settings, None with plan_only. `dated`: the folder is a new one of outputs/runs
    that nobody named; only then may a finished run stand for this one. `opened(settings, key, **columns)` opens the
    tracker; whoever gave it ends it where this raises. The result as in result.json; None where nothing was trained, as
    it was asked or is done already.
    """
    began = time.perf_counter()
    code_hash.code_by_module(code_hash.ALL_CODE)  # the code that runs is the code that is there now
    store = open_store(settings, say)
    store.waits = lambda name: update_status(folder, waits_for=name)
    may_be_done = sweep is None and not (settings.fresh or settings.plan_only or settings.stop_after)
    known = f"stamp_{mark}" if mark else None
    anew = folder.parent / FRESH if sweep else store.root / "facts" / f"fresh_{known}.json"
    if settings.fresh and known:
        begin_fresh(store, anew)
    if may_be_done and done_before(store, store.recall(known).get("identity"), folder, dated):
        return None
    planned, found, decode_cache = plan_first(settings, folder, store, about["overrides"])
    if settings.plan_only:
        say_preview(settings, folder, store, about["overrides"], planned, found)
        return None
    context = set_up_run(settings, folder, store, about["overrides"], planned, decode_cache, opened)
    del decode_cache  # whose disk is free again
    store.remember(known, {"identity": context.identity})
    if may_be_done and done_before(store, context.identity, folder, dated):
        return None
    say(f"device: {context.computes_on}")
    begin_work(context, about)
    link_latest(folder if sweep is None else folder.parent)
    result = run_and_publish(context, about, opened)
    looked_at = [path for path in store.used if path.relative_to(store.root).parts[0] in ("pixels", "activations")]
    seconds = time.perf_counter() - began - context.counters.paid
    estimates.remember_cost(store, context.artifacts[0], looked_at, seconds, made=True)
    say_end(result, context, alone=sweep is None)
    if not sweep:  # of which the end is known to train.py
        end_fresh(anew)
    return result


def plan_first(settings: Settings, folder: Path, store: Store, overrides: list[str]):
    """Plan with what is known before anything heavy is loaded, and say it.

    Return the plan, the table of the user's own pictures (else None), and where the scan left what it decoded.
    """
    found, decode_cache = None, None if settings.plan_only else decode_cache_of(settings, store)
    if settings.data.kind in ("folder", "csv"):
        from thaw.data.scan import count_pictures

        found = count_pictures(settings, store, say, decode_cache)
    planned = show_plan(settings, folder, store)
    for line in unused_settings.no_effect(overrides, settings, planned.phases):
        say(f"warning: {line}")
    return planned, found, decode_cache


def say_preview(
    settings: Settings, folder: Path, store: Store, overrides: list[str], planned: phases.Plan, found
) -> None:
    """Say what a run would do, and list the pictures that it would leave out."""
    if found is not None:  # else the run itself says it
        say_notes([*found.notes, *unused_settings.unused_share(overrides, found.valid_from)])
        write_data_lists(folder, found.bad, found.disputed)
    say(preview.preview_run(settings, planned, store))
    say(f"plan only: {short_path(folder)}/plan.txt, plan.png")


def set_up_run(
    settings: Settings,
    folder: Path,
    store: Store,
    overrides: list[str],
    planned: phases.Plan,
    decode_cache,
    opened: Callable,
):
    """Make the run's context; show the plan again where it has facts now that it lacked."""
    from thaw.train.setup import set_up

    try:
        context = set_up(settings, folder, store, decode_cache)
    except Exception:  # what was refused can be seen there; what was stopped is gone on with
        opened(settings, folder.name)
        raise
    say_notes(unused_settings.unused_share(overrides, context.dataset.table.valid_from))
    if context.plan.facts != planned.facts:  # what was '?' is known now
        say(show.plan_table(context.plan, settings))
    return context


def run_and_publish(context, about: dict, opened: Callable) -> dict:
    """Run the plan; leave result.json, the report and what W&B shows. Return the result."""
    from thaw.report import publish
    from thaw.train.run import result_columns, run_plan

    settings, folder, file = context.settings, context.folder, context.folder / "result.json"
    tracker = opened(settings, context.identity, **result_columns(context))
    result = run_plan(context, tracker.log)
    result |= {"identity": context.identity, "model_sha256": sha256_of(folder / "model.safetensors")}
    result |= about | {"wandb_id": tracker.id, "wandb_offline": tracker.unsent, "versions": versions()}
    write_atomically(file, json.dumps(result, indent=1))
    publish.publish_report(context, result, tracker)
    if result["wandb_offline"] != tracker.unsent:  # the server was lost on the way
        result["wandb_offline"] = tracker.unsent
        write_atomically(file, json.dumps(result, indent=1))
    if settings.stop_after is None:
        done = {"folder": str(folder), "accuracy": result["best/accuracy"]}
        context.store.remember(f"finished_{context.identity}", done)
    return result


def say_end(result: dict, context, alone: bool) -> None:
    """Say the closing lines, and by how much the store has grown."""
    from thaw.report import publish

    publish.say_summary(result, context.folder, alone)
    if context.store.added >= 1e5:
        say(f"store: {format_bytes(context.store.added)} added to {short_path(context.store.root)}")


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


def versions() -> dict:
    return {
        name: version(name)
        for name in ("torch", "timm", "albumentations", "opencv-python-headless", "hydra-core", "wandb")
    }
