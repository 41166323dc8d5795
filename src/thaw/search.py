"""A find phase: the curve of the finder, out of the store or recorded, and the rate that is taken of it."""

import json
import time
from contextlib import closing
from pathlib import Path

from thaw import find, keys, model, plan, progress, signals, suggest
from thaw.fit import Kept
from thaw.job import Job, layer_groups, train_batches
from thaw.model import thaw
from thaw.plan import Phase


def search(job: Job, phase: Phase, kept: Kept | None) -> tuple[suggest.Found, dict, float]:
    """Find the rate for the fits that use it, write its curve, say what was taken and why.

    Also the report of the phase, and the seconds that the store saved.
    """
    settings = job.settings
    made: list[dict] = []
    steps, orders = plan.find_length(settings, phase)

    def build(folder: Path) -> None:
        began = time.perf_counter()
        if kept is not None and job.holds != kept.end.key:
            model.load(job.network.model, kept.end.weights(), "the store", head=True)
            job.holds = kept.end.key
        record = tried if settings.find.rule == "trials" else swept
        rates, losses = record(job, phase, steps, orders)
        made.append({"rates": rates, "losses": losses, "seconds": time.perf_counter() - began})
        (folder / "curve.json").write_text(json.dumps(made[0]))

    before = kept.end.key if kept else job.made
    path, _ = job.store.make(
        "finds", keys.find_parts(settings, phase, steps, orders, before, job.data_key, job.device.computed), build
    )
    curve = made[0] if made else json.loads((path / "curve.json").read_text())
    job.note(phase, 0, path, curve["seconds"], curve["seconds"] if made else None)
    read = suggest.read_trials if settings.find.rule == "trials" else suggest.read_range
    found = read(curve["rates"], curve["losses"], settings.find)
    for row in found.rows():
        job.log({f"{phase.name}/{column}": value for column, value in row.items()})
    (job.folder / f"find_{phase.name.removeprefix('find_')}.json").write_text(
        json.dumps({"phase": phase.name, **found.as_json()}, indent=1)
    )
    mark = "warning: " if found.doubtful and not settings.smoke else ""
    used = f"lr {found.taken:.3g} taken"
    if settings.lr_factor != 1:
        used += f", × lr_factor {settings.lr_factor:g} = {found.taken * settings.lr_factor:.3g}"
    progress.say(f"{phase.name}: {mark}{used}; {found.reason}{'' if made else ' (from the store)'}")
    report = {"lr": found.taken, "seconds": curve["seconds"], "reused": not made}
    return found, report, 0.0 if made else curve["seconds"]


def tried(job: Job, phase: Phase, steps: int, orders: int) -> tuple[list[float], list[list[list[float]]]]:
    """Trials of so many steps in so many orders of the data: rates, rising, and of each the losses in every order."""
    find_ = plan.find_range(job.settings)
    cut = [
        list(train_batches(job, phase, epochs_of(phase, steps, order), phase.name, steps)) for order in range(orders)
    ]
    with progress.Phase(phase.name, plan.most_trials(job.settings)) as line:
        ran = find.trials(job.network, cut, find=find_, **as_in_fit(job, phase))
        rates, losses = zip(*sorted(watched(ran, line, phase.name)), strict=True)
    return list(rates), list(losses)


def swept(job: Job, phase: Phase, steps: int, orders: int) -> tuple[list[float], list[float]]:
    """A range test of so many steps: rates and losses."""
    cut = train_batches(job, phase, epochs_of(phase, steps, 0), phase.name, steps)
    with progress.Phase(phase.name, steps) as line, closing(cut):
        batches = watched(cut, line, phase.name)
        return find.range_test(
            job.network, batches, find=plan.find_range(job.settings), steps=steps, **as_in_fit(job, phase)
        )


def epochs_of(phase: Phase, steps: int, order: int) -> range:
    """The epochs from which a find takes so many steps; every order takes others."""
    n = -(-steps // phase.epochs[0].steps)
    return range(order * n, (order + 1) * n)


def as_in_fit(job: Job, phase: Phase) -> dict:
    """What a find trains with: as the fit that it serves."""
    settings, live = job.settings, phase.features == "live"
    return {
        "groups": layer_groups(job, phase),
        "optimizer": settings.optimizer,
        "prepare": lambda network: thaw(network, phase.train, settings.bn),
        "loss": job.loss,
        "mixup": settings.augment.mixup if live else 0.0,
        "cutmix": settings.augment.cutmix if live else 0.0,
        "clip": settings.optimizer.clip,
        "seed": (settings.seed, phase.name, "find"),
    }


def watched(items, line: progress.Phase, name: str):
    """The items, the line moving with them. Errors: a signal that asks to stop; the test is done again next time."""
    for item in items:
        if number := signals.pending():
            signals.leave(number, f"in {name}")
        yield item
        line.step()
