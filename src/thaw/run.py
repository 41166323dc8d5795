"""The plan carried out: one fold over the phases, from a pretrained network to a finished classifier."""

import csv
import json
import re
import time
from collections.abc import Callable

import numpy as np
import torch
from safetensors import SafetensorError
from timm.models import save_for_hf

from thaw import ensemble, heads, model, plan, progress, suggest, table, tta, twins
from thaw.data import source
from thaw.disk import sync
from thaw.fit import Kept, fit
from thaw.job import Job, Row, Validation, look
from thaw.search import search
from thaw.settings import Settings
from thaw.setup import probe, sheets


def run(job: Job, log: Callable[[Row], None]) -> dict:
    """Carry out the checklist and leave a finished classifier in the job's folder; the result as in result.json."""
    settings, folder, job.log = job.settings, job.folder, log
    started, waited = time.perf_counter(), job.store.waited
    probe(job)
    sheets(job)
    twins_found = twins.look(job)
    kept, found, phases, saved = None, {}, {}, 0.0
    for index, phase in enumerate(job.plan.phases):
        if phase.do == "find":
            found[phase.name], report, seconds = search(job, phase, kept)
        else:
            lr = phase.lr if phase.lr is not None else found[phase.rate_from].taken * settings.lr_factor
            kept, report, seconds = fit(job, phase, index, lr, kept)
        phases[phase.name] = report
        saved += seconds
    planned = table.table(job.plan, settings, rates_found(settings, found))
    (folder / "plan.txt").write_text(planned, encoding="utf-8", errors="backslashreplace")
    if job.holds != kept.end.key:
        model.load(job.network.model, kept.end.weights(), "the store", head=True)
    best = kept.end.validation
    twins_found["warnings"] += no_better(job, best) + nothing_gained(job, kept, phases)
    result = {
        "best/accuracy": best.accuracy,
        "best/loss": best.loss,
        "best/f1_macro": best.f1_macro,
        "best/epoch": kept.epoch,
        "best/phase": kept.phase,
        **tta.figures(job, "best", job.valid_rows, best),
        **test(job),
        **ensemble.figures(job, kept),
        **{f"phase/{name}/{key}": value for name, report in phases.items() for key, value in report.items()},
        "bad_files": len(job.source.table.bad),
        **twins_found,
        "key": kept.end.key,
        "store/code": settings.store.code,
        **columns(job),
    }
    export(job, kept)
    paid = time.perf_counter() - started
    saved += sum(job.counters.saved.values())
    result |= {"cost/seconds": paid - (job.store.waited - waited) + saved, "cost/seconds_paid": paid}
    if job.device.device.type == "cuda":
        result["cost/gpu_gb"] = torch.cuda.max_memory_allocated(job.device.device) / 1e9
    return result


def no_better(job: Job, best: Validation) -> list[str]:
    """A warning, said and returned, where always answering the most frequent class does as well."""
    right, most = int((best.logits.argmax(1) == best.labels).sum()), int(best.labels.bincount().max())
    if right > most or job.settings.smoke:
        return []
    what = f"always answering the most frequent class, {most / len(best.labels):.2%}"
    line = f"warning: accuracy {best.accuracy:.2%} is no better than {what}"
    progress.say(line)
    return [line]


def nothing_gained(job: Job, kept: Kept, phases: dict[str, dict]) -> list[str]:
    """A sentence, said and returned, with what to try where the last phase made nothing better than one before it."""
    settings, last = job.settings, next(phase for phase in reversed(job.plan.phases) if phase.do == "fit")
    if kept.phase == last.name or settings.smoke or settings.stop_after:
        return []
    lower = f"checklist.{last.name}.lr={0.3 * phases[last.name]['lr']:.2g}"
    norms = any(isinstance(module, model.NORMS) for module in job.network.modules())
    still = " or bn=eval" if last.train == "all" and settings.bn == "train" and norms else ""
    line = f"{last.name} made nothing better than {kept.phase}, whose weights are kept; try {lower}{still}"
    progress.say(f"warning: {line}")
    return [f"warning: {line}"]


def columns(job: Job) -> dict:
    """What dashboards filter by and nobody typed."""
    facts, table = job.plan.facts, job.source.table
    content = sorted(zip(table.hashes, table.labels.tolist(), table.splits.tolist(), strict=True))
    return {
        "size": job.plan.size,
        "n_train": facts.train,
        "n_valid": facts.valid,
        "n_classes": facts.classes,
        "data_id": plan.digest([content, table.classes]),
        "device": str(job.device),
    }


def rates_found(settings: Settings, found: dict[str, suggest.Found]) -> dict[str, float]:
    """The rates the finders took, times lr_factor."""
    return {name: f.taken * settings.lr_factor for name, f in found.items()}


def test(job: Job) -> dict:
    """The test set, where there is one: looked at once, used for nothing."""
    rows = job.source.rows(source.TEST)
    if not len(rows):
        return {}
    seen = look(job, rows)
    write_predictions(job, "test", rows, seen)
    figures = {"test/accuracy": seen.accuracy, "test/loss": seen.loss, "test/f1_macro": seen.f1_macro}
    return figures | tta.figures(job, "test", rows, seen)


def export(job: Job, kept: Kept) -> None:
    """Weights and configuration in timm's form, and what the network says of every validation picture."""
    classes, size = list(job.source.table.classes), job.plan.size
    weights = job.folder / "model.safetensors"
    try:
        save_for_hf(
            job.network.model.to(memory_format=torch.contiguous_format),
            str(job.folder),
            safe_serialization=True,
            model_config={"label_names": classes, **heads.options(job.settings.head)},
            data_config={"input_size": (3, size, size), "crop_pct": job.settings.data.crop_pct},
        )
    except SafetensorError as error:
        if not (number := re.search(r"os error (\d+)", str(error))):
            raise
        raise OSError(int(number[1]), str(error), str(weights)) from error  # which is_machine knows
    weights.chmod((job.folder / "config.json").stat().st_mode)  # safetensors keeps it from everybody else
    sync(weights)
    if job.settings.backbone.weights != "pretrained":  # timm would name the weights it has under this architecture
        config = json.loads((job.folder / "config.json").read_text())
        for key in ("tag", "license", "origin_url", "paper_name", "paper_ids"):
            config["pretrained_cfg"].pop(key, None)
        (job.folder / "config.json").write_text(json.dumps(config, indent=2))
    write_predictions(job, "valid", job.valid_rows, kept.end.validation)


def write_predictions(job: Job, split: str, rows: np.ndarray, seen: Validation) -> None:
    """<split>_predictions.csv: of every picture its path, class, the class it was taken for, and the probabilities."""
    classes, paths = job.source.table.classes, job.source.table.paths
    with (job.folder / f"{split}_predictions.csv").open(
        "w", newline="", encoding="utf-8", errors="backslashreplace"
    ) as file:
        writer = csv.writer(file)
        writer.writerow(["path", "truth", "prediction", *classes])
        for row, label, p in zip(rows, seen.labels, seen.logits.softmax(1), strict=True):
            writer.writerow([paths[row], classes[label], classes[p.argmax()], *(f"{x:.6f}" for x in p.tolist())])
