"""Ensembles of the last cycle ends of a phase: the mean of their predictions, and a network of their mean weights."""

from collections.abc import Sequence
from contextlib import closing

import torch
from torch import Tensor

from thaw.data.table import TEST
from thaw.model.freezing import NORMS, set_trainable
from thaw.plan.phases import Phase
from thaw.runtime import console
from thaw.runtime.seeds import seed_for
from thaw.train.context import RunContext
from thaw.train.fit import BestSoFar
from thaw.train.predictions import Predictions, predict


def ensemble_figures(context: RunContext, kept: BestSoFar) -> dict:
    """Return accuracy and loss of N cycle ends combined, on validation (`best/...`) and test images (`test/...`).

    The members are the best cycle end and up to N - 1 before it in its phase, read from the store. `..._ensemble` is
    the mean of their softmax (arXiv:1704.00109), `..._average` one network of their mean weights (arXiv:1803.05407).
    Neither is calibrated. Return {} if there is only one member. The network is left unchanged.
    """
    asked = context.settings.evaluate.ensemble
    ends = kept.ends[-asked:]
    if not asked:
        return {}
    if len(ends) < 2:
        console.say(f"note: evaluate.ensemble={asked} has no effect: the best cycle of {kept.phase} is its first")
        return {}
    weights, test = [end.weights() for end in ends], context.inputs.rows(TEST)
    rows = {"best": context.inputs.valid_rows} | ({"test": test} if len(test) else {})
    members = {"best": [end.validation for end in ends], "test": []}
    for own in weights if len(test) else []:
        context.held.load(own)
        members["test"].append(predict(context.inputs, test))
    context.held.load(mean_weights(weights))
    refresh_batch_norms(context, next(phase for phase in context.plan.phases if phase.name == kept.phase))
    out = {}
    for name in rows:
        ensemble, average = mean_prediction(members[name]), predict(context.inputs, rows[name])
        for kind, seen in (("ensemble", ensemble), ("average", average)):
            out |= {f"{name}/accuracy_{kind}": seen.accuracy, f"{name}/loss_{kind}": seen.loss}
        console.say(
            f"{name}: accuracy {ensemble.accuracy:.2%} for an ensemble of {len(ends)} cycle ends, "
            f"{average.accuracy:.2%} for their mean weights, {members[name][-1].accuracy:.2%} for the best one alone"
        )
    context.held.load(weights[-1])
    return out


def mean_prediction(members: Sequence[Predictions]) -> Predictions:
    """Return the mean of the members' probabilities, as logits."""
    logs = torch.stack([member.logits.log_softmax(1) for member in members])
    return Predictions(logs.logsumexp(0), members[0].labels)


def mean_weights(weights: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each floating-point tensor, in its dtype; integer counters are taken from the last member."""
    last = weights[-1]
    moving = {name: [own[name].double() for own in weights] for name in last if last[name].is_floating_point()}
    return last | {name: torch.stack(values).mean(0).to(last[name].dtype) for name, values in moving.items()}


@torch.no_grad()
def refresh_batch_norms(context: RunContext, phase: Phase) -> None:
    """Recompute the statistics of the batch norms that the phase trains, over one epoch of its batches.

    The mean of the members' statistics does not fit their mean weights (arXiv:1803.05407, section 3).
    """
    network = context.network
    set_trainable(network, phase.train, context.settings.bn)
    moving = {norm: norm.momentum for norm in network.modules() if isinstance(norm, NORMS) and norm.training}
    if not moving:
        return
    for norm in moving:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average over all batches
    network.device.seed(seed_for("refresh", context.settings.seed))
    last = len(phase.epochs) - 1  # the last epoch has the image size of evaluation
    with closing(context.inputs.of(phase).batches(range(last, last + 1), "refresh")) as batches:
        for x, _ in batches:
            network(network.device.put(x))
    for norm, momentum in moving.items():
        norm.momentum = momentum
