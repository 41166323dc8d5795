"""Tests of the structure of augment.transforms."""

import math

import pytest
from composed import settings_of

from thaw.config.schema import Augment
from thaw.config.transforms import are_shipped, check_written, in_order
from thaw.runtime.errors import UserError
from thaw.store.keys import view_parts

BLUR = {"Blur": {"p": 1}}
AT = "augment.transforms"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"OneOf": {"transforms": {"Blur": {"p": 1}, "GaussNoise": {"p": 1}}, "p": 0.5}}, None),
        ({"OneOf": {"transforms": [BLUR, BLUR]}}, None),
        ({"OneOf": {"transforms": [BLUR, {"Blur": None}]}}, None),
        ({"SomeOf": {"transforms": BLUR, "n": 2, "replace": True, "p": 0}}, None),
        ({"Sequential": {"transforms": [{"RandomOrder": {"transforms": [BLUR, BLUR], "n": 2}}]}}, None),
        ({"Blur": 0.1}, ".Blur=0.1: must be arguments, such as {p: 0.5}"),
        ({"OneOf": [BLUR]}, ".OneOf=[{'Blur': {'p': 1}}]: must be arguments, such as {transforms: "),
        ({"OneOf": {}}, ".OneOf.transforms: OneOf needs a transform, such as {transforms: {Blur: {p: 0.5}}}"),
        ({"OneOf": {"transforms": []}}, ".OneOf.transforms: OneOf needs a transform"),
        ({"OneOf": {"transforms": {"Blur": None}}}, ".OneOf.transforms: OneOf needs a transform"),
        ({"OneOf": {"transforms": "Blur"}}, ".OneOf.transforms=Blur: must be transforms, such as"),
        ({"OneOf": {"transforms": ["Blur"]}}, ".OneOf.transforms[0]=Blur: must be one transform, such as"),
        ({"OneOf": {"transforms": [{}]}}, ".OneOf.transforms[0]={}: must be one transform"),
        ({"OneOf": {"transforms": [{**BLUR, "D4": {}}]}}, ".OneOf.transforms[0]={'Blur': {'p': 1}, 'D4': {}}: must"),
        ({"OneOf": {"transforms": [{"Blur": 3}]}}, ".OneOf.transforms[0].Blur=3: must be arguments"),
        ({"OneOf": {"transforms": [BLUR], "p": 2}}, ".OneOf.p=2: must be a number from 0 to 1"),
        ({"OneOf": {"transforms": [BLUR], "p": "x"}}, ".OneOf.p=x: must be a number from 0 to 1"),
        ({"OneOf": {"transforms": [BLUR], "p": None}}, ".OneOf.p=None: must be a number from 0 to 1"),
        ({"OneOf": {"transforms": [BLUR], "n": 1}}, ".OneOf.n: OneOf has no such argument; known: transforms, p"),
        ({"OneOf": {"transforms": [{"Blur": {"p": 0}}]}}, ".OneOf.transforms: each p is a weight, and all of them"),
        ({"OneOrOther": {"transforms": [BLUR]}}, ".OneOrOther.transforms: OneOrOther needs two, not 1; OneOf takes"),
        ({"SomeOf": {"transforms": [BLUR], "n": 0}}, ".SomeOf.n=0: must be a whole number from 1 to 100"),
 ({"Affine": {"rotate": math.nan}}, ".Affine.rotate=nan: must be finite"),
        ({"OneOf": {"transforms": [{"Affine": {"scale": {"x": [1, math.inf]}}}]}},
         ".OneOf.transforms[0].Affine.scale={'x': [1, inf]}: must be finite"),
        ({"SomeOf": {"transforms": [BLUR], "n": True}}, ".SomeOf.n=True: must be a whole number"),
        ({"SomeOf": {"transforms": [BLUR], "n": 2}}, ".SomeOf.n=2: must be <= 1 (its transforms) unless replace=true"),
        ({"SomeOf": {"transforms": [BLUR], "replace": 1}}, ".SomeOf.replace=1: must be true or false"),
        *(
            ({"SelectiveChannelTransform": {"transforms": [BLUR], "channels": channels}},
             f".SelectiveChannelTransform.channels={channels}: must be a list of 0, 1 and 2, each at most once")
            for channels in ([3], [0, 0], [], 1, ["a"], [[0]], [True], [0.0])
        ),
        (
            {"OneOf": {"transforms": {"Sequential": {"transforms": [{"SomeOf": {"transforms": BLUR, "x": 1}}]}}}},
            ".OneOf.transforms.Sequential.transforms[0].SomeOf.x: SomeOf has no such argument",
        ),
    ],
)  # fmt: skip
def test_structures_are_checked(given, line):
    if line is None:
        return check_written(given, AT)
    with pytest.raises(UserError) as refused:
        check_written(given, AT)
    assert refused.value.line.startswith(AT + line) and refused.value.code == 2


def test_the_order_in_a_composition_is_part_of_a_store_key():
    def parts(*names, of=dict):
        held = [{name: {"p": 1}} for name in names]
        held = {name: args for one in held for name, args in one.items()} if of is dict else held
        return view_parts(Augment("whole", None, {"OneOf": {"p": 1, "transforms": held}}, 0.0, 0.0))

    assert parts("Blur", "D4")["transforms"] == [
        ("OneOf", {"p": 1, "transforms": [("Blur", {"p": 1}), ("D4", {"p": 1})]})
    ]
    assert parts("Blur", "D4") == parts("Blur", "D4", of=list) != parts("D4", "Blur")
    assert in_order({"Blur": {"p": 1}, "D4": {}}) == [("Blur", {"p": 1}), ("D4", {})]


def test_shipped_transforms_are_recognised():
    light = settings_of("augment=light").augment.transforms
    assert are_shipped(light) and are_shipped({}) and are_shipped(settings_of("augment=strong").augment.transforms)
    assert not are_shipped({**light, "Blur": {"p": 0.1}}) and not are_shipped({"Affine": {**light["Affine"], "p": 0.3}})
