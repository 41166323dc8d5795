"""Comparison with fast.ai 0.7: schedules, finder, layer groups and head against reference versions written here.

Deliberate differences, with reasons:

* Warm-up: 0.7 holds 1/100 of the rate for the first 1/20 of the first cycle, then jumps to the cosine. thaw rises to
  the cosine linearly over the same steps (scheduler.warmup), without a jump. With warmup=0 all steps are equal.
* Turning points: use_clr and use_clr_beta round them down to whole steps. thaw's are shares of the cycle: equal if they
  fall on whole steps, and otherwise less than one step's change apart.
* Momentum: that of use_clr_beta is one step ahead of its rate, because its counter moves in between; thaw's belongs to
  the same step. thaw has no use_clr with momenta; use one_cycle_linear.
* Cycle ends: cycle_save_name saves one step before the end of a cycle, thaw at its end.
* Finder: 0.7 takes an epoch and a person reads the plot. thaw takes find.steps steps, because an epoch of a small data
  set has too few, and find.rule=edge reads the curve. Smoothing and restoring the network are thaw's own.
* Head: its input is [mean, maximum], as timm pools, instead of [maximum, mean]. The layer is initialised at random, so
  the order of its columns does not matter.
* Weight decay: 0.7 also decays norms and biases; thaw does not. 0.7's default is 0, where both are equal.
* Densenets are cut by stage, after transition2; 0.7 cuts before it.
* 0.7 keeps its last weights; thaw keeps the cycle end with the highest validation accuracy.
* 0.7 trains the cycles a person asks for; thaw adds up to one more if they help.
* 0.7 stores activations by network name and image size only, thaw by everything they depend on.
"""

import math
from itertools import pairwise

import pytest
import timm
import torch
from composed import planned, settings_of
from torch import nn

from thaw.config.schedule import Schedule
from thaw.config.schedulers import SGDR, OneCycleLinear, Triangular
from thaw.config.schema import Head
from thaw.model import heads, layer_groups
from thaw.plan import schedules
from thaw.plan.facts import Facts
from thaw.plan.plan import make_plan


def drawn(schedule: Schedule, epochs, steps: int) -> tuple[list[float], list[float] | None]:
    """Return thaw's rate factor and momentum at every step of cycles of `epochs` epochs, with `steps` steps each."""
    ends = schedules.cycle_ends([steps] * sum(epochs), epochs)
    curves = [shape and schedules.curve(shape, ends) for shape in (schedule.rate(3), schedule.momentum())]
    return tuple(at and [at(step) for step in range(ends[-1])] for at in curves)


# schedules ------------------------------------------------------------------------------------------------------------


def cosine_with_restarts(steps: int, cycles: int, mult: int) -> list[float]:
    """Return the rates of 0.7's fit(lr=1, cycles, cycle_len=1, cycle_mult=mult), with `steps` steps per epoch."""
    first = steps
    values, position, length = [], 0, first
    for iteration in range(first * sum(mult**i for i in range(cycles))):
        warm = iteration < length / 20
        values.append(0.01 if warm else (math.cos(math.pi * position / length) + 1) / 2)
        position += 1
        if not warm and position == length:
            position, length = 0, length * mult
    return values


@pytest.mark.parametrize("mult", [1, 2, 3])
@pytest.mark.parametrize("steps", [20, 57, 360])
def test_sgdr(steps, mult):
    theirs = cosine_with_restarts(steps, 3, mult)
    lengths = schedules.cycle_epochs(3, 1, mult)
    plain, _ = drawn(SGDR(warmup=0.0), lengths, steps)
    warmed, _ = drawn(SGDR(warmup=0.05), lengths, steps)
    first = math.ceil(steps / 20)
    assert plain[first:] == warmed[first:] == pytest.approx(theirs[first:], abs=1e-12)
    assert theirs[:first] == [0.01] * first
    assert warmed[0] == 0.01 and warmed[:first] == sorted(warmed[:first]), "thaw rises to the cosine, where 0.7 jumps"


def test_the_preset_composes_their_training():
    settings = settings_of("experiment=fastai07", "data.root=/photos")
    head, full = (planned(settings).phases[i] for i in (2, 4))
    assert (head.name, head.cycles, full.name, full.cycles[:3]) == ("head_augmented", (1, 1, 1), "full", (1, 2, 4))
    assert (full.ratios, full.split) == ((1 / 100, 1 / 10, 1.0), "fastai")
    few = make_plan(settings, Facts(train=500, native_size=224, multiple=1)).phases
    assert (few[1].name, few[1].features, few[1].cycles) == ("head_precomputed", "precomputed", (2,))
    assert drawn(few[1].schedule, few[1].cycles, 20)[0] == [1.0] * 40, "a constant rate"
    assert {(phase.lr_factor, phase.epochs[0].batch, phase.rate_batch) for phase in few} == {(1.0, 64, 64)}
    for phase, mult in ((head, 1), (full, 2)):
        theirs = cosine_with_restarts(20, 3, mult)
        assert drawn(phase.schedule, phase.cycles[:3], 20)[0][1:] == pytest.approx(theirs[1:], abs=1e-12)
    optimizer, head = settings.optimizer, settings.head
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay, optimizer.clip) == ("sgd", 0.9, 0.0, None)
    assert (head.kind, head.hidden, head.drop) == ("fastai", 512, [0.25, 0.5])


def test_seven_epochs_of_lesson_one():
    """fit(lr, 3, cycle_len=1, cycle_mult=2): 1 + 2 + 4 epochs of 360 steps; the last rate of a cycle is never 0."""
    values, _ = drawn(SGDR(warmup=0.0), [1, 2, 4], 360)
    assert len(values) == 7 * 360
    assert [values[0], values[360], values[3 * 360]] == [1.0, 1.0, 1.0]
    assert values[180] == pytest.approx(0.5)
    assert values[359] == pytest.approx((math.pi / 720) ** 2, rel=1e-4)


def clr(steps: int, div: float, cut_div: float) -> list[float]:
    """Return the rates of one cycle of 0.7's use_clr=(div, cut_div), with lr = 1."""
    cut = steps // cut_div
    shares = [1 - (i - cut) / (steps - cut) if i > cut else i / cut for i in range(steps)]
    return [(1 + share * (div - 1)) / div for share in shares]


@pytest.mark.parametrize(("div", "cut_div"), [(4, 8), (20, 10), (32, 8)])
def test_use_clr(div, cut_div):
    scheduler = Triangular(div=div, pct=1 / cut_div)
    assert drawn(scheduler, [1, 1], 80)[0] == pytest.approx(clr(80, div, cut_div) * 2, abs=1e-12)
    rounded = clr(83, div, cut_div)
    step = max(abs(b - a) for a, b in pairwise(rounded))
    assert drawn(scheduler, [1, 1], 83)[0] == pytest.approx(rounded * 2, abs=step)


def clr_beta(steps: int, div: float, pct: float, high: float, low: float) -> tuple[list[float], list[float]]:
    """Return rates and momenta of 0.7's use_clr_beta=(div, pct, high, low), lr = 1, momenta moved back a step."""
    half = int(steps * (1 - pct / 100) / 2)
    rates, momenta = [], []
    for i in range(steps):
        if i > 2 * half:
            rates.append((1 - 0.99 * (i - 2 * half) / (steps - 2 * half)) / div)
            momenta.append(high)
        else:
            share = 1 - (i - half) / half if i > half else i / half
            rates.append((1 + share * (div - 1)) / div)
            momenta.append(high + share * (low - high))
    return rates, momenta


@pytest.mark.parametrize(("div", "pct"), [(10, 10), (20, 20), (50, 12.5)])
def test_use_clr_beta(div, pct):
    options = {"div": div, "pct": (1 - pct / 100) / 2, "final_div": 100 * div}
    scheduler = OneCycleLinear(**options, momentum_low=0.85, momentum_high=0.95)
    rates, momenta = clr_beta(160, div, pct, 0.95, 0.85)
    assert drawn(scheduler, [1], 160)[0] == pytest.approx(rates, abs=1e-12)
    assert drawn(scheduler, [1], 160)[1] == pytest.approx(momenta, abs=1e-12)


def test_the_finder_is_spaced_as_theirs():
    """lr_find() rises from 1e-5 to 10 in equal ratios over the steps of an epoch, without reaching 10."""
    steps, low, high = 360, 1e-5, 10.0
    at = schedules.curve(schedules.exponential(low / high), [steps])
    theirs = [low * ((high / low) ** (1 / steps)) ** i for i in range(steps)]
    assert [high * at(step) for step in range(steps)] == pytest.approx(theirs, rel=1e-12)


# layer groups and rates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d"])
def test_a_resnet_is_cut_after_layer2(name):
    """model_meta[resnet34] = [8, 6]: children 0 to 5 (stem, layer1, layer2), then layer3 and layer4, then the head."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=2, global_pool="catavgmax")
        heads.replace_head(model, Head("fastai", 512, [0.25, 0.5]), 2)
    parts = layer_groups.split_into_groups(model, "fastai", (1e-2, 1e-1, 1.0))
    stages = [sorted({name.partition(".")[0] for name in part.names}) for part in parts]
    assert stages == [["bn1", "conv1", "layer1", "layer2"], ["layer3", "layer4"], ["fc"]]
    assert [part.ratio for part in parts] == [1e-2, 1e-1, 1.0]


@pytest.mark.parametrize(
    ("name", "early", "late"),
    [
        ("densenet121", "features.transition2.conv.weight", "features.denseblock3.denselayer1.norm1.weight"),
        ("efficientnet_b0", "blocks.2.1.bn3.bias", "blocks.3.0.conv_pw.weight"),
        ("convnext_tiny", "stages.1.blocks.2.mlp.fc2.bias", "stages.2.downsample.0.weight"),
    ],
)
def test_other_families_are_cut_by_their_stages(name, early, late):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=2)
    first, second, head = layer_groups.split_into_groups(model, "fastai", (1 / 9, 1 / 3, 1.0))
    assert early in first.names and late in second.names
    assert set(head.names) == heads.head_parameters(model)


# the head -------------------------------------------------------------------------------------------------------------


def theirs(inputs: int, classes: int) -> nn.Sequential:
    """Return 0.7's head after its pooling, without log-softmax, which is part of thaw's loss."""
    return nn.Sequential(
        nn.BatchNorm1d(inputs), nn.Dropout(0.25), nn.Linear(inputs, 512), nn.ReLU(),
        nn.BatchNorm1d(512), nn.Dropout(0.5), nn.Linear(512, classes),
    )  # fmt: skip


def test_the_head_is_theirs_layer_by_layer():
    torch.manual_seed(0)
    ours, reference = heads.fastai_head(1024, 512, 5, [0.25, 0.5]), theirs(1024, 5)
    assert [repr(layer) for layer in ours] == [repr(layer) for layer in reference]
    for layer in (ours[2], ours[6]):
        assert not layer.bias.any()
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / layer.in_features), rel=0.05)
        assert layer.weight.mean().item() == pytest.approx(0, abs=3 * math.sqrt(2 / layer.weight.numel() / 512))


def test_their_head_equals_ours_with_the_halves_of_its_input_swapped():
    maps = torch.randn(4, 96, 3, 3, generator=torch.Generator().manual_seed(0))
    reference = theirs(192, 5).eval()
    nn.init.uniform_(reference[0].running_mean)
    with torch.inference_mode():
        said = reference(torch.cat([nn.AdaptiveMaxPool2d(1)(maps), nn.AdaptiveAvgPool2d(1)(maps)], 1).flatten(1))
    model = timm.create_model("test_resnet", num_classes=5, global_pool="catavgmax").eval()
    heads.replace_head(model, Head("fastai", 512, [0.25, 0.5]), 5)
    weights = reference.state_dict()
    for name, value in weights.items():
        if name.startswith(("0.", "2.weight")) and value.ndim:
            first, second = value.chunk(2, -1)
            weights[name] = torch.cat([second, first], -1)
    model.get_classifier().load_state_dict(weights)
    model.eval()
    with torch.inference_mode():
        torch.testing.assert_close(model.forward_head(maps), said, atol=1e-5, rtol=1e-5)
