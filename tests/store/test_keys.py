"""A key covers everything that can change the result, and nothing else."""

import copy
import re
import shutil
from dataclasses import asdict, replace
from functools import cache
from importlib import import_module

import pytest
import timm
import torch
from composed import composed_of
from safetensors.torch import save_file

from thaw.data import dataset
from thaw.model import device
from thaw.plan import plan
from thaw.plan.facts import Facts
from thaw.runtime import machine
from thaw.store import code_hash, keys
from thaw.store.open import open_store
from thaw.train import fingerprint, setup
from thaw.train.setup import set_up

FACTS = Facts(train=718, valid=180, test=899, classes=10, native_size=32, multiple=1, layers=6)
BASIS = keys.Basis("before", "data", machine.numerics("cpu", "float32", threads=1))


def parts(settings, cycle=0):
    full = plan.make_plan(settings, FACTS).phases[-1]
    return keys.cycle_parts(settings, full, cycle, 0.01, 32, BASIS)


CHANGES = [  # an override, and whether it changes the key of the full network's first cycle
    ("seed=1", True), ("bn=train", True), ("batch_size=32", True), ("stored_batch=8", False),
    ("bn=eval", False), ("batch_size=16", False),  # what auto means here
    ("rates=uniform", True), ("rates.split=head", True),
    ("optimizer.betas=[0.5,0.9]", True), ("optimizer=sgd", True), ("optimizer.weight_decay=0", True),
    ("loss.smoothing=0", True), ("loss.balance=weights", True), ("augment=none", True), ("augment.mixup=0.2", True),
    ("scheduler=one_cycle", True), ("scheduler.warmup=0", True), ("scheduler.cycle_len=2", True),
    ("resize=double", True),
    ("backbone.drop=0.1", True), ("head=fastai", True), ("data.crop_pct=0.9", True),
    ("scheduler.cycles=4", False), ("scheduler.max_cycles=3", False), ("scheduler.cycle_mult=3", False),
    ("wandb=disabled", False), ("wandb.project=x", False), ("name=x", False), ("tags=[a]", False), ("notes=x", False),
    ("log_every=3", False), ("monitor=valid/loss", False), ("data.workers=2", False), ("store.wait_s=1", False),
    ("store.snapshot_s=1", False), ("store.dir=elsewhere", False), ("plan_only=true", False), ("fresh=true", False),
    ("find.rule=valley", False), ("find.steps=50", False), ("lr_factor=2", False), ("evaluate.tta=4", False),
    ("evaluate.ensemble=2", False), ("evaluate.calibrate=false", False),
]  # fmt: skip
PLAIN_PARTS = []  # the key without overrides


@pytest.mark.parametrize(("override", "changes"), CHANGES)
def test_which_settings_change_the_key_of_a_cycle(compose, override, changes):
    if not PLAIN_PARTS:
        PLAIN_PARTS.append(parts(compose()))
    before, after = PLAIN_PARTS[0], parts(compose(override))
    assert (before != after) == changes
    assert (keys.first_difference(before, after) is not None) == changes


# Every leaf of the configuration: overrides that change it, and whether they make it another run.
LEAVES = {
    "scheduler.shape": ("scheduler=cosine", True),
    "scheduler.cycles": ("scheduler.cycles=4", True),
    "scheduler.cycle_len": ("scheduler.cycle_len=2", True),
    "scheduler.cycle_mult": ("scheduler.cycle_mult=1", True),
    "scheduler.max_cycles": ("scheduler.max_cycles=5", True),
    "scheduler.warmup": ("scheduler.warmup=0.1", True),
    "scheduler.pct": ("scheduler.pct=0.3", False),  # sgdr reads none of these five
    "scheduler.div": ("scheduler.div=4", False),
    "scheduler.final_div": ("scheduler.final_div=4", False),
    "scheduler.momentum_low": ("scheduler.momentum_low=0.8", False),
    "scheduler.momentum_high": ("scheduler.momentum_high=0.8", False),
    "scheduler.gamma": ("scheduler.gamma=0.9", False),
    "rates.split": ("rates.split=head", True),
    "rates.ratios": ("rates.ratios=[0.1,0.2,1]", True),
    "rates.decay": ("rates.decay=0.5", False),
    "resize.sizes": ("resize.sizes=[0.5,1.0]", True),
    "backbone.name": ("backbone=test_vit backbone.weights=none size=64", True),
    "backbone.weights": ("backbone.weights=none", True),
    "backbone.drop": ("backbone.drop=0.1", True),
    "backbone.drop_path": ("backbone.drop_path=0.1", True),
    "backbone.facts.native_size": ("backbone.facts.native_size=48", True),
    "backbone.facts.multiple": ("backbone.facts.multiple=2", False),
    "backbone.facts.layers": ("backbone.facts.layers=5", False),
    "head.kind": ("head=fastai", True),
    "head.hidden": ("head.hidden=64", False),  # a linear head has neither of these
    "head.drop": ("head.drop=[0,0]", False),
    "data.kind": ("data=shapes data.limit=64", True),
    "data.root": ("data.root=elsewhere data=digits", False),
    "data.valid": ("data.valid=0.3", True),
    "data.limit": ("data.limit=500", True),
    "data.workers": ("data.workers=2", False),
    "data.pixels_budget": ("data.pixels_budget=1MB", False),
    "data.crop_pct": ("data.crop_pct=0.9", True),
    "data.max_bad": ("data.max_bad=0.5", False),
    "data.fold": ("data.fold=1", True),
    "data.group": ("data.group=x", False),  # the digits have neither files nor a table, so they read none of these
    "data.classes": ("data.classes=x.csv", False),
    "data.labels": ("data.labels=x.csv", False),
    "data.max_pixels": ("data.max_pixels=100", False),
    "data.min_side": ("data.min_side=9", False),
    "data.allow_missing": ("data.allow_missing=true", False),
    "data.leak": ("data.leak=error", False),
    "data.images": ("data.images=x", False),
    "data.path_column": ("data.path_column=x", False),
    "data.label_column": ("data.label_column=x", False),
    "data.split_column": ("data.split_column=x", False),
    "data.name": ("data.name=pets", False),
    "data.facts.images": ("data.facts.images=700", False),
    "data.facts.test": ("data.facts.test=7", False),
    "data.facts.classes": ("data.facts.classes=7", False),
    "data.detail": ("data.detail=2", False),
    "data.test": ("data.test=9", False),
    "augment.crop": ("augment.crop=random augment.scale=[0.5,1]", True),
    "augment.scale": ("augment.scale=[0.5,1]", False),  # crop=whole does not read it
    "augment.transforms.Affine.rotate": ("augment.transforms.Affine.rotate=[-5,5]", True),
    "augment.transforms.Affine.translate_percent": ("augment.transforms.Affine.translate_percent=[0,0]", True),
    "augment.transforms.Affine.scale": ("augment.transforms.Affine.scale=[1,1]", True),
    "augment.transforms.Affine.shear": ("augment.transforms.Affine.shear=[0,0]", True),
    "augment.transforms.Affine.p": ("augment.transforms.Affine.p=0.5", True),
    "augment.mixup": ("augment.mixup=0.2", True),
    "augment.cutmix": ("augment.cutmix=1", True),
    "optimizer.name": ("optimizer=sgd", True),
    "optimizer.weight_decay": ("optimizer.weight_decay=0", True),
    "optimizer.momentum": ("optimizer.momentum=0.8", False),
    "optimizer.nesterov": ("optimizer.nesterov=true", False),
    "optimizer.betas": ("optimizer.betas=[0.5,0.9]", True),
    "optimizer.clip": ("optimizer.clip=0.5", True),
    "loss.smoothing": ("loss.smoothing=0", True),
    "loss.balance": ("loss.balance=weights", True),
    "checklist.find_head.do": ("checklist.find_head.do=fit checklist.find_head.lr=1 lr=1", True),
    "checklist.find_head.train": ("checklist.find_head.train=all checklist.find_head.features=live", True),
    "checklist.find_head.features": ("checklist.find_head.features=live", True),
    "checklist.head_precomputed.do": ("checklist.head_precomputed.do=find ~checklist.head_precomputed.epochs", True),
    "checklist.head_precomputed.epochs": ("checklist.head_precomputed.epochs=1", True),
    "checklist.head_augmented.do": (
        "checklist.head_augmented.do=find ~checklist.head_augmented.cycles ~checklist.head_augmented.cycle_len"
        " ~checklist.head_augmented.lr_factor",
        True,
    ),
    "checklist.head_augmented.features": ("checklist.head_augmented.features=precomputed", True),
    "checklist.head_augmented.cycles": ("checklist.head_augmented.cycles=2", True),
    "checklist.head_augmented.cycle_len": ("checklist.head_augmented.cycle_len=2", True),
    "checklist.head_augmented.lr_factor": ("checklist.head_augmented.lr_factor=1/2", True),
    "checklist.find_full.do": ("checklist.find_full.do=fit checklist.find_full.lr=1 checklist.full.lr=1", True),
    "checklist.find_full.train": ("checklist.find_full.train=head checklist.full.lr=0.1", True),
    "checklist.full.do": ("checklist.full.do=find ~checklist.full.until", True),
    "checklist.full.train": ("checklist.full.train=head checklist.full.lr=0.1", True),
    "checklist.full.until": ("~checklist.full.until", True),
    "evaluate.calibrate": ("evaluate.calibrate=false", True),
    "evaluate.ensemble": ("evaluate.ensemble=2", True),
    "evaluate.tta": ("evaluate.tta=4", True),
    "find.rule": ("find.rule=valley", True),
    "find.trials": ("find.trials=4", True),
    "find.trial_steps": ("find.trial_steps=4", True),
    "find.stored_steps": ("find.stored_steps=4", True),
    "find.min_lr": ("find.min_lr=1e-4", True),
    "find.max_lr": ("find.max_lr=1", True),
    "find.steps": ("find.steps=50", True),
    "find.smooth": ("find.smooth=0.9", True),
    "find.diverge": ("find.diverge=5", True),
    "store.dir": ("store.dir=elsewhere", False),
    "store.max_size": ("store.max_size=1GB", False),
    "store.code": ("store.code=ignore", True),
    "store.wait_s": ("store.wait_s=1", False),
    "store.snapshot_s": ("store.snapshot_s=1", False),
    "wandb.mode": ("wandb=disabled", False),
    "wandb.project": ("wandb.project=x", False),
    "wandb.entity": ("wandb.entity=x", False),
    "wandb.dir": ("wandb.dir=x", False),
    "lr": ("lr=0.01", True),
    "lr_factor": ("lr_factor=2", True),
    "epochs": ("epochs=5", True),
    "minutes": ("minutes=10", True),
    "size": ("size=32", True),
    "batch_size": ("batch_size=32", True),
    "stored_batch": ("stored_batch=8", True),
    "bn": ("bn=train", True),
    "seed": ("seed=1", True),
    "init": ("init=RUN", True),
    "fresh": ("fresh=true", False),
    "monitor": ("monitor=valid/loss", False),
    "device": ("device=cpu", False),  # the same as auto, on a machine without a GPU
    "precision": ("precision=OTHER", True),
    "deterministic": ("deterministic=true", False),  # the CPU always is
    "threads": ("threads=2", True),
    "log_every": ("log_every=3", False),
    "verbose": ("verbose=true", False),
    "name": ("name=x", False),
    "tags": ("tags=[a]", False),
    "notes": ("notes=x", False),
    "stop_after": ("stop_after=1", False),
    "plan_only": ("plan_only=true", False),
    "smoke": ("smoke=true", True),
}


def leaves(node: dict, path: str = "") -> list[str]:
    return [
        leaf
        for name, value in node.items()
        for leaf in (leaves(value, f"{path}{name}.") if isinstance(value, dict) and value else [path + name])
    ]


def test_every_leaf_of_the_configuration_is_listed():
    assert set(LEAVES) == set(leaves(asdict(composed_of())))


@pytest.fixture(scope="module")
def made_once():
    """Build each network and load each set of images only once, because set_up is called many times."""
    with pytest.MonkeyPatch.context() as patch:
        for holder, name in ((setup, "create_network"), (dataset, "load_dataset")):
            whole, kept = getattr(holder, name), {}

            def once(*args, whole=whole, kept=kept, **kwargs):
                known = repr((args[:3], args[3:] if whole.__name__ == "create_network" else kwargs.get("side")))
                if known not in kept:
                    kept[known] = whole(*args, **kwargs)
                return copy.deepcopy(kept[known]) if whole.__name__ == "create_network" else kept[known]

            patch.setattr(holder, name, once)
        yield


@pytest.fixture
def identity(compose, tmp_path, made_once):
    """Return identity("lr=0.1", ...) -> the identity of the run with these overrides."""

    def found(*overrides):
        settings = compose(*overrides)
        settings.store.dir = str(tmp_path / "store")
        return set_up(settings, tmp_path, open_store(settings, print)).identity

    return found


PLAIN = []  # the identity of the run without overrides


@pytest.mark.parametrize("leaf", LEAVES)
def test_which_settings_make_it_another_run(identity, tmp_path, leaf):
    override, changes = LEAVES[leaf]
    if leaf == "init":
        save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "model.safetensors")
    other = "float32" if device.multiplies_bfloat16(torch.device("cpu")) else "bfloat16"
    typed = override.replace("OTHER", other).replace("RUN", str(tmp_path)).split()
    if not PLAIN:
        PLAIN.append(identity())
    assert (identity(*typed) != PLAIN[0]) == changes


def test_smoke_is_another_run_even_if_it_changes_no_fit(identity):
    """The epochs have only two steps anyway, so that only the finder differs."""
    short = ("data.limit=80", "checklist=fine_tune", "epochs=1", "size=32")
    assert identity(*short) != identity(*short, "smoke=true")


@pytest.mark.parametrize(("warmup", "same"), [(0.05, True), (100, False)])
def test_the_longest_ramp_is_in_the_key_if_it_is_read(compose, warmup, same):
    """A third cycle then costs only itself if nothing before it changes."""
    keys_of = []
    for cycles in (2, 3):
        settings = compose(f"scheduler.cycles={cycles}", f"scheduler.warmup={warmup}")
        full = plan.make_plan(settings, FACTS).phases[-1]
        keys_of.append(keys.cycle_parts(settings, full, 0, 0.01, 32, BASIS))
    assert (keys_of[0] == keys_of[1]) == same


def test_a_cycle_has_the_key_before_it_in_its_own(compose):
    settings = compose()
    full = plan.make_plan(settings, FACTS).phases[-1]
    one, other = (keys.cycle_parts(settings, full, 1, 0.01, 32, replace(BASIS, before=b)) for b in ("a", "b"))
    assert keys.first_difference(one, other) == ("before", "a", "b")


def test_code_means_the_same_without_comments_and_docstrings():
    source = 'def f(x):\n    """One."""\n    # a reason\n    return x + 1\n'
    same = 'def f(x):\n    """Another."""\n    return x + 1  # why\n'
    other = "def f(x):\n    return x + 2\n"
    assert code_hash.meaning(source) == code_hash.meaning(same) != code_hash.meaning(other)


def test_code_means_the_same_after_one_of_our_modules_was_moved():
    source = "from thaw.loop import train\n\n\ndef f():\n    from thaw import plan\n    return train(plan)\n"
    moved = "from thaw.train.loop import train\n\n\ndef f():\n    from thaw.plan import plan\n    return train(plan)\n"
    assert code_hash.meaning(source) == code_hash.meaning(moved) != code_hash.meaning(moved.replace("plan)", "0)"))
    assert code_hash.meaning("from torch import nn") != code_hash.meaning("from torch import jit")


def test_a_key_holds_hashes_of_code_and_no_names_of_modules():
    for kind, modules in code_hash.CODE.items():
        part = code_hash.code_part(kind)
        assert part == sorted(code_hash.code_by_module(kind).values()) and len(part) == len(set(modules))
        assert all(re.fullmatch("[0-9a-f]{16}", one) for one in part) and code_hash.code_part(kind, "ignore") == []


SOURCE = """
def used(x):
    return x


def other(x):
    return x


class Choice:
    def curve(self):
        return used
"""
REWRITTEN = [  # a text, its replacement, and whether that changes the definition of Choice
    ("return x\n\n\ndef other", "return 2 * x\n\n\ndef other", True),
    ("return used", "return other", True),
    ("class Choice", "class More:\n    pass\n\n\nclass Choice", False),
    ("def used(x):", "def used(x):  # why", False),
]


@pytest.mark.parametrize(("text", "instead", "changes"), REWRITTEN)
def test_the_definition_of_a_choice_covers_all_that_its_lines_name(tmp_path, monkeypatch, text, instead, changes):
    monkeypatch.syspath_prepend(tmp_path)
    hashes = []
    for name, source in (("before", SOURCE), ("after", SOURCE.replace(text, instead))):
        module = f"{tmp_path.name}_{name}"  # a name that no earlier test has imported
        (tmp_path / f"{module}.py").write_text(source)
        hashes.append(code_hash.definition(import_module(module).Choice))
    assert (hashes[0] != hashes[1]) == changes


def test_a_momentum_that_the_schedule_sets_is_in_no_key(compose):
    one_cycle = parts(compose("scheduler=one_cycle"))
    assert one_cycle == parts(compose("scheduler=one_cycle", "optimizer.betas=[0.5,0.99]"))
    assert one_cycle != parts(compose("scheduler=one_cycle", "optimizer.betas=[0.9,0.9]"))


EDITS = [  # a module, what is written into it, and which kinds are then made again
    ("train/loop.py", "# a comment", set()),
    ("train/loop.py", '"""Reworded: ', set()),
    ("train/loop.py", "def more():\n    return 1", {"finds", "cycles", "results"}),
    ("train/inputs.py", "MORE = 1", {"finds", "cycles", "results"}),
    ("train/phase_fit.py", "MORE = 1", {"finds", "cycles", "results"}),
    ("train/lr_finder.py", "MORE = 1", {"finds", "results"}),
    ("plan/schedules.py", "MORE = 1", {"finds", "cycles", "results"}),
    ("config/schedulers.py", "MORE = 1", set()),
    ("train/features.py", "MORE = 1", {"activations", "finds", "cycles", "results"}),
    ("data/decode.py", "MORE = 1", {"pixels", "activations", "finds", "cycles", "results"}),
    ("train/early_stopping.py", "MORE = 1", {"results"}),
    ("train/tta.py", "MORE = 1", {"results"}),
    ("train/near_duplicates.py", "MORE = 1", {"results"}),
    ("train/fit.py", "MORE = 1", {"results"}),
    ("train/progress.py", "MORE = 1", set()),
    ("train/context.py", "MORE = 1", set()),
    ("train/stages.py", "MORE = 1", set()),
    ("store/estimates.py", "MORE = 1", set()),
    ("report/tracker.py", "MORE = 1", set()),
    ("report/publish.py", "MORE = 1", set()),
    ("report/page.py", "MORE = 1", set()),
    ("runtime/console.py", "MORE = 1", set()),
    ("config/command_line.py", "MORE = 1", set()),
    ("store/store.py", "MORE = 1", set()),
]


@pytest.mark.parametrize(("module", "text", "anew"), EDITS)
def test_an_edit_changes_the_keys_of_what_the_code_makes(tmp_path, monkeypatch, module, text, anew):
    shutil.copytree(code_hash.PACKAGES, tmp_path / "thaw", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_hash, "PACKAGES", tmp_path / "thaw")
    monkeypatch.setattr(code_hash, "hash_of", cache(code_hash.hash_of.__wrapped__))
    before = {kind: code_hash.code_by_module(kind) for kind in code_hash.CODE}
    file = tmp_path / "thaw" / module
    written = file.read_text()
    file.write_text(written.replace('"""', text, 1) if text.startswith('"') else f"{written}\n{text}\n")
    monkeypatch.setattr(code_hash, "hash_of", cache(code_hash.hash_of.__wrapped__))
    after = {kind: code_hash.code_by_module(kind) for kind in code_hash.CODE}
    assert {kind for kind in code_hash.CODE if before[kind] != after[kind]} == anew
    if anew:
        name = module.rpartition("/")[2]
        kind = sorted(anew)[0]
        assert keys.changed({"code": before[kind]}, {"code": after[kind]}) == f"code changed ({name})"


CHANGED = [  # the parts of two runs of one command, and the words for their difference
    ({}, {}, None),
    ({"code": {"a.py": 1}}, {"code": {"a.py": 2, "data/b.py": 1}}, "code changed (a.py, b.py)"),
    (
        {"code": {"a.py": 1}},
        {"code": {}},
        "store.code changed (results made with check and with ignore are kept apart)",
    ),
    ({"computed": {"threads": 1}}, {"computed": {"threads": 2}}, "threads changed (1, now 2)"),
    (
        {"computed": {"versions": {"torch": "2.11"}}},
        {"computed": {"versions": {"torch": "2.12"}}},
        "torch changed (2.11, now 2.12)",
    ),
    ({"data": {"train": 1000}}, {"data": {"train": 1003}}, "the number of training images changed (1,000, now 1,003)"),
    ({"data": {"key": "a"}}, {"data": {"key": "b"}}, "the images or their labels changed"),
    ({"made": "a"}, {"made": "b"}, "the initial weights changed"),
    (
        {"phases": {"full": {"optimizer": {"momentum": 0.9}}}},
        {"phases": {"full": {"optimizer": {"momentum": 0.8}}}},
        "full.optimizer.momentum changed (0.9, now 0.8)",
    ),
    (
        {"augment": None},
        {"augment": {"crop": "whole", "p": True}},
        "augment changed (null, now {crop: whole, p: true})",
    ),
    (  # a long list from where it differs
        {"epochs": [[40, 64, 12]] * 20},
        {"epochs": [[40, 64, 12]] * 9 + [[20, 64, 12]] * 2},
        f"epochs changed ([..., {'[40, 64, 12], ' * 4}...], now [..., [20, 64, 12], [20, 64, 12]])",
    ),
    ({"notes": "a" * 99}, {"notes": "b" * 60}, f"notes changed ({'a' * 57}..., now {'b' * 60})"),
]


@pytest.mark.parametrize(
    "value",
    [[[40, 64, 12]] * 99, {"transforms": [["Affine", {"rotate": [-5, 5], "scale": [0.9, 1.1], "p": 0.5}]] * 9},
     {f"name_{n}": {"of": {"a": [n] * 9}} for n in range(9)}, {"long": "x" * 99}],
)  # fmt: skip
def test_a_value_that_is_cut_short_has_all_its_brackets_closed(value):
    for start in (0, 3, 98):
        text = keys.value_text(value, start)
        assert "..." in text and len(text) <= 70
        assert text.count("[") == text.count("]") and text.count("{") == text.count("}")


@pytest.mark.parametrize(("before", "now", "words"), CHANGED)
def test_the_reason_why_earlier_work_cannot_be_reused(before, now, words):
    assert keys.changed(before, now) == words


@pytest.mark.parametrize("kind", code_hash.CODE)
def test_the_modules_of_a_kind_exist_and_no_others_belong_to_it(kind):
    assert all((code_hash.PACKAGES / name).is_file() for name in code_hash.CODE[kind])
    assert not [name for name in code_hash.CODE[kind] if name.startswith(("report/", "sweep/"))]
    assert {name for name in code_hash.CODE[kind] if name.startswith("config/")} <= {
        "config/schedule.py",
        "config/schedulers.py",
    }, "values of settings are in the key; only code that draws schedules belongs here"


def test_the_first_difference_is_named_by_its_path():
    assert keys.first_difference({"a": 1}, {"a": 1}) is None
    a, b = {"t": {"o": {"m": 0.9, "n": 1}}}, {"t": {"o": {"m": 0.95, "n": 1}}}
    assert keys.first_difference(a, b) == ("t.o.m", 0.9, 0.95)
    assert keys.first_difference({}, {"x": 1}) == ("x", None, 1)


def test_the_order_of_transforms_is_part_of_a_key(compose):
    a, b = (compose("augment=none") for _ in range(2))
    a.augment.transforms = {"HorizontalFlip": {"p": 0.5}, "Affine": {"rotate": [-40, 40]}}
    b.augment.transforms = dict(reversed(a.augment.transforms.items()))
    assert parts(a) != parts(b) and fingerprint.fingerprint(a) != fingerprint.fingerprint(b)


def test_default_crops_are_in_a_key_by_their_numbers(compose):
    """They are defined in code that no key covers."""
    assert parts(compose("augment=standard"))["training"]["augment"]["scale"] == (0.35, 1.0)
    assert parts(compose("augment=standard")) == parts(compose("augment=standard", "augment.scale=[0.35,1.0]"))


@pytest.mark.parametrize("override", ["bn=train", "loss.smoothing=0", "backbone.drop=0.1", "backbone.drop_path=0.1"])
def test_settings_of_the_full_network_are_in_no_key_of_a_head(compose, override):
    def of_heads(*typed):
        settings = compose(*typed)
        phases = [phase for phase in plan.make_plan(settings, FACTS).phases if phase.train == "head"]
        return [keys.training_parts(settings, phase) for phase in phases]

    assert len(of_heads()) == 3 and of_heads() == of_heads(override)


def test_a_rate_belongs_to_its_batch(identity):
    """Below the final size both plans have the same batch size, but the given rate is for another one."""
    short = ("data.limit=800", "checklist=from_scratch", "lr=0.01", "scheduler.cycles=1", "scheduler.max_cycles=1")
    assert identity(*short, "resize=double", "batch_size=16") != identity(*short, "resize=double", "batch_size=20")
