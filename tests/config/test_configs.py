"""Tests of conf/: every yaml composes and plans, one override changes one thing, and the facts are true."""

import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import timm
import torch
import yaml
from composed import ROOT, composed_of, composition, leaves_of, planned, settings_of
from omegaconf import OmegaConf
from safetensors import safe_open
from sklearn.datasets import load_digits
from timm.models import group_parameters

from thaw.config import job_request
from thaw.config.composed import CHOSEN, Composed
from thaw.config.options import option_names
from thaw.config.sources import SOURCES
from thaw.config.weights import PACKAGED_NETWORK
from thaw.data import dataset, drawn
from thaw.data.augment import view
from thaw.data.table import TEST, TRAIN, VALID
from thaw.model import network
from thaw.model.network import build_model
from thaw.plan import show
from thaw.plan.facts import fact_names, known_facts
from thaw.runtime.errors import UserError

YAMLS = sorted(file.relative_to(ROOT / "conf") for file in (ROOT / "conf").rglob("*.yaml") if file.name != "local.yaml")
CHOICES = [file for file in YAMLS if file.parent.name and not file.name.startswith("_")]
BACKBONES = sorted(file.stem for file in CHOICES if file.parent.name == "backbone")


def chosen(file: Path) -> list[str]:
    """Return the overrides that choose a yaml, with a data.root if it needs one."""
    group = file.parent.as_posix()
    kinds = [kind for kind, source in SOURCES.items() if source.local]
    own = file.stem in kinds or (group == "experiment" and composition(f"experiment={file.stem}").data.kind in kinds)
    return [f"{group}={file.stem}", *(["data.root=images"] if own else [])]


# every yaml -----------------------------------------------------------------------------------------------------------


def test_all_groups_have_choices():
    groups = {file.parent.as_posix() for file in CHOICES}
    assert groups >= {"data", "backbone", "head", "augment", "checklist", "scheduler", "rates", "resize", "optimizer"}
    assert groups >= {"loss", "wandb", "experiment"}
    assert set(job_request.GROUPS) <= groups


@pytest.mark.parametrize("file", CHOICES, ids=str)
def test_composes_and_plans(file):
    settings = settings_of(*chosen(file))
    result = planned(settings)
    assert any(phase.do == "fit" for phase in result.phases)
    text = show.plan_table(result, settings)
    assert all(phase.name in text for phase in result.phases)
    timeline = show.plan_timeline(result, settings)
    assert [entry["name"] for entry in timeline] == [phase.name for phase in result.phases]


@pytest.mark.parametrize("file", YAMLS, ids=str)
def test_begins_with_a_descriptive_comment(file):
    lines = (ROOT / "conf" / file).read_text().splitlines()
    first = lines[1] if lines[0] == "# @package _global_" else lines[0]
    assert re.match(r"# \S", first) and "@package" not in first


@pytest.mark.parametrize("file", YAMLS, ids=str)
def test_has_no_interpolation(file):
    """Only Hydra's own folders are interpolated."""
    text = (ROOT / "conf" / file).read_text()
    interpolated = set(re.findall(r"\$\{([^}]*)\}", text))
    assert interpolated <= ({"hydra.job.num"} if file.name == "config.yaml" else set())


@pytest.mark.parametrize("name", [f.stem for f in CHOICES if f.parent.name == "scheduler"])
def test_every_scheduler_spends_the_same_seven_epochs(name):
    full = planned(settings_of(f"scheduler={name}", "batch_size=64")).phases[-1]
    assert full.epochs_budget == 7
    assert full.steps_budget == 84


# one override changes one thing ---------------------------------------------------------------------------------------

SGD = "name momentum nesterov betas weight_decay clip"
ONE_CYCLE = "shape warmup pct div final_div momentum_low momentum_high"
CHANGES = {
    "lr=0.01": "lr",
    "lr=[1e-4,1e-3,1e-2]": "lr",
    "epochs=9": "epochs",
    "scheduler.cycles=4": "scheduler.cycles",
    "rates.ratios=[0.01,0.1,1]": "rates.ratios",
    "backbone.weights=none": "backbone.weights",
    "++checklist.full.lr=0.01": "checklist.full.lr",
    "checklist.head_precomputed.epochs=5": "checklist.head_precomputed.epochs",
    "~checklist.find_full": "checklist.find_full.do checklist.find_full.train",
    "scheduler=cosine": "scheduler.shape",
    "scheduler=linear": "scheduler.shape",
    "scheduler=constant": "scheduler.shape scheduler.warmup",
    "scheduler=one_cycle": " ".join(f"scheduler.{name}" for name in ONE_CYCLE.split()),
    "scheduler=one_cycle_linear": " ".join(f"scheduler.{name}" for name in ONE_CYCLE.split()),
    "head=fastai": "head.kind head.hidden head.drop",
    "scheduler=flat_cos": "scheduler.shape scheduler.pct",
    "scheduler=triangular": "scheduler.shape scheduler.warmup scheduler.div scheduler.pct",
    "scheduler=triangular2": "scheduler.shape scheduler.warmup scheduler.div scheduler.pct",
    "scheduler=exp_range": "scheduler.shape scheduler.warmup scheduler.div scheduler.pct scheduler.gamma",
    "rates=uniform": "rates.ratios",
    "rates=tenths": "rates.ratios",
    "rates=layer_decay": "rates.split rates.ratios rates.decay",
    "resize=double": "resize.sizes",
    "resize=staircase": "resize.sizes",
    "backbone=resnet34": "backbone.name backbone.weights backbone.facts.native_size backbone.facts.layers",
    "optimizer=sgd": " ".join(f"optimizer.{name}" for name in SGD.split()),
    "wandb=disabled": "wandb.mode",
    "wandb=offline": "wandb.mode",
    "wandb=online": "wandb.mode",
    # The defaults change nothing.
    "scheduler=sgdr": "",
    "rates=thirds": "",
    "resize=none": "",
    "wandb=auto": "",
}


@pytest.mark.parametrize("override", CHANGES)
def test_one_override_changes_one_thing(override):
    before, after = leaves_of(), leaves_of(override)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed == set(CHANGES[override].split())


# Settings that change only themselves, each with another value than the default.
ALONE = {
    "lr_factor": "2",
    "size": "64",
    "batch_size": "32",
    "stored_batch": "8",
    "bn": "eval",
    "seed": "1",
    "init": "outputs/latest",
    "monitor": "valid/loss",
    "device": "cpu",
    "threads": "1",
    "precision": "float32",
    "deterministic": "true",
    "log_every": "1",
    "verbose": "true",
    "name": "first",
    "tags": "[a]",
    "notes": "why",
    "plan_only": "true",
    "smoke": "true",
    "scheduler.cycle_len": "2",
    "scheduler.cycle_mult": "1",
    "scheduler.max_cycles": "5",
    "scheduler.warmup": "0",
    "rates.split": "head",
    "resize.sizes": "[32]",
    "backbone.drop": "0.1",
    "backbone.drop_path": "0.1",
    "backbone.name": "resnet18",
    "data.valid": "0.3",
    "data.fold": "1",
    "data.group": "a",
    "data.limit": "500",
    "data.classes": "classes.csv",
    "data.labels": "fixes.csv",
    "data.workers": "2",
    "data.crop_pct": "0.9",
    "data.max_bad": "0.1",
    "data.max_pixels": "1e6",
    "data.min_side": "2",
    "data.allow_missing": "true",
    "data.leak": "error",
    "augment.mixup": "0.2",
    "augment.crop": "random",
    "optimizer.weight_decay": "0",
    "optimizer.momentum": "0.8",
    "optimizer.nesterov": "true",
    "optimizer.clip": "null",
    "loss.smoothing": "0.2",
    "loss.balance": "weights",
    "evaluate.calibrate": "false",
    "find.rule": "valley",
    "find.min_lr": "1e-4",
    "find.max_lr": "1",
    "find.trials": "4",
    "find.trial_steps": "4",
    "find.stored_steps": "4",
    "find.steps": "50",
    "find.smooth": "0.5",
    "find.diverge": "3",
    "store.dir": "elsewhere",
    "store.wait_s": "1",
    "wandb.project": "p",
    "wandb.entity": "e",
    "wandb.dir": "elsewhere",
    "wandb.mode": "offline",
}


def test_other_settings_change_only_themselves():
    before, after = leaves_of(), leaves_of(*(f"{key}={value}" for key, value in ALONE.items()))
    assert before.keys() == after.keys()
    assert {key for key in after if after[key] != before[key]} == ALONE.keys()


# each default in one place --------------------------------------------------------------------------------------------


def classes_of(cls=Composed) -> list[type]:
    """Return the dataclasses of the schema, the outermost first."""
    inner = [hint for hint in get_type_hints(cls).values() if is_dataclass(hint)]
    return [cls, *(found for hint in inner for found in classes_of(hint))]


def test_the_schema_has_no_default_but_none():
    assert len(classes_of()) > 12
    for cls in classes_of():
        for field in fields(cls):
            assert field.default_factory is MISSING, f"{cls.__name__}.{field.name}"
            if field.default is not MISSING:
                assert field.default is None, f"{cls.__name__}.{field.name}"
                hint = get_type_hints(cls)[field.name]
                assert get_origin(hint) in (Union, UnionType) and type(None) in get_args(hint)


def test_every_setting_of_fastai07_is_as_it_was():
    """The default recipe may improve, but this experiment stays fast.ai 0.7's.

    To write the file anew:
    python src/train.py --cfg job experiment=fastai07 data.root=/photos > tests/config/fastai07.yaml
    """
    composed = OmegaConf.to_yaml(composition("experiment=fastai07", "data.root=/photos"))
    assert composed == (ROOT / "tests/config/fastai07.yaml").read_text()


def test_config_yaml_sets_no_option_of_a_group():
    contents = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text())
    groups = {next(iter(entry)).removeprefix("override ") for entry in contents["defaults"] if isinstance(entry, dict)}
    assert groups >= set(job_request.GROUPS)
    assert not groups & contents.keys()


def test_schedulers_do_not_repeat_the_shared_budget():
    budget = yaml.safe_load((ROOT / "conf/scheduler/_budget.yaml").read_text())
    for file in (ROOT / "conf/scheduler").glob("[a-z]*.yaml"):
        own = yaml.safe_load(file.read_text())
        assert own.pop("defaults") == ["_budget"], file.name
        assert not own.keys() & budget.keys(), file.name


def test_every_field_of_the_schema_has_a_value_in_conf():
    """A field that no yaml sets would be ???."""
    missing = [key for key, value in leaves_of().items() if value == "???"]
    assert missing == []
    assert [key for key, value in leaves_of("data=folder").items() if value == "???"] == ["data.root"]


@pytest.mark.parametrize("group", CHOSEN)
def test_choices_set_exactly_the_options_that_they_read(group):
    named, choices = CHOSEN[group]
    assert {file.stem for file in CHOICES if file.parent.name == group} == choices.keys()
    for name, choice in choices.items():
        composed = getattr(composed_of(f"{group}={name}"), group)
        assert getattr(composed, named) == name
        stated = yaml.safe_load((ROOT / "conf" / group / f"{name}.yaml").read_text())
        assert stated.keys() - {named, "defaults"} == set(option_names(choice)), name


# shipped facts are true -----------------------------------------------------------------------------------------------


def meta_model(name: str, **args) -> torch.nn.Module:
    """Return a model of timm without weights, on the meta device."""
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, **args)


@pytest.mark.parametrize("choice", BACKBONES)
def test_facts_of_a_backbone(choice):
    backbone = settings_of(f"backbone={choice}").backbone
    facts, found = backbone.facts, meta_model(backbone.name)
    assert facts.layers == len(group_parameters(found, found.group_matcher(coarse=False)))
    assert facts.native_size % facts.multiple == 0
    patch = getattr(getattr(found, "patch_embed", None), "patch_size", (1, 1))
    assert facts.multiple == max(patch)
    if backbone.weights == "pretrained":
        assert facts.native_size == found.pretrained_cfg["input_size"][1]
    elif backbone.weights == "packaged":
        assert backbone.name == PACKAGED_NETWORK and facts.native_size == found.pretrained_cfg["input_size"][1]
    else:
        assert (ROOT / backbone.weights).is_file()


@pytest.mark.parametrize("choice", BACKBONES)
def test_a_backbone_accepts_its_native_size_and_the_next(choice):
    backbone = settings_of(f"backbone={choice}").backbone
    with torch.device("meta"):
        network = build_model(backbone.name, False, {"num_classes": 10}).eval()
        for size in (backbone.facts.native_size, backbone.facts.native_size + backbone.facts.multiple):
            assert network(torch.empty(1, 3, size, size)).shape == (1, 10)


@pytest.mark.parametrize("choice", BACKBONES)
def test_the_number_of_parameters_in_the_description(choice):
    said = (ROOT / "conf" / "backbone" / f"{choice}.yaml").read_text().splitlines()[0]
    millions = re.match(r"# ([\d.]+) million parameters", said)[1]
    backbone = meta_model(settings_of(f"backbone={choice}").backbone.name, num_classes=0)
    count = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
    assert float(millions) == pytest.approx(count, abs=0.6 if "." not in millions else 0.06)


def test_the_shipped_weights_fit_their_backbone():
    backbone = settings_of("backbone=tiny").backbone
    own = {name: list(value.shape) for name, value in meta_model(backbone.name, num_classes=0).state_dict().items()}
    with safe_open(ROOT / backbone.weights, "pt") as file:
        shipped = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    assert {name: shape for name, shape in shipped.items() if name in own} == own


def test_a_transform_that_is_null_is_left_out():
    whole = list(settings_of("augment=standard").augment.transforms)
    left = list(settings_of("augment=standard", "augment.transforms.HorizontalFlip=null").augment.transforms)
    assert left == [name for name in whole if name != "HorizontalFlip"] != whole


def test_facts_of_the_digits():
    facts, found = settings_of("data=digits").data.facts, load_digits()
    assert (facts.images, facts.test) == (len(found.target) // 2, len(found.target) - len(found.target) // 2)
    assert facts.classes == len(found.target_names)


@pytest.mark.parametrize("overrides", [[], ["data.limit=500"], ["data.limit=100000"], ["data.valid=0.35"]])
def test_the_plan_counts_the_digits_as_the_source_does(overrides):
    settings = settings_of(*overrides)
    known = known_facts(settings, lambda name: {})
    splits = drawn.digits(settings.data).table.splits
    counts = [int((splits == split).sum()) for split in (TRAIN, VALID, TEST)]
    assert counts == [known.train, known.valid, known.test]


@pytest.mark.parametrize(
    "few", [("data.limit=40",), ("data.limit=12",), ("data.valid=0.005",), ("data=shapes", "data.limit=30")]
)
def test_too_few_validation_images_are_refused(few):
    data = settings_of(*few).data
    with pytest.raises(UserError, match=r"data\.valid=.* images for \d+ classes") as refused:
        dataset.load_dataset(data, 32)
    assert refused.value.code == 2


@pytest.mark.parametrize("fold", range(5))
def test_a_fold_of_the_digits(fold):
    """Its size depends on the classes, so the plan cannot know it."""
    settings = settings_of(f"data.fold={fold}")
    known = known_facts(settings, lambda name: {})
    assert (known.train, known.valid, known.test, known.classes) == (None, None, 899, 10)
    opened, third = drawn.digits(settings.data), drawn.digits(settings_of("data.fold=3").data)
    assert 175 <= len(opened.rows(VALID)) <= 184 and len(opened.rows(TEST)) == 899
    assert set(opened.rows(VALID)).isdisjoint(third.rows(VALID)) == (fold != 3)


def test_a_fold_of_the_shapes_is_the_same_at_any_size():
    settings = settings_of("data=shapes", "data.limit=104", "data.fold=2")
    small, large = drawn.shapes(settings.data, 8).table, drawn.shapes(settings.data, 16).table
    assert small.splits.tolist() == large.splits.tolist() and (small.splits == VALID).sum() == 21


@pytest.mark.parametrize("key", ["valid=0.3", "fold=1", "group=x", "classes=x.csv", "labels=x.csv", "max_pixels=1e6"])
def test_facts_are_kept_separately_for_different_data(key):
    before, after = settings_of(), settings_of(f"data.{key}")
    assert fact_names(before)[0] != fact_names(after)[0]
    assert fact_names(before) == fact_names(settings_of("data.workers=3", "data.crop_pct=0.5", "seed=3"))


def test_the_plan_counts_the_shapes_as_the_source_does():
    settings = settings_of("data=shapes", "data.limit=104", "data.test=16")
    known = known_facts(settings, lambda name: {})
    table = drawn.shapes(settings.data, 16).table
    counts = [int((table.splits == split).sum()) for split in (TRAIN, VALID, TEST)]
    assert counts == [known.train, known.valid, known.test] and known.test == 16
    assert len(table.classes) == known.classes and len(set(table.hashes)) == 120


def test_choices_of_data_do_not_repeat_shared_values():
    shared = yaml.safe_load((ROOT / "conf/data/_images.yaml").read_text())
    for file in (ROOT / "conf/data").glob("[a-z]*.yaml"):
        own = yaml.safe_load(file.read_text())
        assert own.pop("defaults") == ["_images"], file.name
        assert {key for key in own.keys() & shared.keys() if own[key] == shared[key]} == set(), file.name


# published figures ----------------------------------------------------------------------------------------------------

PUBLISHED = {  # for each phase of an experiment: epochs of each cycle, size, rates of the groups
    "lesson1": [((2,), 224, [0.01]), ((1, 1, 1), 224, [0.01]), ((1, 2, 4), 224, [1e-4, 1e-3, 1e-2])],
    "lesson1_resnext50": [((1,), 299, [0.01]), ((1, 1), 299, [0.01]), ((1, 1, 1), 299, [1e-4, 1e-3, 1e-2])],
    "dog_breeds": [((5,), 299, [0.01]), ((1, 2, 4), 299, [0.01])],
    "cifar10_sgdr": [((10, 20, 40, 80), 128, [0.05])],
    "cifar10_super_convergence": [((30,), 128, [1.5])],
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_experiments_of_published_figures_plan_what_was_published(name):
    chosen_ = chosen(Path(f"experiment/{name}.yaml"))
    settings = settings_of(*chosen_)
    settings.backbone.facts.multiple = settings.backbone.facts.multiple or 1  # a backbone without a yaml has none
    fits = [phase for phase in planned(settings).phases if phase.do == "fit"]
    found = [(phase.cycles, phase.epochs[-1].size, [phase.lr * ratio for ratio in phase.ratios]) for phase in fits]
    assert [(cycles, size) for cycles, size, _ in found] == [(cycles, size) for cycles, size, _ in PUBLISHED[name]]
    for (_, _, rates), (_, _, expected) in zip(found, PUBLISHED[name], strict=True):
        assert rates == pytest.approx(expected)
    text = (ROOT / "conf/experiment" / f"{name}.yaml").read_text()
    assert f"experiment={name}" in text and "not yet run" in text
    network.check_name(settings.backbone.name)


def test_the_padding_and_the_crop_of_cifar10_are_those_of_the_papers():
    """With 4 of 32 pixels on each side, an image moves by up to an eighth of its size."""
    assert settings_of("experiment=cifar10_sgdr").loss.smoothing == 0.0, "as published"
    see = view(128, 1.0, settings_of("experiment=cifar10_sgdr").augment)
    image = np.zeros((128, 128, 3), np.uint8)
    image[60:68, 60:68] = 255
    at = [np.argwhere(see(image, seed)[..., 0]).mean(0) for seed in range(200)]
    assert np.ptp(at, axis=0) == pytest.approx([32, 32], abs=2)
