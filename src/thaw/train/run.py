"""The execution of a plan: all phases in order, from a pretrained network to a finished classifier."""

import csv
import json
import re
import time

import numpy as np
import torch
from safetensors import SafetensorError
from timm.models import save_for_hf

from thaw.config import run_names
from thaw.data.contact_sheet import write_sheets
from thaw.data.table import FULL, TEST
from thaw.model import freezing, heads
from thaw.plan import show
from thaw.report.tracker import Tracker
from thaw.runtime import console
from thaw.runtime.files import sync, write_document
from thaw.train import calibration, ensemble, near_duplicates, tta
from thaw.train.context import RunContext
from thaw.train.fit import BestSoFar, fit_phase
from thaw.train.lr_finder import find_rate
from thaw.train.predictions import Predictions, predict, predict_stored
from thaw.train.time_limit import TimeLimit


def run_plan(context: RunContext, tracker: Tracker) -> dict:
    """Run all phases, leave a finished classifier in the job's folder, and return the result as in result.json."""
    settings, folder, inputs = context.settings, context.folder, context.inputs
    started, waited = time.perf_counter(), context.store.waited
    write_sheets(folder, context.plan, settings, inputs.table, inputs.pixels)
    inputs_left = [inputs.of(phase) for phase in context.plan.phases]
    duplicates = near_duplicates.report_duplicates(folder, inputs, inputs_left)
    best, found, phases, limit = None, {}, {}, TimeLimit(context)
    while inputs_left:
        phase_inputs = limit.cut_phase(inputs_left.pop(0), must=best is None)  # popped: frees its activations
        if phase_inputs is None:
            continue
        phase = phase_inputs.phase
        if phase.do == "find":
            outcome = find_rate(context, phase_inputs, best, tracker)
            found[phase.name] = outcome.found
        else:
            lr = phase.lr if phase.lr is not None else found[phase.rate_from].taken * phase.lr_factor
            outcome = fit_phase(context, phase_inputs, lr, best, tracker, limit)
            if outcome is None:
                continue
            best = outcome.best
        phases[phase.name] = outcome.report
    rates = {name: one.taken for name, one in found.items()}
    write_document(folder / "plan.txt", show.plan_table(context.plan, settings, rates))
    context.held.hold(best.end.key, best.end.weights)
    members = ensemble.ensemble_figures(context, best)  # before calibration changes the network
    validation, calibrated = calibration.calibrate(context, best.end.validation)
    duplicates["warnings"] += warn_no_better(context, validation) + warn_nothing_gained(context, best, phases, limit)
    result = {
        "best/accuracy": validation.accuracy,
        "best/loss": validation.loss,
        "best/f1_macro": validation.f1_macro,
        "best/epoch": best.epoch,
        "best/phase": best.phase,
        **tta.tta_figures(context, "best", inputs.valid_rows, validation),
        **evaluate_test(context, best),
        **(members | calibrated),
        **{f"phase/{name}/{key}": value for name, report in phases.items() for key, value in report.items()},
        **duplicates,
        "key": best.end.key,
        **result_columns(context),
    }
    export(context, validation)
    paid = time.perf_counter() - started
    cost = paid - (context.store.waited - waited) + context.saved
    result |= {"cost/seconds": cost, "cost/seconds_paid": paid}
    if context.device.device.type == "cuda":
        result["cost/gpu_gb"] = torch.cuda.max_memory_allocated(context.device.device) / 1e9
    return result


def warn_no_better(context: RunContext, best: Predictions) -> list[str]:
    """Print and return a warning if always predicting the most frequent class is as accurate."""
    right, most = int((best.logits.argmax(1) == best.labels).sum()), int(best.labels.bincount().max())
    if right > most or context.settings.smoke:
        return []
    what = f"always predicting the most frequent class ({most / len(best.labels):.2%})"
    line = f"warning: accuracy {best.accuracy:.2%} is no better than {what}"
    console.say(line)
    return [line]


def warn_nothing_gained(context: RunContext, best: BestSoFar, phases: dict[str, dict], limit: TimeLimit) -> list[str]:
    """Print and return a warning, with settings to try, if the last phase did not improve on an earlier one."""
    settings, last = context.settings, next(phase for phase in reversed(context.plan.phases) if phase.do == "fit")
    if best.phase == last.name or last.name not in phases or settings.smoke or settings.stop_after:
        return []
    what = f"{last.name} did not improve on {best.phase}, whose weights are kept"
    norms = any(isinstance(module, freezing.NORMS) for module in context.network.modules())
    still = " or bn=eval" if last.train == "all" and settings.bn == "train" and norms else ""
    lower = f"checklist.{last.name}.lr={0.3 * phases[last.name]['lr']:.2g}{still}"
    line = f"{what}; it was cut by {limit.label}" if limit.has_cut(last) else f"{what}; try {lower}"
    console.say(f"warning: {line}")
    return [f"warning: {line}"]


def result_columns(context: RunContext) -> dict:
    """Return facts of the run that are no settings but useful as filters in a dashboard."""
    facts, table = context.plan.facts, context.inputs.table
    content = sorted(zip(table.hashes, table.labels.tolist(), table.splits.tolist(), strict=True))
    return {
        "size": context.plan.size,
        "batch_size": context.plan.batch_size,
        "n_train": facts.train,
        "n_valid": facts.valid,
        "n_classes": facts.classes,
        "data_id": run_names.short_hash([content, table.classes]),
        "device": str(context.device),
    }


def evaluate_test(context: RunContext, best: BestSoFar) -> dict:
    """Evaluate on the test images, if there are any, once and without using the result for any choice.

    If the best weights are those of a phase that trains the head, its activations are stored ones, as in validation.
    """
    rows = context.inputs.rows(TEST)
    if not len(rows):
        return {}
    frozen = next(phase for phase in context.plan.phases if phase.name == best.phase).train == "head"
    seen = predict_stored(context.inputs, rows) if frozen else predict(context.inputs, rows)
    write_predictions(context, "test", rows, seen)
    figures = {"test/accuracy": seen.accuracy, "test/loss": seen.loss, "test/f1_macro": seen.f1_macro}
    return figures | tta.tta_figures(context, "test", rows, seen)


def export(context: RunContext, validation: Predictions) -> None:
    """Write weights and configuration in timm's format, and the predictions of all validation images."""
    table, size = context.inputs.table, context.plan.size
    scale = {} if table.bits == FULL else {"grey_bits": table.bits}  # for scripts/predict.py
    weights = context.folder / "model.safetensors"
    try:
        save_for_hf(
            context.network.model.to(memory_format=torch.contiguous_format),
            str(context.folder),
            safe_serialization=True,
            model_config={"label_names": list(table.classes), **scale, **heads.head_config(context.settings.head)},
            data_config={"input_size": (3, size, size), "crop_pct": context.settings.data.crop_pct},
        )
    except SafetensorError as error:
        if not (number := re.search(r"os error (\d+)", str(error))):
            raise
        raise OSError(int(number[1]), str(error), str(weights)) from error  # OSError is known to is_machine_error
    weights.chmod((context.folder / "config.json").stat().st_mode)  # safetensors makes it readable by its owner only
    sync(weights)
    if context.settings.backbone.weights != "pretrained":  # timm would record the origin of its own pretrained weights
        config = json.loads((context.folder / "config.json").read_text())
        for key in ("tag", "license", "origin_url", "paper_name", "paper_ids"):
            config["pretrained_cfg"].pop(key, None)
        (context.folder / "config.json").write_text(json.dumps(config, indent=2))
    write_predictions(context, "valid", context.inputs.valid_rows, validation)


def write_predictions(context: RunContext, split: str, rows: np.ndarray, seen: Predictions) -> None:
    """Write <split>_predictions.csv: path, true class, predicted class and probabilities of each image."""
    classes, paths = context.inputs.table.classes, context.inputs.table.paths
    with (context.folder / f"{split}_predictions.csv").open(
        "w", newline="", encoding="utf-8", errors="backslashreplace"
    ) as file:
        writer = csv.writer(file)
        writer.writerow(["path", "truth", "prediction", *classes])
        for row, label, p in zip(rows, seen.labels, seen.logits.softmax(1), strict=True):
            writer.writerow([paths[row], classes[label], classes[p.argmax()], *(f"{x:.6f}" for x in p.tolist())])
