"""The stages of one job: plan, set up, run, publish.

Heavy imports (torch, timm, wandb) come only after the plan is printed, so that a typing error or a plan takes a second.
"""

import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

from thaw.config.job_request import JobRequest
from thaw.config.schema import Settings
from thaw.config.sources import SOURCES
from thaw.config.values import parse_bytes
from thaw.plan import plan, show, unused_settings
from thaw.plan.facts import known_facts
from thaw.plan.phases import Plan
from thaw.report.tracker import Tracker
from thaw.runtime.console import say, say_notes, say_text
from thaw.runtime.files import (
    format_bytes,
    format_duration,
    json_text,
    short_path,
    write_atomically,
    write_data_lists,
    write_document,
)
from thaw.runtime.job_status import update_status
from thaw.store import code_hash, estimates
from thaw.store.fresh import begin_fresh, end_fresh, fresh_file
from thaw.store.open import open_store
from thaw.store.publish import sha256_of
from thaw.store.store import Store
from thaw.sweep import preview
from thaw.sweep.jobs import keys_swept_in
from thaw.train.preflight import check_ahead
from thaw.train.run_folders import begin_work, done_before, link_latest, remember_done
from thaw.train.start import Start

DRAWS_ITSELF = 30  # seconds: a job of a sweep that takes longer draws its report, which takes about one


def train_job(
    settings: Settings, request: JobRequest, tracker: Tracker, stamp: str | None, in_unnamed_folder: bool = False
) -> dict | None:
    """Plan a job and, unless plan_only=true, train, export and report.

    `stamp` is the fingerprint of the settings, None with plan_only. `in_unnamed_folder`: the folder is a new one
    in outputs/runs that the user did not name; only then can a finished run elsewhere be used instead. Return the
    result as in result.json, or None if nothing was trained: plan_only, or the run is already finished.
    """
    began, folder = time.perf_counter(), request.folder
    code_hash.code_by_module(code_hash.ALL_CODE)  # hashed now, so that later edits of the files do not count
    known, fresh = f"stamp_{stamp}", fresh_file(settings, request, stamp)
    since = begin_fresh(Path(settings.store.dir), fresh) if fresh else 0.0
    store = open_store(settings, say, lambda name: update_status(folder, waits_for=name), since)
    may_reuse_a_run = not (request.sweep or settings.fresh or settings.plan_only or settings.stop_after)
    if may_reuse_a_run and done_before(store, store.recall(known).get("identity"), folder, in_unnamed_folder):
        return None
    start = make_start(settings, request, store, check_ahead(settings, store.recall), began)
    if settings.plan_only:
        say_preview(settings, request, store, start)
        return None
    identify = partial(run_identity, request)
    tracker.refused = tracker.refused or partial(identify, folder.name)
    context = set_up_run(settings, request, store, start)
    del start  # frees the disk space of the images the scan decoded
    store.remember(known, {"identity": context.identity})
    if may_reuse_a_run and done_before(store, context.identity, folder, in_unnamed_folder):
        return None
    say(f"device: {computes_on(context)}")
    begin_work(context, request)
    link_latest(folder.parent if request.sweep else folder)
    from thaw.train.run import result_columns, run_plan

    tracker.begin(identify(context.identity, result_columns(context)))
    result = run_plan(context, tracker)
    publish_result(context, request, result, tracker)
    kinds = ("pixels", "activations")
    image_artifacts = [path for path in store.used if path.relative_to(store.root).parts[0] in kinds]
    seconds = time.perf_counter() - began - context.costs.paid
    estimates.remember_cost(store, context.costs.artifacts[0], image_artifacts, seconds, made=True)
    if fresh and not request.sweep:  # train.py ends a sweep
        end_fresh(fresh)
    end_tracking(tracker, result, folder)
    say_end(result, context, alone=not request.sweep)
    say_exceeded(settings, time.perf_counter() - began)
    return result


def make_start(settings: Settings, request: JobRequest, store: Store, ahead: Plan, began: float) -> Start:
    """Scan the user's own images, plan with what is known before heavy imports, and show the plan.

    `ahead` is the plan made before the scan; it is kept unless the scan changed the facts.
    """
    table, decode_cache = None, None if settings.plan_only else decode_cache_of(settings, store)
    if SOURCES[settings.data.kind].local:
        from thaw.data.scan import scan_ahead

        table = scan_ahead(settings, store, say, decode_cache)
    facts = known_facts(settings, store.recall)
    planned = ahead if ahead.facts == facts else plan.make_plan(settings, facts)
    for line in unused_settings.no_effect(request.overrides, settings, planned.phases):
        say(f"warning: {line}")
    show_plan(planned, settings, request.folder, draw=settings.plan_only or not request.sweep)
    return Start(planned, table, decode_cache, began)


def show_plan(planned: Plan, settings: Settings, folder: Path, draw: bool) -> None:
    """Print the plan, and write it to plan.txt and, with `draw`, plan.png."""
    text = show.plan_table(planned, settings)
    say_text(text)
    write_document(folder / "plan.txt", text)
    if draw:
        from thaw.report import timeline

        timeline.plan_png(show.plan_timeline(planned, settings), folder / "plan.png")


def say_preview(settings: Settings, request: JobRequest, store: Store, start: Start) -> None:
    """Report what a run would do, and list the images it would leave out."""
    if (table := start.table) is not None:  # without a scan, only the run itself can tell
        say_notes(unused_settings.unused_valid_share(request.overrides, table.valid_from))
        write_data_lists(request.folder, table.bad, table.disputed)
    say(preview.preview_run(settings, start.plan, store))
    say(f"plan only: {short_path(request.folder)}/plan.txt, plan.png")


def set_up_run(settings: Settings, request: JobRequest, store: Store, start: Start):
    """Return the context of the run; show the plan again if it has new facts."""
    from thaw.train.setup import set_up

    context = set_up(settings, request.folder, store, start)
    say_notes(unused_settings.unused_valid_share(request.overrides, context.inputs.table.valid_from))
    if context.plan.facts != start.plan.facts:  # shown as '?' before
        say_text(show.plan_table(context.plan, settings))
    return context


def run_identity(request: JobRequest, key: str, columns: dict | None = None):
    """Return the W&B identity of a run: its id follows from `key`, `columns` are added to its configuration."""
    from thaw.report import publish

    return publish.run_identity(request, keys_swept_in(request.folder.parent) if request.sweep else (), key, columns)


def computes_on(context) -> str:
    """Name the device, precision, threads and loader processes in one line."""
    import torch

    n = context.inputs.workers
    line = f"{context.device}, {n} loader process{'es' * (n != 1)}"
    idle = torch.cuda.device_count() - 1 if context.device.device.type == "cuda" else 0
    return line + (f"; {idle} more GPU{'s are' if idle > 1 else ' is'} not used" if idle > 0 else "")


def publish_result(context, request: JobRequest, result: dict, tracker: Tracker) -> None:
    """Write result.json and the report, publish to W&B, and remember in the store that the run is finished."""
    from thaw.report import publish

    settings, folder, file = context.settings, context.folder, context.folder / "result.json"
    result |= {"identity": context.identity, "model_sha256": sha256_of(folder / "model.safetensors")}
    result |= {"store/code": settings.store.code, "bad_files": len(context.inputs.table.bad)}
    result |= request.about | {"wandb_id": tracker.id, "wandb_offline": tracker.unsent, "versions": versions()}
    write_atomically(file, json_text(result, indent=1))
    draw = not request.sweep or time.perf_counter() - context.began > DRAWS_ITSELF
    publish.publish_report(settings, context.plan, folder, result, tracker, context.image, draw)
    if settings.stop_after is None:
        remember_done(context.store, context.identity, folder, result["best/accuracy"], bool(request.sweep))


def end_tracking(tracker: Tracker, result: dict, folder: Path) -> None:
    """Finish the W&B run after everything else is written; update result.json if its server was lost meanwhile."""
    tracker.finish(0)
    if result["wandb_offline"] != tracker.unsent:
        result["wandb_offline"] = tracker.unsent
        write_atomically(folder / "result.json", json_text(result, indent=1))


def say_end(result: dict, context, alone: bool) -> None:
    """Print the closing lines, and how much the store has grown."""
    from thaw.report import publish

    publish.say_summary(result, context.folder, alone)
    if context.store.added >= 1e5:
        say(f"store: {format_bytes(context.store.added)} added to {short_path(context.store.root)}")


def say_exceeded(settings: Settings, seconds: float) -> None:
    """Warn if the time limit was clearly exceeded."""
    if settings.minutes is not None and seconds > 1.1 * 60 * settings.minutes and not settings.smoke:
        took = f"warning: minutes={settings.minutes:g} was exceeded: the job took {format_duration(seconds)}"
        say(f"{took}; reading the images, stored activations and a first epoch are never cut")


def decode_cache_of(settings: Settings, store: Store):
    """Return where the scan puts decoded images for the store; None if there are no files or the size is unknown."""
    size = plan.final_size(settings, known_facts(settings, store.recall))
    if size is None or SOURCES[settings.data.kind].draws:
        return None
    from thaw.data.decode_cache import DecodeCache

    budget = parse_bytes(settings.data.pixels_budget, "data.pixels_budget")
    return DecodeCache(store.root, round(size / settings.data.crop_pct), budget)


def versions() -> dict:
    """Return the installed version of each main library."""
    return {
        name: version(name)
        for name in ("torch", "timm", "albumentations", "opencv-python-headless", "hydra-core", "wandb")
    }
