"""Crops and augmentation: seeded for every image, independent of one another, and unknown words are refused."""

import math

import numpy as np
import pytest

from thaw.config.conf_files import choices_of
from thaw.config.paths import CONF
from thaw.config.schema import Augment
from thaw.data import batches
from thaw.data.augment import at_size, view
from thaw.data.batches import BatchKey, Views, loader
from thaw.data.pixels import Pixels
from thaw.data.resize import fit_side
from thaw.runtime.errors import UserError

LIGHT = Augment("whole", None, {"Affine": {"rotate": [-20, 20], "translate_percent": [-0.2, 0.2], "p": 1.0}}, 0.0, 0.0)
BLUR = {"Blur": {"blur_limit": [5, 5], "p": 1}}
CROPS = Augment("random", [0.2, 1.0], {"HorizontalFlip": {"p": 0.5}, "VerticalFlip": {"p": 0.5}}, 0.0, 0.0)


def ramp(height=40, width=60):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 6, x + y], -1).astype(np.uint8)


def test_a_view_is_a_function_of_its_seed():
    see = view(32, 0.875, CROPS)
    a, b = see(ramp(), 1), see(ramp(), 2)
    assert a.shape == (32, 32, 3) and a.dtype == np.uint8
    assert not np.array_equal(a, b)
    assert np.array_equal(a, see(ramp(), 1)) and np.array_equal(a, view(32, 0.875, CROPS)(ramp(), 1))


def test_two_transforms_draw_independently():
    see = view(8, 1.0, Augment("whole", None, CROPS.transforms, 0.0, 0.0))
    image = np.zeros((8, 8, 3), np.uint8)
    image[0, 0] = 255  # the marked corner shows which flips were made
    corners = [np.argwhere(see(image, seed)[..., 0])[0] for seed in range(2000)]
    flips = np.array([(y == 7, x == 7) for y, x in corners])
    assert abs(np.corrcoef(flips.T)[0, 1]) < 0.07  # three standard errors
    assert (abs(flips.mean(0) - 0.5) < 0.04).all()


NESTED = {"OneOf": {"transforms": [{"SomeOf": {"transforms": LIGHT.transforms}}, {"GaussNoise": {"p": 1}}], "p": 1}}


@pytest.mark.parametrize(
    ("workers", "transforms"), [(0, LIGHT.transforms), (1, LIGHT.transforms), (4, LIGHT.transforms), (2, NESTED)]
)
def test_workers_do_not_change_batches_and_epochs_differ(workers, transforms):
    augment = Augment("whole", None, transforms, 0.0, 0.0)
    labels = np.arange(12) % 3
    views = Views(Pixels(range(12), {i: ramp() + i for i in range(12)}, 40), labels, 1.0, 24, augment, (0, "full"))
    keys = [BatchKey(epoch, 24, np.arange(12)[part]) for epoch in (0, 1) for part in (slice(0, 5), slice(5, 12))]
    batches = list(loader(views, keys, workers))
    reference = [views[key] for key in keys]
    for (x, y), (rx, ry) in zip(batches, reference, strict=True):
        assert np.array_equal(x, rx) and np.array_equal(y, ry)
    assert not np.array_equal(batches[0][0], batches[2][0]), "another epoch, another draw"
    again = Views(views.pixels, labels, 1.0, 24, augment, (1, "full"))
    assert not np.array_equal(again[keys[0]][0], batches[0][0]), "another seed, another draw"


@pytest.mark.parametrize(
    ("threads", "size", "free", "workers"),
    [(1, 224, 8e9, 1), (2, 128, 8e9, 2), (16, 224, 8e9, 8), (16, 32, 8e9, 0), (8, 224, 64e6, 0), (8, 224, 400e6, 5)]
    + [(4, 224, math.inf, 4)],
)
def test_the_number_of_loader_processes_fits_the_machine(monkeypatch, threads, size, free, workers):
    monkeypatch.setattr(batches, "shared_memory", lambda: free)
    assert batches.workers_for(threads, size, 64) == workers


def test_validation_sees_the_middle():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = 200
    assert view(40, 1.0)(image, None).min() == 200


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        ({"HorizontalFlop": {}}, "did you mean HorizontalFlip"),
        ({"HorizontalFlip": {"probability": 1}}, "probability"),
        ({"Affine": {"rotate": "far"}}, r"transforms\.Affine\.rotate=far: Input should be"),
        ({"Blur": {"p": 2}}, r"transforms\.Blur\.p=2: Input should be less than or equal to 1$"),
        ({"RandomCrop": {}}, r"transforms\.RandomCrop\.height: Field required"),
        ({"Blur": {1: 2}}, r"transforms\.Blur: keywords must be strings"),
        ({"Zzzzzz": {}}, "no such transform; its documentation lists them"),
        ({"Compose": {"transforms": [BLUR]}}, "cannot be used as a step; use Sequential"),
        ({"ReplayCompose": {"transforms": [BLUR]}}, "cannot be used as a step; use Sequential"),
        ({"OneOff": {"transforms": [BLUR]}}, "did you mean OneOf"),
        ({"OneOf": {"transforms": {"Blurr": {}}}}, r"transforms\.OneOf\.transforms\.Blurr: .*did you mean Blur"),
        ({"OneOf": {"transforms": [BLUR, {"Blur": {"p": 2}}]}}, r"OneOf\.transforms\[1\]\.Blur\.p=2: Input"),
        ({"OneOf": {"transforms": {"Sequential": {"transforms": [{"Blr": {}}]}}}}, r"Sequential.*\[0\]\.Blr: "),
    ],
)
def test_unknown_transforms_and_arguments_are_refused(transforms, words):
    with pytest.raises(UserError, match=words) as caught:
        view(32, 1.0, Augment("whole", None, transforms, 0.0, 0.0))
    assert caught.value.code == 2


COMPOSITIONS = [  # and the fewest and most different images that thirty seeds may give
    ({"OneOf": {"transforms": {**BLUR, "HorizontalFlip": {}}, "p": 0.5}}, 3, 3),
    ({"OneOf": {"transforms": [BLUR, {"Blur": {"blur_limit": [9, 9], "p": 1}}], "p": 1}}, 2, 2),
    ({"SomeOf": {"transforms": [{"HorizontalFlip": {"p": 1}}, {"VerticalFlip": {"p": 1}}], "n": 2}}, 1, 1),
    ({"SomeOf": {"transforms": [{"HorizontalFlip": {"p": 1}}], "n": 3, "replace": True}}, 1, 1),
    ({"RandomOrder": {"transforms": [{"HorizontalFlip": {}}, {"GaussNoise": {"p": 1}}], "n": 2}}, 30, 30),
    ({"OneOrOther": {"transforms": [BLUR, {"HorizontalFlip": {}}]}}, 2, 2),
    ({"SelectiveChannelTransform": {"transforms": [{"HorizontalFlip": {"p": 1}}], "channels": [0]}}, 1, 1),
    ({"Sequential": {"transforms": [{"OneOf": {"transforms": [BLUR, {"GaussNoise": {"p": 1}}]}}], "p": 1}}, 5, 30),
    ({"Sequential": {"transforms": {"Resize": {"height": 48, "width": 48, "p": 1},
                                    "RandomCrop": {"height": 32, "width": 32, "p": 1}}}}, 5, 30),
]  # fmt: skip


@pytest.mark.parametrize(("transforms", "fewest", "most"), COMPOSITIONS)
def test_a_composition_depends_on_the_seed_alone(transforms, fewest, most):
    augment = Augment("whole", None, transforms, 0.0, 0.0)
    see, other = view(32, 0.875, augment), view(32, 0.875, augment)
    seen = [see(ramp(), seed) for seed in range(30)]
    assert fewest <= len({image.tobytes() for image in seen}) <= most
    backwards = [other(ramp(), seed) for seed in reversed(range(30))]
    assert all(np.array_equal(a, b) for a, b in zip(seen, reversed(backwards), strict=True))
    assert all(image.shape == (32, 32, 3) for image in seen)


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        ({"OneOf": {"transforms": [{"CenterCrop": {"height": 20, "width": 20}}, BLUR]}}, "end in 20x20 pixels"),
        ({"SomeOf": {"transforms": {"Resize": {"height": 9, "width": 9, "p": 0.1}}}}, "end in 9x9 pixels"),
        ({"Sequential": {"transforms": [{"Resize": {"height": 9, "width": 9}}], "p": 0.1}}, "end in 9x9 pixels"),
        ({"Resize": {"height": 48, "width": 48, "p": 1}, "RandomCrop": {"height": 32, "width": 32, "p": 0.5}}, "48x48"),
        ({"OneOf": {"transforms": [BLUR, {"Normalize": {}}]}}, r"transforms\[1\]\.Normalize: returns float32"),
        ({"OneOf": {"transforms": [BLUR, {"FDA": {"reference_images": []}}]}}, r"\[1\]\.FDA: fails on an image"),
        ({"SelectiveChannelTransform": {"transforms": [{"CenterCrop": {"height": 9, "width": 9}}]}}, "must not change"),
    ],
)
def test_rare_draws_of_a_composition_are_tried_too(transforms, words):
    with pytest.raises(UserError, match=words) as caught:
        view(32, 1.0, Augment("whole", None, transforms, 0.0, 0.0))
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("height", "width", "side", "shape"),
    [(40, 60, 20, (20, 30, 3)), (8, 8, 32, (32, 32, 3)), (10, 1000, 20, (20, 80, 3)), (20, 20, 20, (20, 20, 3))],
)
def test_the_shorter_side_gets_the_requested_length(height, width, side, shape):
    assert fit_side(np.zeros((height, width, 3), np.uint8), side).shape == shape


@pytest.mark.parametrize("name", choices_of("augment", CONF))
def test_every_preset_gives_images(name, compose):
    settings = compose(f"augment={name}")
    see = view(32, 0.875, settings.augment)
    seen = [see(ramp(), seed) for seed in range(5)]
    assert all(s.shape == (32, 32, 3) for s in seen)
    assert (name == "none") == all(np.array_equal(s, seen[0]) for s in seen)


def test_a_zoom_keeps_nearly_all_of_the_shorter_side_and_stays_within_4_to_3():
    see = view(20, 1.0, Augment("zoom", [1.0, 1.1], {}, 0.0, 0.0))
    seen = [see(ramp(40, 80), seed) for seed in range(60)]
    lefts = [int(image[:, 0, 0].mean()) / 4 for image in seen]  # red rises by 4 a pixel to the right
    assert 9 < max(lefts) - min(lefts) < 18, "a square of 36 to 40 in the middle 53 of 80"
    assert min(lefts) > 12 and max(lefts) + 36 < 68
    heights = [(int(image[-1, 0, 1]) - int(image[0, 0, 1])) / 6 for image in seen]
    assert min(heights) > 33 and max(heights) < 40 and max(heights) - min(heights) > 1


def test_top_down_rotates_and_flips_in_all_eight_ways(compose):
    augment = compose("augment=top_down").augment
    augment = Augment("whole", None, {"D4": augment.transforms["D4"]}, 0.0, 0.0)
    see = view(4, 1.0, augment)
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert len({see(image, seed).tobytes() for seed in range(100)}) == 8


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("CenterCrop", {"height": 20, "width": 20}, "end in 20x20 pixels, but the plan needs 32x32"),
        ("Resize", {"height": 16, "width": 16, "p": 0.1}, "end in 16x16 pixels"),
        ("RandomScale", {"p": 0.5}, "end in"),
        ("Normalize", {}, "returns float32"),
        ("FDA", {"reference_images": []}, "fails on an image"),
        ("Affine", {"scale": 0}, "turns an image into a single colour"),
        ("Affine", {"translate_percent": -1, "p": 0.1}, "turns an image into a single colour"),
        ("ToTensorV2", {}, "returns a tensor, but an image must stay an array of uint8"),
        ("ToGray", {"num_output_channels": 1}, "end in 32x32 pixels of 1 channels, but the plan needs 32x32"),
    ],
)
def test_a_transform_that_returns_no_image_of_the_same_size_is_refused(name, args, words):
    with pytest.raises(UserError, match=rf"^augment\.transforms[^:]*: .*({words})") as caught:
        view(32, 1.0, Augment("whole", None, {"HorizontalFlip": {}, name: args}, 0.0, 0.0))
    assert caught.value.code == 2


@pytest.mark.parametrize("override", ["augment.scale=[1.1,1.0]", "augment.scale=[1.0]", "augment.scale=[0.5,1]"])
def test_an_impossible_zoom_is_refused(compose, override):
    with pytest.raises(UserError, match=r"augment\.scale=") as caught:
        compose("augment=side_on", override)
    assert caught.value.code == 2


def test_a_warning_of_albumentations_is_one_plain_line(capsys):
    for _ in range(2):
        view(32, 1.0, Augment("whole", None, {"ShiftScaleRotate": {"p": 0.25}}, 0.0, 0.0))
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: augment.transforms.ShiftScaleRotate: ShiftScaleRotate is a special case of Affine")


def test_a_random_crop_keeps_more_of_an_image_at_a_smaller_size():
    assert at_size(CROPS, 1.0) == CROPS and at_size(LIGHT, 0.5) == LIGHT
    assert at_size(CROPS, 0.5).scale == pytest.approx([0.6, 1.0])
    assert at_size(CROPS, 0.75).scale == pytest.approx([0.4, 1.0])
    assert at_size(Augment("random", [0.2, 0.5], {}, 0.0, 0.0), 0.5).scale == [0.5, 0.5]
    views = Views(Pixels([0], {0: ramp(80, 80)}, 80), np.zeros(1, np.int64), 1.0, 40, CROPS, ())
    spans = {
        size: [int(np.ptp(views[BatchKey(epoch, size, np.zeros(1, int))][0][..., 0])) for epoch in range(60)]
        for size in (20, 40)
    }
    assert min(spans[20]) > 1.3 * min(spans[40]), "of 80 columns, the fewest in a view"
