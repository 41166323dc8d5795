"""Image sizes, batch sizes and steps: literal tables, and properties that always hold."""

import pytest
from composed import settings_of

from thaw.plan import image_sizes
from thaw.plan.facts import Facts


@pytest.mark.parametrize(
    ("pixels", "multiple", "expected"),
    [(224, 1, 224), (112.4, 1, 112), (100, 32, 96), (120, 32, 128), (5, 32, 32), (0.2, 1, 1), (518, 14, 518)],
)
def test_snap(pixels, multiple, expected):
    assert image_sizes.snap(pixels, multiple) == expected


def test_snap_is_the_nearest_multiple():
    for multiple in (1, 8, 14, 16, 32):
        for pixels in range(multiple, 300):
            snapped = image_sizes.snap(pixels, multiple)
            assert snapped % multiple == 0
            assert abs(snapped - pixels) <= multiple / 2


@pytest.mark.parametrize(
    ("steps", "final", "multiple", "expected"),
    [
        ([1.0], 224, 1, [224]),
        ([1], 224, 1, [224]),
        ([0.5, 1.0], 224, 1, [112, 224]),
        ([0.5, 0.75, 1.0], 224, 1, [112, 168, 224]),
        ([0.6, 0.8, 1.0], 224, 32, [128, 192, 224]),
        ([64, 0.5, 1.0], 224, 1, [64, 112, 224]),
        ([128, 299], 299, 1, [128, 299]),
        ([0.5, 1.0], 32, 1, [16, 32]),
    ],
)
def test_sizes(steps, final, multiple, expected):
    assert image_sizes.pixel_sizes(steps, final, multiple) == expected


@pytest.mark.parametrize(
    ("pixels", "cycles", "with_restarts", "without"),
    [
        ([8, 16], [1, 2, 4], [8, 16, 16, 16, 16, 16, 16], [8, 8, 8, 16, 16, 16, 16]),
        ([8, 12, 16], [1, 2, 4], [8, 12, 12, 16, 16, 16, 16], [8, 8, 12, 12, 16, 16, 16]),
        ([8, 12, 16], [2, 2], [8, 8, 12, 12], [8, 12, 16, 16]),
        ([8, 12, 16], [1], [8], [16]),
        ([16], [3], [16, 16, 16], [16, 16, 16]),
        ([8, 16], [6], [8] * 6, [8, 8, 8, 16, 16, 16]),
    ],
)
def test_size_of_every_epoch(pixels, cycles, with_restarts, without):
    assert image_sizes.epoch_sizes(pixels, cycles, restarts=True) == with_restarts
    assert image_sizes.epoch_sizes(pixels, cycles, restarts=False) == without


@pytest.mark.parametrize("pixels", [[16], [8, 16], [8, 12, 16], [4, 8, 12, 16]])
def test_one_more_cycle_changes_nothing_before_it(pixels):
    for cycle_mult in (1, 2, 3):
        cycles = [cycle_mult**i for i in range(6)]
        for n in range(1, 6):
            shorter = image_sizes.epoch_sizes(pixels, cycles[:n], restarts=True)
            assert image_sizes.epoch_sizes(pixels, cycles[: n + 1], restarts=True)[: len(shorter)] == shorter


@pytest.mark.parametrize("pixels", [[16], [8, 16], [8, 12, 16], [4, 8, 12, 16]])
def test_without_restarts_sizes_grow_evenly_to_the_final_one(pixels):
    for epochs in range(1, 41):
        sizes = image_sizes.epoch_sizes(pixels, [epochs], restarts=False)
        assert len(sizes) == epochs
        assert sizes == sorted(sizes)
        assert sizes[-1] == pixels[-1]
        if epochs >= len(pixels):
            counts = [sizes.count(size) for size in pixels]
            assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("size", "final", "batch", "images", "expected"),
    [
        (224, 224, 64, 10_000, 64),
        (112, 224, 64, 10_000, 256),  # a quarter of the area
        (56, 224, 64, 100_000, 256),  # at most four times
        (168, 224, 64, 10_000, 113),  # 64 * 16 / 9 = 113.8
        (160, 224, 25, 10_000, 49),  # 25 * 49 / 25, exactly
        (160, 224, 50, 10_000, 98),
        (112, 224, 64, 2_000, 100),  # 20 steps per epoch
        (112, 224, 64, 718, 64),  # already fewer than 20 steps: unchanged
        (112, 224, 64, None, 256),
        (112, 224, 64, 5_120, 256),
        (112, 224, 64, 5_119, 255),
    ],
)
def test_batch_at(size, final, batch, images, expected):
    assert image_sizes.batch_size_at(size, final, batch, images) == expected


@pytest.mark.parametrize(
    ("given", "images", "expected"),
    [
        ("auto", None, 64),  # not known yet
        ("auto", 100, 16),  # at least 16
        ("auto", 280, 16),
        ("auto", 1_164, 16),  # 1164 / 50 = 23.3, down to a multiple of 8
        ("auto", 1_200, 24),
        ("auto", 2_600, 48),
        ("auto", 3_199, 56),
        ("auto", 3_200, 64),
        ("auto", 1_000_000, 64),
        (28, None, 28),  # typed: as typed
        (28, 100, 28),
        (128, 100, 100),  # no more than there are
        ("auto", 9, 9),
    ],
)
def test_batch_size(given, images, expected):
    assert image_sizes.batch_size(given, Facts(train=images)) == expected


@pytest.mark.parametrize(
    ("images", "batch_size", "head", "stored", "expected"),
    [
        (10_000, 64, "linear", "auto", 64),
        (3_200, 64, "linear", "auto", 64),  # 50 steps
        (3_199, 64, "linear", "auto", 63),
        (718, 64, "linear", "auto", 14),
        (718, 64, "fastai", "auto", 16),  # batch norm takes no smaller ones
        (250, 64, "linear", "auto", 5),
        (100, 64, "linear", "auto", 4),  # at least 4
        (100, 64, "fastai", "auto", 16),
        (100, 8, "fastai", "auto", 8),  # never more than batch_size
        (1_000, 2, "linear", "auto", 2),
        (100_000, 512, "linear", "auto", 512),
        (3, 64, "linear", "auto", 3),  # all images
        (10, 64, "fastai", "auto", 10),
        (None, 64, "linear", "auto", 64),  # not known yet
        (None, "auto", "linear", "auto", 64),
        (718, "auto", "linear", "auto", 14),
        (1_164, "auto", "linear", "auto", 16),  # never more than batch_size
        (10_000, "auto", "linear", "auto", 64),
        (718, "auto", "linear", 32, 32),
        (718, 64, "linear", 32, 32),
        (718, 64, "fastai", 2, 2),  # typed: as typed
        (718, 64, "linear", 128, 128),
        (20, 64, "linear", 32, 20),
        (None, 64, "linear", 32, 32),
    ],
)
def test_batch_on_stored_activations(images, batch_size, head, stored, expected):
    settings = settings_of(f"head={head}")
    settings.batch_size, settings.stored_batch = batch_size, stored
    assert image_sizes.stored_batch(settings, Facts(train=images)) == expected


@pytest.mark.parametrize(("most", "expected"), [(None, 64), (100, 64), (64, 64), (32, 32), (1, 1)])
def test_batch_size_fits_into_memory(most, expected):
    assert image_sizes.batch_size("auto", Facts(train=5_000, most_batch=most)) == expected
    assert image_sizes.batch_size(48, Facts(train=5_000, most_batch=most)) == 48  # typed: as typed


def test_an_epoch_has_fifty_steps_where_the_images_allow():
    for images in range(800, 5_000):
        batch = image_sizes.batch_size("auto", Facts(train=images))
        assert 50 <= image_sizes.steps_per_epoch(images, batch) <= 75 or batch == 64


@pytest.mark.parametrize(("batch_size", "most"), [(64, 63), ("auto", 75)])
def test_an_epoch_on_stored_activations_has_fifty_steps_where_the_images_allow(batch_size, most):
    settings = settings_of()
    settings.batch_size = batch_size
    for images in range(200, 5_000):
        batch = image_sizes.stored_batch(settings, Facts(train=images))
        assert 50 <= image_sizes.steps_per_epoch(images, batch) <= most or batch == 64


def test_a_grown_batch_keeps_within_its_bounds():
    for images in (100, 718, 2_000, 50_000):
        for batch in (1, 8, 64, 100):
            for size in range(8, 225, 8):
                grown = image_sizes.batch_size_at(size, 224, batch, images)
                assert batch <= grown <= 4 * batch
                assert grown * size**2 <= batch * 224**2 or grown == batch
                assert grown == batch or images // grown >= 20


@pytest.mark.parametrize(
    ("images", "batch", "expected"),
    [
        (718, 64, 12),
        (64, 64, 1),
        (65, 64, 1),
        (66, 64, 2),
        (129, 64, 2),
        (128, 64, 2),
        (1, 64, 1),
        (3, 1, 3),
        (5, 2, 2),
    ],
)
def test_steps_of(images, batch, expected):
    assert image_sizes.steps_per_epoch(images, batch) == expected
