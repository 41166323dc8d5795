"""Tests of the schema and of the checks of all values."""

import math
from copy import deepcopy
from dataclasses import is_dataclass, make_dataclass
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

import pytest
from composed import composed_of

from thaw.config import schema, validate, values
from thaw.config.composed import Composed, pick
from thaw.config.conf_files import key_types
from thaw.config.options import Range, all_options, number, option_names
from thaw.config.schedulers import SCHEDULES
from thaw.config.sources import LISTED
from thaw.config.validate import CHOICES, LISTS, RANGES
from thaw.runtime.errors import UserError


def with_value(key: str, value, *overrides: str) -> Composed:
    """Return the composed overrides with one value set without a check of its type."""
    changed = composed_of(*overrides)
    *path, last = key.split(".")
    node = validate.value_at(changed, ".".join(path)) if path else changed
    assert hasattr(node, last)
    setattr(node, last, value)
    return changed


def refused(changed: Composed) -> str:
    with pytest.raises(UserError) as raised:
        validate.check_settings(changed)
    assert raised.value.code == 2
    assert "\n" not in raised.value.line
    return raised.value.line


def hint_of(key: str):
    """Return the type of a dotted key, without its Optional."""
    hint = Composed
    for part in key.split("."):
        hint = get_type_hints(hint)[part]
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (inner for inner in get_args(hint) if inner is not type(None))
    return hint


def numeric_keys(cls=Composed, prefix="") -> set[str]:
    """Return every dotted key of the schema that is a number."""
    out = set()
    for name in get_type_hints(cls):
        hint = hint_of(f"{prefix}{name}")
        if is_dataclass(hint):
            out |= numeric_keys(hint, f"{prefix}{name}.")
        elif hint in (int, float):
            out.add(prefix + name)
    return out


OUTSIDE = [
    *((key, low if above else low - 1) for key, (low, _, above) in RANGES.items()),
    *((key, high * 2) for key, (_, high, _) in RANGES.items() if high < math.inf),
    *((key, math.nan) for key in RANGES),
]
BOUNDS = [
    *((key, low) for key, (low, _, above) in RANGES.items() if not above),
    *((key, high) for key, (_, high, _) in RANGES.items() if high < math.inf),
]
CROSSED = ("scheduler.max_cycles", "scheduler.cycles", "find.min_lr", "find.max_lr")  # limited by each other


def test_the_shipped_settings_pass():
    default = composed_of()
    before = deepcopy(default)
    validate.check_settings(default)
    assert default == before


@pytest.mark.parametrize("key", [*RANGES, *CHOICES])
def test_checked_keys_are_in_the_schema(key):
    assert hint_of(key) in ((int, float) if key in RANGES else (str,))


@pytest.mark.parametrize(("key", "value"), OUTSIDE)
def test_values_outside_the_range_are_refused(key, value):
    line = refused(with_value(key, value))
    assert line.startswith(f"{key}={value}: must be {RANGES[key]}")


@pytest.mark.parametrize(("key", "value"), [case for case in BOUNDS if case[0] not in CROSSED])
def test_the_bounds_of_a_range_are_allowed(key, value):
    changed = with_value(key, value)
    validate.check_settings(changed)
    assert validate.value_at(changed, key) == value


def test_every_number_has_a_range():
    assert numeric_keys() == RANGES.keys()


def test_every_list_of_a_type_is_checked():
    lists = {key for key, hint in key_types().items() if "list[" in str(hint) and "Any" not in str(hint)}
    assert lists == LISTS.keys()


@pytest.mark.parametrize("key", CHOICES)
@pytest.mark.parametrize("value", ["nonsense", "", None])
def test_unknown_choices_are_refused(key, value):
    line = refused(with_value(key, value))
    said, _, more = line.partition(f"{key}={value}: must be one of {', '.join(CHOICES[key])}")
    assert said == "" and (more == "" or more.startswith("; did you mean ")), "the choices are listed once"


@pytest.mark.parametrize(("key", "choice"), [(key, choice) for key, choices in CHOICES.items() for choice in choices])
def test_every_choice_is_allowed(key, choice):
    overrides = [f"scheduler={choice}"] if key == "scheduler.shape" else []
    overrides += ["rates=layer_decay"] if choice == "layer_decay" else []
    overrides += [f"data={choice}", "data.root=photos"] if choice in LISTED else []
    overrides += ["head=fastai"] if key == "head.kind" and choice == "fastai" else []
    overrides += [f"optimizer={choice}"] if key == "optimizer.name" else []
    changed = with_value(key, choice, *overrides)
    validate.check_settings(changed)
    assert validate.value_at(changed, key) == choice


def test_listed_images_need_a_root():
    line = refused(with_value("data.root", None, "data=folder", "data.root=photos"))
    assert line.startswith("data.root=null: data=folder needs data.root=FOLDER")


def test_the_nearest_choice_is_named():
    assert "did you mean one_cycle" in refused(with_value("scheduler.shape", "one_cyle"))
    assert "did you mean sampler" in refused(with_value("loss.balance", "samplr"))


@pytest.mark.parametrize(
    ("overrides", "key", "value", "said"),
    [
        (["scheduler=one_cycle"], "scheduler.pct", None, "scheduler.pct=null: one_cycle needs a number"),
        (["scheduler=exp_range"], "scheduler.gamma", None, "scheduler.gamma=null: exp_range needs a number"),
        ([], "scheduler.warmup", None, "scheduler.warmup=null: sgdr needs a number"),
        (["scheduler=one_cycle_linear"], "scheduler.pct", 0.6, "scheduler.pct=0.6: must be between 0 and 0.5"),
        (["head=fastai"], "head.hidden", None, "head.hidden=null: head=fastai needs a whole number"),
        (["head=fastai"], "head.drop", [0.5], "head.drop=[0.5]: head=fastai needs two numbers from 0 to below 1"),
        (["head=fastai"], "head.drop", [0.5, 1.0], "head.drop=[0.5, 1.0]: head=fastai needs two"),
        (["head=fastai"], "batch_size", 1, "batch_size=1: the batch norm of head=fastai needs at least 2"),
        ([], "find.min_lr", 10.0, "find.min_lr=10.0: must be below find.max_lr=10.0"),
        ([], "scheduler.max_cycles", 2, "scheduler.max_cycles=2: must be at least scheduler.cycles=3"),
        ([], "resize.sizes", [], "resize.sizes is empty"),
        ([], "checklist", {}, "checklist is empty"),
        ([], "tags", [["a"]], "tags=[['a']]: each item must be text"),
        ([], "optimizer.betas", [[1], 0.9], "optimizer.betas=[[1], 0.9]: each item must be a number"),
        ([], "augment.scale", [{"a": 1}], "augment.scale=[{'a': 1}]: each item must be a number"),
        ([], "store.dir", "", "store.dir is empty: it needs a folder"),
        ([], "threads", 10**12, "threads=1000000000000: must be auto or a whole number between 1 and 1,024"),
        ([], "data.workers", 10**8, "data.workers=100000000: must be auto or a whole number between 0 and 1,024"),
        ([], "resize.sizes", [0, 1.0], "resize.sizes=[0, 1.0]: must be"),
        (
            [],
            "augment.transforms",
            {"Blur": 0.1},
            "augment.transforms.Blur=0.1: must be arguments, such as {p: 0.5}",
        ),
        ([], "augment.transforms", {"Blur": [3, 7]}, "augment.transforms.Blur=[3, 7]: must be arguments"),
        ([], "resize.sizes", [-0.5, 1.0], "resize.sizes=[-0.5, 1.0]: must be"),
        ([], "resize.sizes", [100.5, 1.0], "resize.sizes=[100.5, 1.0]: must be"),
        ([], "resize.sizes", [math.nan, 1.0], "resize.sizes=[nan, 1.0]: must be"),
        ([], "resize.sizes", [math.inf], "resize.sizes=[inf]: must be"),
        ([], "resize.sizes", ["half", 1.0], "resize.sizes=half: must be a number or a fraction"),
        ([], "threads", 0, "threads=0: must be auto or a whole number between 1 and"),
        ([], "batch_size", 0, "batch_size=0: must be auto or a whole number between 1 and 1,000,000"),
        ([], "batch_size", 2_000_000, "batch_size=2000000: must be auto or a whole number between 1 and 1,000,000"),
        ([], "batch_size", None, "batch_size=None: must be auto"),
        ([], "batch_size", "abc", "batch_size=abc: must be auto"),
        ([], "stored_batch", 0, "stored_batch=0: must be auto or a whole number between 1 and 1,000,000"),
        ([], "stored_batch", 2_000_000, "stored_batch=2000000: must be auto or a whole number between 1 and 1,000,000"),
        ([], "stored_batch", True, "stored_batch=True: must be auto"),
        ([], "stored_batch", None, "stored_batch=None: must be auto"),
        ([], "stored_batch", "few", "stored_batch=few: must be auto"),
        ([], "threads", "many", "threads=many: must be auto"),
        (
            ["data=torchvision"],
            "data.name",
            "pet",
            "data.name=pet: must be one of pets, flowers, cifar10, imagenette; did",
        ),
        (["data=torchvision"], "data.name", None, "data.name=None: must be one of pets"),
        ([], "data.workers", -1, "data.workers=-1: must be auto or a whole number between 0 and"),
        ([], "data.workers", 1.5, "data.workers=1.5: must be auto"),
        ([], "data.workers", True, "data.workers=True: must be auto"),
        (["rates=layer_decay"], "rates.decay", None, "rates.decay=null: rates.split=layer_decay needs a number"),
        ([], "rates.ratios", None, "rates.ratios=None: needs at least one ratio"),
        ([], "rates.ratios", [], "rates.ratios=[]: needs at least one ratio"),
        ([], "rates.ratios", [0.1, 0.5], "rates.ratios=[0.1, 0.5]: the last ratio must be 1"),
        ([], "rates.ratios", [1, 0.1], "rates.ratios=[1, 0.1]: the last ratio must be 1 (earliest layers first)"),
        ([], "rates.ratios", [0, 1], "rates.ratios=0: must be above 0 and at most 1,000"),
        ([], "rates.ratios", ["1/0", 1], "rates.ratios=1/0: must be a number or a fraction"),
        ([], "lr", [], "lr=[]: needs at least one rate"),
        ([], "lr", 0, "lr=0: must be above 0 and at most 1,000"),
        ([], "lr", -0.1, "lr=-0.1: must be above 0 and at most 1,000"),
        ([], "lr", math.inf, "lr=inf: must be above 0 and at most 1,000"),
        ([], "lr", math.nan, "lr=nan: must be above 0 and at most 1,000"),
        ([], "lr", 1001, "lr=1001: must be above 0 and at most 1,000"),
        ([], "lr", "fast", "lr=fast: must be a number or a fraction such as 1/9"),
        ([], "lr", True, "lr=True: must be a number"),
        ([], "lr", [0.1, "x"], "lr=x: must be a number"),
        ([], "lr", {"head": 1}, "lr={'head': 1}: must be a number"),
    ],
)
def test_impossible_values_are_refused(overrides, key, value, said):
    assert refused(with_value(key, value, *overrides)).startswith(said)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), (0.5, 0.5), ("1/9", 1 / 9), ("1e-3", 1e-3), (" 1 / 4 ", 0.25), ("-1/2", -0.5), ("0.5", 0.5)],
)
def test_numbers_and_fractions_are_parsed(value, expected):
    assert values.parse_number(value, "key") == expected


@pytest.mark.parametrize("value", ["", "1/", "/2", "1/2/3", "1/0", "a/b", None, True, [1], "0x10"])
def test_other_texts_are_not_numbers(value):
    with pytest.raises(UserError) as raised:
        values.parse_number(value, "some.key")
    assert raised.value.code == 2
    assert raised.value.line == f"some.key={value}: must be a number or a fraction such as 1/9"


@pytest.mark.parametrize(("value", "expected"), [("auto", None), (1, 1), (8, 8)])
def test_counts_are_whole_or_auto(value, expected):
    assert values.parse_count(value, "threads", 1) == expected


@pytest.mark.parametrize(
    ("overrides", "mode"),
    [
        ([], "eval"),
        (["backbone=resnet34"], "eval"),
        (["backbone.weights=none"], "train"),
        (["checklist=from_scratch"], "train"),
        (["backbone.weights=none", "init=outputs/latest"], "eval"),  # the weights of that run
        (["bn=train"], "train"),  # typed: as typed
        (["bn=eval", "backbone.weights=none"], "eval"),
    ],
)
def test_auto_keeps_the_batch_norm_of_pretrained_weights(overrides, mode):
    assert pick(composed_of(*overrides)).bn == mode


@pytest.mark.parametrize(
    ("lr", "rates", "rate", "ratios"),
    [
        (None, ("equal", ["1/9", "1/3", 1], None), None, [1 / 9, 1 / 3, 1.0]),
        (0.01, ("equal", ["1/9", "1/3", 1], None), 0.01, [1 / 9, 1 / 3, 1.0]),
        ("1/8", ("equal", [1], None), 0.125, [1.0]),
        (0.5, ("head", [0.25, 1.0], None), 0.5, [0.25, 1.0]),
        (None, ("fastai", ["1/100", "1/10", 1], None), None, [0.01, 0.1, 1.0]),
        # A list of rates sets the number of groups and their ratios.
        ([0.125, 0.25, 0.5], ("equal", ["1/9", "1/3", 1], None), 0.5, [0.25, 0.5, 1.0]),
        ([0.125, 0.5], ("equal", ["1/9", "1/3", 1], None), 0.5, [0.25, 1.0]),
        (["1/8", "1/2"], ("layer_decay", None, 0.75), 0.5, [0.25, 1.0]),
        ([0.5], ("equal", ["1/9", "1/3", 1], None), 0.5, [1.0]),
        (None, ("layer_decay", None, 0.75), None, None),
        (0.5, ("layer_decay", None, 0.75), 0.5, None),
    ],
)
def test_rates_and_ratios(lr, rates, rate, ratios):
    changed = with_value("lr", lr)
    changed.rates = schema.Rates(*rates)
    assert values.peak_rate_and_ratios(changed) == (rate, ratios if ratios is None else pytest.approx(ratios))


def test_errors_can_be_pickled():
    import pickle

    sent = pickle.loads(pickle.dumps(UserError(3, "data.root=x: no such folder")))
    assert (sent.code, sent.line, str(sent)) == (3, "data.root=x: no such folder", "data.root=x: no such folder")


@pytest.mark.parametrize(
    "typed",
    [
        ("optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=true"),
        ("optimizer=sgd", "optimizer.momentum=null"),
        ("optimizer.betas=[1.0,0.99]",),
        ("optimizer.betas=[0.9]",),
        ("optimizer.betas=null",),
        ("optimizer.weight_decay=null",),
        ("optimizer=sgd", "optimizer.nesterov=null"),
    ],
)
def test_impossible_options_of_an_optimizer_are_refused(typed):
    with pytest.raises(UserError, match=r"^optimizer\.") as refused:
        validate.check_settings(composed_of(*typed))
    assert refused.value.code == 2


@pytest.mark.parametrize(
    "overrides", [["scheduler.pct=1"], ["scheduler.div=0.5"], ["optimizer=adamw", "optimizer.momentum=1"]]
)
def test_a_value_that_no_choice_accepts_is_refused_even_if_unused(overrides):
    with pytest.raises(UserError, match=f"^{overrides[-1].partition('=')[0]}=.*must be (at least|between) ") as refused:
        validate.check_settings(composed_of(*overrides))
    assert refused.value.code == 2


@pytest.mark.parametrize("shape", SCHEDULES)
def test_a_scheduler_has_its_own_options_only(shape):
    scheduler = pick(composed_of(f"scheduler={shape}", "scheduler.gamma=0.5", "scheduler.warmup=7")).scheduler
    assert type(scheduler) is SCHEDULES[shape], f"conf/scheduler/{shape}.yaml has another shape"
    assert list(vars(scheduler)) == option_names(SCHEDULES[shape])
    assert scheduler.warmup == (7 if "warmup" in vars(scheduler) else 0)


def test_composed_settings_can_be_pickled():
    import pickle

    assert pickle.loads(pickle.dumps(composed_of())) == composed_of()


def test_two_choices_agree_on_the_type_of_an_option():
    one, other, same = (make_dataclass("Choice", [("a", hint)]) for hint in (int, float, int | None))
    assert all_options([one, same])["a"][0] == int | None
    with pytest.raises(TypeError, match=r"Choice\.a"):
        all_options([one, other])


def test_all_choices_have_the_widest_range():
    one = make_dataclass("One", [("a", float, number(0, 1, above=True))])
    other = make_dataclass("Other", [("a", float, number(0, 0.5))])
    assert all_options([one, other])["a"][1].metadata["range"] == all_options([other, one])["a"][1].metadata["range"]
    assert all_options([one, other])["a"][1].metadata["range"] == Range(0, 1)
