"""A key covers what can change the result, and nothing that cannot."""

from dataclasses import fields, is_dataclass

import pytest

from thaw import keys, plan
from thaw.plan import Facts

FACTS = Facts(train=718, valid=180, test=899, classes=10, native_size=32, multiple=1, layers=6)
COMPUTED = keys.machine("cpu", "torch.float32", 1)


def parts(settings, cycle=0):
    full = plan.plan(settings, FACTS).phases[-1]
    return keys.cycle_parts(settings, full, cycle, 0.01, 32, "before", "data", COMPUTED)


CHANGES = [  # an override, and whether the key of the full network's first cycle changes
    ("seed=1", True), ("bn=eval", True), ("batch_size=32", True), ("rates=uniform", True), ("rates.split=head", True),
    ("optimizer.momentum=0.8", True), ("optimizer=adamw", True), ("optimizer.weight_decay=0", True),
    ("loss.smoothing=0.1", True), ("loss.balance=weights", True), ("augment=none", True), ("augment.mixup=0.2", True),
    ("scheduler=one_cycle", True), ("scheduler.warmup=0", True), ("scheduler.cycle_len=2", True),
    ("resize=double", True),
    ("backbone.drop=0.1", True), ("data.crop_pct=0.9", True),
    ("scheduler.cycles=4", False), ("scheduler.max_cycles=3", False), ("scheduler.cycle_mult=3", False),
    ("wandb=disabled", False), ("wandb.project=x", False), ("name=x", False), ("tags=[a]", False), ("notes=x", False),
    ("log_every=3", False), ("monitor=valid/loss", False), ("data.workers=2", False), ("store.wait_s=1", False),
    ("store.snapshot_s=1", False), ("store.dir=elsewhere", False), ("plan_only=true", False), ("fresh=true", False),
    ("find.rule=valley", False), ("find.steps=50", False), ("lr_factor=2", False),
]  # fmt: skip


@pytest.mark.parametrize(("override", "changes"), CHANGES)
def test_what_changes_the_key_of_a_cycle(compose, override, changes):
    before, after = parts(compose()), parts(compose(override))
    assert (before != after) == changes
    assert (keys.first_difference(before, after) is not None) == changes


def test_every_setting_is_covered_by_a_key_or_can_change_nothing():
    """A new setting has to be thought about: name it here, or give it to a key."""
    from thaw.settings import Settings

    changed = {override.split("=")[0].split(".")[0] for override, changes in CHANGES if changes}
    harmless = {override.split("=")[0].split(".")[0] for override, changes in CHANGES if not changes}
    # In the key by another way: the weights, the rate, the data, the device, the phases themselves.
    elsewhere = {"backbone", "head", "data", "checklist", "find", "lr", "epochs", "size", "init", "smoke"}
    elsewhere |= {"device", "precision", "threads"}
    assert is_dataclass(Settings)
    assert {field.name for field in fields(Settings)} <= changed | harmless | elsewhere


def test_a_cycle_has_the_key_before_it_in_its_own(compose):
    settings = compose()
    full = plan.plan(settings, FACTS).phases[-1]
    one, other = (keys.cycle_parts(settings, full, 1, 0.01, 32, b, "data", COMPUTED) for b in ("a", "b"))
    assert keys.first_difference(one, other) == ("before", "a", "b")


def test_code_means_the_same_without_comments_and_docstrings():
    source = 'def f(x):\n    """One."""\n    # a reason\n    return x + 1\n'
    same = 'def f(x):\n    """Another."""\n    return x + 1  # why\n'
    other = "def f(x):\n    return x + 2\n"
    assert keys.meaning(source) == keys.meaning(same) != keys.meaning(other)


@pytest.mark.parametrize("kind", keys.CODE)
def test_the_code_of_a_kind_is_that_of_modules_that_are_there(kind):
    assert all((keys.HERE / name).is_file() for name in keys.CODE[kind])
    assert not {"track.py", "report", "progress.py", "shell.py", "run.py"} & set(keys.CODE[kind])


def test_the_first_difference_is_named_by_its_path():
    assert keys.first_difference({"a": 1}, {"a": 1}) is None
    a, b = {"t": {"o": {"m": 0.9, "n": 1}}}, {"t": {"o": {"m": 0.95, "n": 1}}}
    assert keys.first_difference(a, b) == ("t.o.m", 0.9, 0.95)
    assert keys.first_difference({}, {"x": 1}) == ("x", None, 1)
