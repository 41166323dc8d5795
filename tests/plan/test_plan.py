"""The plan of a checklist: its literal phases, what carries over between them, and what is refused."""

import math
from dataclasses import replace
from itertools import product

import pytest
from composed import settings_of

from thaw.config import run_names, validate
from thaw.config.schedulers import SCHEDULES
from thaw.config.schema import Settings
from thaw.plan import finder_steps, image_sizes, plan, show
from thaw.plan.facts import Facts, fact_names, known_facts
from thaw.plan.phases import Epoch, Phase
from thaw.runtime.errors import UserError

DIGITS = Facts(train=718, valid=180, test=899, classes=10, native_size=32, multiple=1, layers=6)
PHOTOS = Facts(train=10_000, valid=2_000, test=0, classes=2, native_size=224, multiple=1, layers=18)
THIRDS = pytest.approx((1 / 9, 1 / 3, 1.0))


def given(*choices: str, checklist: dict | None = None, **values) -> Settings:
    """Return settings with these choices, values (budget__cycles=4 for scheduler.cycles=4) and checklist."""
    out = settings_of(*choices)
    for key, value in values.items():
        *path, last = key.split("__")
        setattr(validate.value_at(out, ".".join(path)) if path else out, last, value)
    if checklist is not None:
        out.checklist = checklist
    return out


def phases(*choices, facts=DIGITS, **values) -> dict[str, Phase]:
    return {phase.name: phase for phase in plan.make_plan(given(*choices, **values), facts).phases}


def refused(*choices, facts=DIGITS, **values) -> str:
    with pytest.raises(UserError) as raised:
        plan.make_plan(given(*choices, **values), facts)
    assert raised.value.code == 2
    assert "\n" not in raised.value.line
    return raised.value.line


def sizes(phase: Phase) -> list:
    return [epoch.size for epoch in phase.epochs]


# the eight steps ------------------------------------------------------------------------------------------------------


def test_the_default_plan():
    found = plan.make_plan(given(), DIGITS)
    assert found.notes == ()
    assert (found.size, found.facts) == (32, DIGITS)
    stored, epoch = Epoch(size=32, batch=14, steps=52), Epoch(size=32, batch=16, steps=45)  # 718 / 50 = 14.4
    assert [
        (p.name, p.do, p.train, p.features, p.lr, p.rate_from, p.split, p.schedule.shape, p.cycles, p.budget, p.until)
        for p in found.phases
    ] == [
        ("find_head", "find", "head", "precomputed", None, None, "head", "linear", (1,), 1, None),
        ("head_precomputed", "fit", "head", "precomputed", None, "find_head", "head", "linear", (2,), 1, None),
        ("head_augmented", "fit", "head", "live", None, "find_head", "head", "sgdr", (1, 1, 1), 3, None),
        ("find_full", "find", "all", "live", None, None, "equal", "linear", (1,), 1, None),
        ("full", "fit", "all", "live", None, "find_full", "equal", "sgdr", (1, 2, 4, 8), 3, "overfit"),
    ]
    assert [phase.lr_factor for phase in found.phases] == [1, 1, 1 / 3, 1, 1]
    assert [phase.rate_batch for phase in found.phases] == [found.batch_size] * 5 == [16] * 5
    assert [phase.smoothing for phase in found.phases] == [0.0, 0.0, 0.0, 0.0, 0.1]
    assert [phase.ratios for phase in found.phases] == [(1.0,), (1.0,), (1.0,), THIRDS, THIRDS]
    assert [phase.epochs for phase in found.phases] == [
        (stored,) * 2,  # those of the first cycle of its fit
        (stored,) * 2,
        (epoch,) * 3,
        (epoch,),
        (epoch,) * 15,
    ]
    assert [phase.epochs_budget for phase in found.phases] == [1, 2, 3, 1, 7]
    assert [phase.steps_budget for phase in found.phases] == [52, 104, 135, 45, 315]
    assert [phase.ends for phase in found.phases] == [[52], [104], [45, 90, 135], [45], [45, 135, 315, 675]]
    assert [phase.schedule.warmup for phase in found.phases] == [0.0, 0.0, 0.0, 0.0, 100]


TABLE = """\
test_resnet (tiny) on digits: 718 training, 180 validation and 899 test images, 10 classes, 32 px

phase               does  trains  features     size  batch  rate per group           cycles (epochs)              epochs  steps
---------------------------------------------------------------------------------------------------------------------------------
1 find_head         find  head    precomputed  32    14     to be found              up to 12 trials × 104 steps          1,248
2 head_precomputed  fit   head    precomputed  32    14     find_head × 1            linear 2                     2       104
3 head_augmented    fit   head    live         32    16     find_head × 0.33         sgdr 1+1+1                   3       135
4 find_full         find  all     live         32    16     to be found              up to 6 trials × 8 steps             48
5 full              fit   all     live         32    16     find_full × 0.11 0.33 1  sgdr 1+2+4 (up to +8)        7–15    315–675
"""  # noqa: E501


def test_the_table_of_the_default_plan():
    settings = given()
    assert show.plan_table(plan.make_plan(settings, DIGITS), settings) == TABLE


@pytest.mark.parametrize(
    ("choices", "epochs", "cycles"),
    [([], 5, "1+4"), ([], 9, "1+2+6"), ([], 7, None), ([], 2, None), (["scheduler=one_cycle"], 5, None)],
)
def test_the_plan_explains_a_last_cycle_that_takes_the_rest(choices, epochs, cycles):
    settings = given(*choices, budget__epochs=epochs)
    notes = show.plan_table(plan.make_plan(settings, DIGITS), settings).partition("note: ")[2]
    rule = "cycle_len=1 and cycle_mult=2 set their lengths, the last one takes the rest"
    assert notes == (f"full: epochs={epochs} is split into cycles of {cycles} epochs: {rule}\n" if cycles else "")


def test_unknown_facts_are_explained_and_large_numbers_have_separators():
    settings = given()
    unknown = show.plan_table(plan.make_plan(settings, Facts()), settings)
    assert "? training" in unknown and "\n?: not known until the images and the backbone are loaded\n" in unknown
    assert "up to 12 trials × ? steps" in unknown and "up to 6 trials × ? steps" in unknown
    many = show.plan_table(plan.make_plan(settings, replace(DIGITS, train=1_000_000)), settings)
    assert "1,000,000 training" in many and "109,375–234,375" in many and "?" not in many


def test_found_rates_are_filled_in():
    settings = given()
    text = show.plan_table(plan.make_plan(settings, DIGITS), settings, {"find_head": 0.5, "find_full": 0.09})
    assert "find_head ×" not in text and "find_full ×" not in text
    assert [text.count(f" {rates} ") for rates in ("0.5", "0.17", "0.01 0.03 0.09")] == [1, 1, 1]


def test_the_timeline_of_the_default_plan():
    settings = given()
    drawn = show.plan_timeline(plan.make_plan(settings, DIGITS), settings)
    assert [(entry["name"], entry["start"], entry["steps"], entry["known"]) for entry in drawn] == [
        ("find_head", 0, 12 * 104, True),
        ("head_precomputed", 1248, 104, False),
        ("head_augmented", 1352, 135, False),
        ("find_full", 1487, 48, True),
        ("full", 1535, 315, False),
    ]
    for rate, at in zip(drawn[1]["rates"][0], range(104), strict=True):
        assert rate == pytest.approx((1 - at / 104) * (14 / 16) ** 0.5)
    full = drawn[-1]
    assert full["edges"] == [0, 45, 90, 135, 180, 225, 270, 315]
    assert full["sizes"] == [32] * 7
    assert full["points"] == list(range(315))
    assert full["rates"][2][45] == pytest.approx(0.505)  # the first restart, half way through a warm-up of two cycles
    assert [rates[135] for rates in full["rates"]] == THIRDS
    assert full["rates"][2][225] == pytest.approx(0.5)  # half way through the last cycle


def test_the_timeline_draws_found_rates_times_lr_factor():
    settings = given("find.rule=edge", lr_factor=2, batch_size=64)
    drawn = show.plan_timeline(plan.make_plan(settings, DIGITS), settings, {"find_head": 0.3, "find_full": 0.09})
    assert [(entry["steps"], entry["known"]) for entry in drawn] == [(n, True) for n in (100, 104, 36, 100, 84)]
    assert [entry["rates"][-1][0] for entry in drawn if entry["do"] == "fit"] == pytest.approx(
        [0.6 * (14 / 64) ** 0.5, 0.2, 0.0018]
    )


# durations ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "values", "stated", "cycles", "budget"),
    [
        ([], {}, {"until": "overfit"}, (1, 2, 4, 8), 3),
        ([], {}, {}, (1, 2, 4), 3),
        ([], {"budget__cycles": 2}, {"until": "overfit"}, (1, 2, 4), 2),
        ([], {"budget__cycle_mult": 1}, {"until": "overfit"}, (1, 1, 1, 1), 3),
        ([], {"budget__cycle_len": 2}, {}, (2, 4, 8), 3),
        ([], {"budget__max_cycles": 5}, {"until": "overfit"}, (1, 2, 4, 8, 16), 3),
        ([], {"budget__max_cycles": 3}, {"until": "overfit"}, (1, 2, 4), 3),
        ([], {"budget__epochs": 7}, {"until": "overfit"}, (1, 2, 4), 3),
        ([], {"budget__epochs": 9}, {}, (1, 2, 6), 3),
        ([], {"budget__epochs": 9}, {"until": "overfit"}, (1, 2, 6), 3),
        ([], {"budget__epochs": 1}, {}, (1,), 1),
        ([], {}, {"epochs": 5}, (5,), 1),
        ([], {"budget__epochs": 9}, {"epochs": 5}, (5,), 1),
        ([], {"budget__epochs": 9}, {"cycles": 2}, (1, 2), 2),
        ([], {}, {"cycles": 2}, (1, 2), 2),
        ([], {}, {"cycles": 2, "cycle_mult": 1}, (1, 1), 2),
        ([], {}, {"cycle_len": 3, "cycles": 1}, (3,), 1),
        ([], {}, {"cycles": 1, "until": "overfit", "max_cycles": 3}, (1, 2, 4), 1),
        ([], {}, {"max_cycles": 5, "until": "overfit"}, (1, 2, 4, 8, 16), 3),
        (["scheduler=triangular"], {}, {"until": "overfit"}, (1, 2, 4, 8), 3),
        # Without restarts there is one cycle, even until over-fitting.
        (["scheduler=one_cycle"], {}, {"until": "overfit"}, (7,), 1),
        (["scheduler=cosine"], {"budget__epochs": 12}, {}, (12,), 1),
        (["scheduler=flat_cos"], {"budget__cycles": 2}, {}, (3,), 1),
        (["scheduler=constant"], {"budget__epochs": 4}, {}, (4,), 1),
    ],
)
def test_cycles_of_the_full_network(choices, values, stated, cycles, budget):
    checklist = {"full": {"do": "fit", "train": "all", "lr": 0.1, **stated}}
    phase = phases(*choices, checklist=checklist, **values)["full"]
    assert (phase.cycles, phase.budget) == (cycles, budget)
    assert len(phase.epochs) == sum(cycles)
    assert phase.lr == 0.1
    shape = "linear" if "epochs" in stated else (choices or ["scheduler=sgdr"])[0].removeprefix("scheduler=")
    assert phase.schedule.shape == shape


@pytest.mark.parametrize("choice", ["sgdr", "one_cycle", "constant"])
def test_a_head_that_states_cycles_anneals_by_warm_restarts(choice):
    found = phases(f"scheduler={choice}")
    assert found["head_augmented"].schedule.shape == "sgdr"
    assert found["head_augmented"].schedule.warmup == 0.0
    assert found["head_augmented"].cycles == (1, 1, 1)
    assert found["head_precomputed"].schedule.shape == "linear"
    assert found["full"].schedule.shape == choice


@pytest.mark.parametrize(
    ("stated", "shape"), [({}, "linear"), ({"anneal": True}, "linear"), ({"anneal": False}, "constant")]
)
@pytest.mark.parametrize("train", ["head", "all"])
def test_a_phase_that_states_epochs_anneals_in_a_straight_line_unless_told_not_to(stated, shape, train):
    phase = phases(checklist={"short": {"do": "fit", "train": train, "lr": 0.1, "epochs": 3, **stated}})["short"]
    assert (phase.schedule.shape, phase.schedule.warmup, phase.cycles) == (shape, 0.0, (3,))


def test_a_head_that_states_nothing_takes_the_scheduler():
    head = phases("checklist=head_only", "scheduler=one_cycle")["head"]
    assert (head.schedule.shape, head.cycles, head.train, head.features) == ("one_cycle", (7,), "head", "precomputed")


@pytest.mark.parametrize("shape", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 2, 7, 9, 20])
def test_every_scheduler_trains_the_given_epochs(shape, epochs):
    full = phases(f"scheduler={shape}", budget__epochs=epochs, batch_size=64)["full"]
    assert full.epochs_budget == epochs
    assert full.steps_budget == 12 * epochs


@pytest.mark.parametrize("choice", ["none", "double", "staircase"])
@pytest.mark.parametrize("mult", [1, 2, 3])
def test_one_more_cycle_changes_nothing_before_it(choice, mult):
    for n in range(1, 5):
        shorter, longer = (
            phases(f"resize={choice}", budget__cycles=cycles, budget__cycle_mult=mult)["full"] for cycles in (n, n + 1)
        )
        assert longer.cycles[: len(shorter.cycles)] == shorter.cycles
        assert longer.epochs[: len(shorter.epochs)] == shorter.epochs
        assert longer.ends[: len(shorter.ends)] == shorter.ends


def test_epochs_that_no_phase_takes_are_noted():
    checklist = {"full": {"do": "fit", "train": "all", "lr": 0.1, "epochs": 3}}
    assert plan.make_plan(given(checklist=checklist, budget__epochs=9), DIGITS).notes == (
        "epochs=9 has no effect: every phase of the checklist states its own duration",
    )
    assert plan.make_plan(given(budget__epochs=9), DIGITS).notes == ()


# carrying over, rates, finds ------------------------------------------------------------------------------------------


def test_train_features_and_the_found_rate_carry_over_and_durations_do_not():
    found = phases(
        checklist={
            "look": {"do": "find", "train": "head", "features": "precomputed"},
            "first": {"do": "fit", "epochs": 5},
            "second": {"do": "fit", "cycles": 2, "features": "live"},
            "third": {"do": "fit"},
            "own": {"do": "fit", "epochs": 1, "lr": 0.25},
            "fourth": {"do": "fit", "epochs": 1},
            "again": {"do": "find", "train": "all"},
            "fifth": {"do": "fit"},
            "last": {"do": "fit", "train": "head", "epochs": 1, "lr": 0.5},
        }
    )
    assert [(p.name, p.train, p.features, p.rate_from, p.lr, p.cycles) for p in found.values()] == [
        ("look", "head", "precomputed", None, None, (1,)),
        ("first", "head", "precomputed", "look", None, (5,)),
        ("second", "head", "live", "look", None, (1, 1)),
        ("third", "head", "live", "look", None, (1, 2, 4)),
        ("own", "head", "live", None, 0.25, (1,)),
        ("fourth", "head", "live", "look", None, (1,)),
        ("again", "all", "live", None, None, (1,)),
        ("fifth", "all", "live", "again", None, (1, 2, 4)),
        ("last", "head", "live", None, 0.5, (1,)),
    ]


def test_training_the_whole_network_is_live_by_default():
    checklist = {
        "head": {"do": "fit", "train": "head", "features": "precomputed", "epochs": 1, "lr": 0.1},
        "full": {"do": "fit", "train": "all", "lr": 0.1},
    }
    assert [phase.features for phase in phases(checklist=checklist).values()] == ["precomputed", "live"]


def test_the_first_phase_trains_the_whole_network_live_by_default():
    assert [(p.train, p.features) for p in phases(checklist={"full": {"do": "fit", "lr": 0.1}}).values()] == [
        ("all", "live")
    ]


def test_a_key_that_is_null_counts_as_not_stated():
    checklist = {"full": {"do": "fit", "lr": 0.1, "epochs": None, "train": None, "until": None}}
    assert phases(checklist=checklist)["full"].cycles == (1, 2, 4)


def test_lr_sets_every_fit_and_leaves_out_the_finds():
    found = plan.make_plan(given(lr=0.01), DIGITS)
    assert [(phase.name, phase.lr) for phase in found.phases] == [
        ("head_precomputed", 0.01),
        ("head_augmented", 0.01),
        ("full", 0.01),
    ]
    assert found.notes == (
        "find_head is left out of the plan: no phase uses the rate it would find",
        "find_full is left out of the plan: no phase uses the rate it would find",
    )


def test_lr_as_a_list():
    found = phases(lr=[0.125, 0.25, 0.5, 1.0])
    assert {phase.lr for phase in found.values()} == {1.0}
    assert found["full"].ratios == (0.125, 0.25, 0.5, 1.0)
    assert found["head_augmented"].ratios == (1.0,)


def test_lr_as_a_list_decides_the_split():
    full = phases("rates=layer_decay", lr=["1/8", "1/2"])["full"]
    assert (full.lr, full.ratios, full.split) == (0.5, (0.25, 1.0), "equal")
    assert phases(lr=[0.25, 1.0], rates__split="head")["full"].split == "head"


def test_lr_of_one_phase():
    settings = given()
    settings.checklist["full"]["lr"] = "1/8"
    found = plan.make_plan(settings, DIGITS)
    assert [(p.name, p.lr, p.rate_from) for p in found.phases if p.do == "fit"] == [
        ("head_precomputed", None, "find_head"),
        ("head_augmented", None, "find_head"),
        ("full", 0.125, None),
    ]
    assert found.notes == ("find_full is left out of the plan: no phase uses the rate it would find",)


def test_the_lr_of_a_phase_overrides_lr():
    settings = given(lr=0.01)
    settings.checklist["full"]["lr"] = 0.5
    assert [phase.lr for phase in plan.make_plan(settings, DIGITS).phases] == [0.01, 0.01, 0.5]


def test_a_find_has_the_first_cycle_of_the_fit_that_uses_its_rate():
    found = phases("resize=double", facts=PHOTOS)
    assert found["find_full"].epochs == found["full"].epochs[:1] == (Epoch(112, 256, 40),)
    assert found["find_head"].epochs == found["head_precomputed"].epochs == (Epoch(224, 64, 157),) * 2
    two = phases("resize=double", "checklist=head_only", budget__cycle_len=3)
    assert two["find_head"].epochs == two["head"].epochs[:3] == (Epoch(32, 14, 52),) * 3


@pytest.mark.parametrize(
    ("batch_size", "images", "batch"),
    [("auto", 10_000, 64), ("auto", 718, 16), ("auto", 10, 10), ("auto", None, 64), (64, 718, 64), (64, 40, 40)],
)
def test_every_rate_is_for_batch_size(batch_size, images, batch):
    """But a training set smaller than that is one batch."""
    polish = {"do": "fit", "train": "all", "epochs": 1}
    settings = given("resize=double", batch_size=batch_size)
    settings.checklist = {**settings.checklist, "polish": polish, "own": {**polish, "lr": 0.1}}
    found = plan.make_plan(settings, replace(PHOTOS, train=images))
    assert [phase.rate_batch for phase in found.phases] == [batch] * 7
    assert found.batch_size == batch


def test_the_table_shows_rates_times_lr_factor():
    text = show.plan_table(plan.make_plan(given(lr_factor=0.1), DIGITS), given(lr_factor=0.1))
    assert "find_full × 0.011 0.033 0.1" in text and "find_head × 0.1 " in text and "find_head × 0.033" in text


def test_the_lr_factor_of_a_phase_multiplies_the_setting():
    settings = given(lr_factor=0.5)
    settings.checklist["full"]["lr_factor"] = "1/4"
    found = plan.make_plan(settings, DIGITS).phases
    assert [phase.lr_factor for phase in found] == [0.5, 0.5, 0.5 * (1 / 3), 0.5, 0.125]
    assert settings.checklist["head_augmented"]["lr_factor"] == "1/3"


def test_the_lr_factor_of_a_phase_leaves_a_given_rate_alone():
    found = phases(lr=0.01)
    assert [phase.lr for phase in found.values()] == [0.01] * 3


def test_layer_decay_is_one_group_per_layer():
    full = phases("rates=layer_decay")["full"]
    assert full.split == "layer_decay"
    assert full.ratios == (0.75**5, 0.75**4, 0.75**3, 0.75**2, 0.75, 1.0)
    settings = given("rates=layer_decay")
    assert "find_full × 0.24 0.32 0.42 1" in show.plan_table(plan.make_plan(settings, DIGITS), settings)


def test_layer_decay_on_unknown_layers():
    settings = given("rates=layer_decay")
    found = plan.make_plan(settings, replace(DIGITS, layers=None))
    assert found.phases[-1].ratios is None
    assert "found × decay per layer" in show.plan_table(found, settings)
    assert len(show.plan_timeline(found, settings)) == 5


# sizes and batches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "values", "expected"),
    [
        (["resize=none"], {}, [224] * 15),
        (["resize=double"], {}, [112] + [224] * 14),
        (["resize=staircase"], {}, [112, 168, 168] + [224] * 12),
        (["resize=double"], {"size": 64}, [32] + [64] * 14),
        (["resize=double"], {"resize__sizes": [128, 1.0]}, [128] + [224] * 14),
        (["resize=double"], {"resize__sizes": ["1/2", 224]}, [112] + [224] * 14),
        (["resize=double", "scheduler=one_cycle"], {}, [112] * 3 + [224] * 4),
        (["resize=staircase", "scheduler=one_cycle"], {}, [112, 112, 168, 168, 224, 224, 224]),
        (["resize=staircase", "scheduler=cosine"], {"budget__epochs": 1}, [224]),
    ],
)
def test_sizes_of_the_full_network(choices, values, expected):
    found = phases(*choices, facts=PHOTOS, **values)
    assert sizes(found["full"]) == expected
    for name in ("find_head", "head_precomputed", "head_augmented"):
        assert set(sizes(found[name])) == {expected[-1]}


def test_batches_grow_as_sizes_shrink():
    full = phases("resize=staircase", facts=PHOTOS)["full"]
    assert full.epochs[:4] == (
        Epoch(112, 256, 40),  # 10 000 / 256 = 39.06
        Epoch(168, 113, 89),  # 88.5
        Epoch(168, 113, 89),
        Epoch(224, 64, 157),  # 156.25
    )
    assert full.ends[:3] == [40, 218, 846]
    few = phases("resize=staircase", facts=replace(PHOTOS, train=2_000), batch_size=64)["full"]
    assert [epoch.batch for epoch in few.epochs[:4]] == [100, 100, 100, 64]


def test_a_batch_is_no_larger_than_the_data():
    few = replace(PHOTOS, train=40)
    assert set(phases(facts=few, batch_size=64)["full"].epochs) == {Epoch(224, 40, 1)}


def test_sizes_are_rounded_to_what_the_model_takes():
    settings = given("resize=staircase", "backbone=vit_small")
    found = plan.make_plan(settings, replace(PHOTOS, multiple=16, layers=14))
    assert sizes(found.phases[-1])[0] == 112
    assert sizes(found.phases[-1])[1] in (160, 176)
    assert all(epoch.size % 16 == 0 for phase in found.phases for epoch in phase.epochs)
    assert plan.final_size(given(), replace(PHOTOS, native_size=225, multiple=16)) == 224


def test_a_budget_too_short_for_the_final_size_is_noted():
    found = plan.make_plan(given("resize=staircase", budget__cycles=2), PHOTOS)
    (note,) = found.notes
    assert "full ends its 2 planned cycles before the final size 224" in note
    assert "resize.sizes" in note


@pytest.mark.parametrize(
    "images, batch, said",
    [
        (48, 64, ("full has only 1 step per epoch; with batch_size=16 it would have 3",)),
        (100, 64, ("full has only 2 steps per epoch; with batch_size=32 it would have 4",)),
        # The one image left over joins the batch before.
        (129, 64, ("full has only 2 steps per epoch; with batch_size=32 it would have 4",)),
        (130, 64, ()),
        (11, 64, ()),  # a batch with more steps would be tiny
        (48, 16, ()),
        (None, 64, ()),
    ],
)
def test_a_batch_size_that_leaves_few_steps_is_noted(images, batch, said):
    assert plan.make_plan(given(batch_size=batch), replace(DIGITS, train=images)).notes == said


# refusals -------------------------------------------------------------------------------------------------------------


def of_full(**stated) -> dict:
    return {"full": {"do": "fit", "train": "all", "lr": 0.1, **stated}}


@pytest.mark.parametrize(
    ("checklist", "said"),
    [
        # Contradictions name both keys.
        (of_full(epochs=3, cycles=2), ["checklist.full", "epochs=3", "cycles=2"]),
        (of_full(epochs=3, cycle_len=2), ["checklist.full", "epochs=3", "cycle_len=2"]),
        (of_full(epochs=3, cycle_mult=2), ["checklist.full", "epochs=3", "cycle_mult=2"]),
        (of_full(epochs=3, max_cycles=2), ["checklist.full", "epochs=3", "max_cycles=2"]),
        (of_full(cycles=3, max_cycles=2, until="overfit"), ["checklist.full", "cycles=3", "max_cycles=2"]),
        (of_full(features="precomputed"), ["checklist.full", "features=precomputed", "train=all"]),
        (
            {"look": {"do": "find", "train": "head"}, "full": {"do": "fit", "train": "all"}},
            ["checklist.look", "head", "full", "all"],
        ),
        # Keys and values that a phase cannot have.
        (of_full(epoch=3), ["checklist.full.epoch", "did you mean epochs"]),
        (of_full(scheduler="sgdr"), ["checklist.full.scheduler", "no such key"]),
        (of_full(train="body"), ["checklist.full.train=body", "head or all"]),
        (of_full(features="stored"), ["checklist.full.features=stored", "precomputed or live"]),
        (of_full(until="bored"), ["checklist.full.until=bored", "overfit"]),
        (of_full(do="train"), ["checklist.full.do=train", "find or fit"]),
        (of_full(epochs=0), ["checklist.full.epochs=0", ">= 1"]),
        (of_full(cycles=1.5), ["checklist.full.cycles=1.5", "whole number"]),
        (of_full(cycle_len=True), ["checklist.full.cycle_len=True", "whole number"]),
        (of_full(cycle_mult="two"), ["checklist.full.cycle_mult=two", "whole number"]),
        (of_full(lr=0), ["checklist.full.lr=0", "above 0"]),
        (of_full(epochs=20_000), ["checklist.full.epochs=20000: must be between 1 and 10,000"]),
        (of_full(cycles=30, cycle_mult=2), ["checklist.full", "cycles=30", "cycle_mult=2", "1,073,741,823 epochs"]),
        (of_full(lr="fast"), ["checklist.full.lr=fast", "number"]),
        (of_full(lr=[0.1, 0.2]), ["checklist.full.lr=[0.1, 0.2]", "number"]),
        (of_full(lr=None, lr_factor="half"), ["checklist.full.lr_factor=half", "number"]),
        (of_full(lr=None, lr_factor=0), ["checklist.full.lr_factor=0: must be above 0"]),
        (of_full(lr=None, lr_factor=-1), ["checklist.full.lr_factor=-1: must be above 0"]),
        (of_full(lr=None, lr_factor=math.inf), ["checklist.full.lr_factor=inf: must be above 0"]),
        (of_full(epochs=3, anneal="no"), ["checklist.full.anneal=no: must be true or false"]),
        (of_full(epochs=3, anneal=0), ["checklist.full.anneal=0: must be true or false"]),
        (of_full(anneal=False), ["checklist.full.anneal: only a phase with epochs has it; cycles always anneal"]),
        (of_full(cycles=2, anneal=True), ["checklist.full.anneal: only a phase with epochs has it"]),
        ({"full": {"train": "all"}}, ["checklist.full.do", "find or fit"]),
        ({"full": None}, ["checklist", "no phase trains anything"]),
        ({"full": 3}, ["checklist.full=3", "must be a phase"]),
        ({"look": {"do": "find", "epochs": 3}}, ["checklist.look.epochs", "find.*"]),
        ({"look": {"do": "find", "lr": 0.1}}, ["checklist.look.lr", "a find phase has no such key"]),
        ({"look": {"do": "find", "lr_factor": 2}}, ["checklist.look.lr_factor: a find phase has no such key"]),
        (
            {"look": {"do": "find", "epochs": 1, "anneal": False}},
            ["checklist.look.epochs: a find phase has no such key"],
        ),
        ({"look": {"do": "find", "anneal": False}}, ["checklist.look.anneal"]),
        ({"look": {"do": "find", "until": "overfit"}}, ["checklist.look.until", "a find phase has no such key"]),
        # No rate to train with, nothing to train.
        ({"full": {"do": "fit"}}, ["checklist.full", "no find phase before it", "lr"]),
        ({"full": {"do": "fit"}, "look": {"do": "find"}}, ["checklist.full", "no find phase before it"]),
        ({"look": {"do": "find"}}, ["checklist", "do: fit"]),
    ],
)
def test_an_impossible_checklist_is_refused(checklist, said):
    line = refused(checklist=checklist)
    assert line.startswith("checklist")
    assert [words for words in said if words not in line] == []


@pytest.mark.parametrize(
    ("choices", "facts", "values", "said"),
    [
        ([], DIGITS, {"rates__ratios": [0.1] * 6 + [1]}, ["7", "test_resnet has 6 layers", "at most 6"]),
        ([], DIGITS, {"lr": [0.1] * 7}, ["lr", "7", "at most 6"]),
        (["rates=uniform"], DIGITS, {"rates__split": "fastai"}, ["rates.split=fastai", "rates.ratios", "has 1"]),
        (
            ["backbone=vit_small"],
            replace(PHOTOS, multiple=16, layers=14),
            {"size": 100},
            ["size=100", "vit_small_patch16_224", "multiple of 16", "96 or 112"],
        ),
        (["backbone=vit_small"], replace(PHOTOS, multiple=16, layers=14), {"size": 8}, ["size=8", "16 or 32"]),
        ([], PHOTOS, {"resize__sizes": [0.5]}, ["resize.sizes=[0.5]", "end at the final size", "224"]),
        ([], PHOTOS, {"resize__sizes": [1.0, 0.5]}, ["resize.sizes=[1.0, 0.5]", "must grow"]),
        ([], PHOTOS, {"resize__sizes": [0.5, 256]}, ["resize.sizes=[0.5, 256]", "224"]),
        (["resize=double"], DIGITS, {"size": 12}, ["resize.sizes=[0.5, 1.0]", "starts at 6 px, below 8"]),
    ],
)
def test_settings_that_contradict_the_facts_are_refused(choices, facts, values, said):
    line = refused(*choices, facts=facts, **values)
    assert [words for words in said if words not in line] == []


def test_there_may_be_as_many_groups_as_layers():
    assert len(phases(rates__ratios=[0.1] * 5 + [1])["full"].ratios) == 6


# what is not known yet, smoke -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["resize=none", "resize=double", "rates=layer_decay", "scheduler=one_cycle"])
def test_a_plan_with_nothing_known_yet(choice):
    settings = given(choice)
    found = plan.make_plan(settings, Facts())
    assert found.size is None
    assert {epoch.steps for phase in found.phases for epoch in phase.epochs} == {None}
    assert found.phases[-1].steps_budget is None
    text = show.plan_table(found, settings)
    assert "? training, ? validation and ? test images, ? classes, ? px" in text
    full = next(line for line in text.splitlines() if line.startswith("5 full"))
    assert full.split()[5:7] == ["?", "64"]
    assert full.endswith("?") or full.endswith("?–?")
    assert [entry["steps"] for entry in show.plan_timeline(found, given("find.rule=edge"))] == [100, 20, 30, 100, 70]
    assert [entry["steps"] for entry in show.plan_timeline(found, settings)] == [10, 20, 30, 10, 70]


def test_a_plan_with_known_images_and_an_unknown_model():
    found = plan.make_plan(given(), Facts(train=718, valid=180, test=0, classes=10))
    assert found.phases[-1].epochs[0] == Epoch(None, 16, 45)
    assert plan.make_plan(given(size=48), Facts()).phases[-1].epochs[0] == Epoch(48, 64, None)


def test_smoke_plans_two_steps_of_every_phase():
    real, smoked = (
        plan.make_plan(given("resize=double"), PHOTOS),
        plan.make_plan(given("resize=double", smoke=True), PHOTOS),
    )
    assert [phase.name for phase in smoked.phases] == [phase.name for phase in real.phases]
    for phase, whole in zip(smoked.phases, real.phases, strict=True):
        assert (phase.cycles, phase.budget, phase.ends) == ((1,), 1, [2])
        assert phase.epochs == (replace(whole.epochs[0], steps=2),)
        assert replace(phase, cycles=whole.cycles, budget=whole.budget, epochs=whole.epochs) == whole


def test_smoke_of_unknown_or_few_images():
    assert plan.make_plan(given(smoke=True), Facts()).phases[-1].epochs[0].steps is None
    few = plan.make_plan(given(smoke=True, batch_size=64), replace(DIGITS, train=30))
    assert few.phases[-1].epochs == (Epoch(32, 30, 1),)


# the length of a finder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "facts", "head", "full"),
    [
        # On stored activations: as many steps as the first cycle of the fit, at most stored_steps; 12 trials.
        # On images: an epoch for all trials together, or trial_steps if that is more; the first has the rate 0.
        ([], DIGITS, (104, 12), (8, 6)),  # 2 epochs of 52 steps; max(48, 45) / 6
        (["batch_size=64"], DIGITS, (104, 12), (8, 6)),  # max(48, 12) / 6
        ([], PHOTOS, (314, 12), (26, 6)),  # 2 epochs of 157 steps; 157 / 6 = 26.2
        ([], replace(PHOTOS, train=100_000), (400, 12), (50, 6)),  # 3126 steps; 1563 / 6 = 260.5, but at most 50
        (["find.stored_steps=7"], DIGITS, (7, 12), (8, 6)),
        (["find.trials=3"], DIGITS, (104, 12), (16, 3)),  # 48 / 3
        (["find.trials=100"], DIGITS, (104, 12), (2, 100)),  # two steps at least
        (["find.trial_steps=60"], DIGITS, (104, 12), (10, 6)),
        (["resize=double"], PHOTOS, (314, 12), (8, 6)),  # 40 steps of larger batches
        (["stored_batch=359"], DIGITS, (4, 12), (8, 6)),
        ([], Facts(), (None, 12), (None, 6)),
        (["find.trials=3"], replace(DIGITS, train=None), (None, 12), (None, 3)),
        (["smoke=true"], DIGITS, (2, 2), (2, 2)),
        (["smoke=true"], Facts(), (2, 2), (2, 2)),
        (["find.rule=edge"], DIGITS, (100, 1), (100, 1)),
        (["find.rule=valley", "find.steps=30"], Facts(), (30, 1), (30, 1)),
        (["find.rule=edge", "smoke=true"], DIGITS, (2, 1), (2, 1)),
    ],
)
def test_steps_and_number_of_trials(typed, facts, head, full):
    settings = given(*typed)
    finds = [phase for phase in plan.make_plan(settings, facts).phases if phase.do == "find"]
    assert [finder_steps.finder_length(settings, phase) for phase in finds] == [head, full]
    wholes = [None if steps is None else steps * trials for steps, trials in (head, full)]
    assert [finder_steps.finder_steps(settings, phase) for phase in finds] == wholes


def test_a_smoke_run_tries_one_rate_besides_0():
    settings = given(smoke=True)
    text = show.plan_table(plan.make_plan(settings, DIGITS), settings)
    assert text.count("up to 2 trials × 2 steps") == 2


# facts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "train", "valid"),
    [
        ({}, 718, 180),
        ({"data__limit": 500}, 400, 100),
        ({"data__limit": 9_999}, 718, 180),
        ({"data__valid": 0.5}, 449, 449),
    ],
)
def test_facts_of_shipped_data(values, train, valid):
    assert known_facts(given(**values), lambda name: {}) == replace(DIGITS, train=train, valid=valid, native_size=40)


def test_facts_that_the_store_remembers():
    settings = given("data=folder", "data.root=images")
    data, backbone = fact_names(settings)
    stored = {data: {"train": 80, "valid": 20, "test": 5, "classes": 3}, backbone: {"native_size": 999, "layers": 99}}
    # The yaml of a shipped backbone takes precedence over the store.
    assert known_facts(settings, lambda name: stored.get(name, {})) == Facts(80, 20, 5, 3, 40, 1, 6)
    assert known_facts(settings, lambda name: {}) == Facts(None, None, None, None, 40, 1, 6)


def test_facts_are_kept_per_data_and_backbone():
    first = given("data=folder", "data.root=images")
    names = {fact_names(first)}
    for values in ({"data__root": "other"}, {"data__limit": 10}, {"data__valid": 0.5}, {"backbone__name": "resnet18"}):
        names.add(fact_names(given("data=folder", "data.root=images", **values)))
    assert len(names) == 5
    assert fact_names(given("data=folder", "data.root=images", seed=1)) == fact_names(first)


def test_short_hash():
    assert run_names.short_hash(["a", 1]) == run_names.short_hash(["a", 1]) != run_names.short_hash(["a", 2])
    assert len(run_names.short_hash([])) == 8


# everything with everything -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checklist", ["eight", "fine_tune", "head_only", "from_scratch"])
@pytest.mark.parametrize("scheduler", SCHEDULES)
def test_every_combination_plans(checklist, scheduler):
    settings = settings_of(f"checklist={checklist}")
    settings.scheduler = settings_of(f"scheduler={scheduler}").scheduler
    for rates, sizing, facts in product(
        ("uniform", "thirds", "tenths", "layer_decay"), ("none", "double", "staircase"), (DIGITS, PHOTOS, Facts())
    ):
        settings.rates = settings_of(f"rates={rates}").rates
        settings.resize = settings_of(f"resize={sizing}").resize
        found = plan.make_plan(settings, facts)
        for phase in found.phases:
            assert len(phase.epochs) == sum(phase.cycles) or phase.do == "find"
            assert 1 <= phase.budget <= len(phase.cycles)
            assert phase.do == "find" or (phase.lr is None) != (phase.rate_from is None)
            assert phase.ratios is None or phase.ratios[-1] == 1.0
            assert phase.train == "all" or set(sizes(phase)) == {found.size}
            for epoch in phase.epochs:
                assert facts.train is None or epoch.steps == image_sizes.steps_per_epoch(facts.train, epoch.batch)
        assert sizes(found.phases[-1])[-1] == found.size
        assert all(phase.name in show.plan_table(found, settings) for phase in found.phases)
