"""Stored images and images decoded again: equal bits, within a budget, no larger than their files, in flat memory."""

import gc
import json
import multiprocessing
import os
import signal
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from images import data, image, put

from thaw.config.schema import Augment
from thaw.data import batches, dataset, pixels
from thaw.data.augment import view
from thaw.data.batches import BatchKey, Views
from thaw.data.decode_cache import DecodeCache
from thaw.data.pixels import budget_note, load_pixels, on_the_fly
from thaw.data.resize import fit_side, shrink
from thaw.runtime.errors import UserError
from thaw.store.store import Store

SIDE = 24
AUGMENT = Augment("random", [0.3, 1.0], {"HorizontalFlip": {"p": 0.5}}, 0.0, 0.0)
SIZES = [(60, 40), (16, 12), (24, 24), (9, 30), (200, 30), (25, 400)]  # (width, height): large, small, long


def bar(items, total, label):
    return items


@pytest.fixture
def folder(tmp_path):
    for split, n in (("train", 6), ("valid", 2), ("test", 2)):
        for name in "ab":
            for i in range(n):
                size = SIZES[i % len(SIZES)]
                put(tmp_path / "photos" / split / name / f"{i}.jpg", image(hash((split, name, i)) % 999, "JPEG", size))
    return tmp_path / "photos"


@pytest.fixture
def photos(folder):
    return dataset.load_dataset(data(folder), SIDE)


def kept_files(store):
    return sum(file.stat().st_size for file in store.root.rglob("pixels.u8"))


@pytest.mark.parametrize("budget", [0, 5_000, 15_000, 1e9])
def test_stored_and_decoded_images_have_the_same_bits(photos, tmp_path, budget):
    store = Store(tmp_path / "store")
    made, plain = load_pixels(photos, SIDE, budget, store, bar), on_the_fly(photos, SIDE)
    assert kept_files(store) <= budget
    for row in range(len(photos.table)):
        assert np.array_equal(made[row], fit_side(photos.image(row, SIDE), SIDE))
        assert np.array_equal(made[row], plain[row])
    labels = photos.table.labels
    one, other = (
        Views(held, labels, 1.0, SIDE, AUGMENT, (0, "full"))[BatchKey(1, SIDE, np.arange(6))] for held in (made, plain)
    )
    assert torch.equal(one[0], other[0])


@pytest.mark.parametrize(
    ("side", "budget", "decodes_again"), [(SIDE, 1e9, "none"), (SIDE, 5_000, "some"), (30, 1e9, "all")]
)
def test_images_that_the_scan_decoded_are_not_decoded_again(folder, photos, tmp_path, side, budget, decodes_again):
    store, kept, again = Store(tmp_path / "store"), DecodeCache(tmp_path, side, budget), []
    dataset.load_dataset(data(folder), SIDE, decode_cache=kept)
    counted = replace(photos, image=lambda row, side: again.append(row) or photos.image(row, SIDE))
    made = load_pixels(counted, SIDE, 1e9, store, bar, kept)
    n = len(set(photos.table.hashes))
    assert {"none": not again, "some": 0 < len(again) < n, "all": len(again) == n}[decodes_again]
    for row in range(len(photos.table)):
        assert np.array_equal(made[row], fit_side(photos.image(row, SIDE), SIDE))


def test_a_decode_cache_that_cannot_write_keeps_nothing(folder, tmp_path):
    (tmp_path / "file").write_text("no folder")
    kept = DecodeCache(tmp_path / "file", SIDE, 1e9)
    dataset.load_dataset(data(folder), SIDE, decode_cache=kept)
    assert not kept.at


def test_a_small_budget_leaves_out_the_test_images_first(photos, tmp_path, monkeypatch):
    needed = sum(shrink(photos.image(row, SIDE), SIDE).nbytes for row in photos.rows(0)) + 5_000
    made = load_pixels(photos, SIDE, needed, Store(tmp_path / "b"), bar)
    asked = []
    monkeypatch.setattr(made, "decode", lambda row, side: asked.append(row) or photos.image(row, SIDE))
    for row in range(len(photos.table)):
        made[row]
    assert asked and set(asked) & set(photos.rows(2).tolist())
    assert not set(asked) & set(photos.rows(0).tolist())
    assert budget_note(photos.table, SIDE, 1e9) is None
    assert "decoded again" in budget_note(photos.table, SIDE, needed)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_no_image_is_kept_larger_than_in_its_file(width, height):
    whole = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    kept = shrink(whole, SIDE)
    assert min(kept.shape[:2]) == min(SIDE, width, height)
    assert np.array_equal(fit_side(kept, SIDE), fit_side(whole, SIDE))
    assert np.array_equal(
        view(20, 20 / SIDE)(fit_side(kept, SIDE), None), view(20, 20 / SIDE)(fit_side(whole, SIDE), None)
    )


def test_drawn_images_beyond_the_budget_are_drawn_again(compose, tmp_path):
    shapes = dataset.load_dataset(compose("data=shapes", "data.limit=40").data, 32)
    held, again = (load_pixels(shapes, 32, budget, Store(tmp_path), bar) for budget in (1e9, 90_000))
    assert len(held.kept) == 40 and 0 < len(again.kept) < 40
    assert all(np.array_equal(held[row], again[row]) for row in range(40))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_changes_during_the_run_is_named(folder, photos, workers):
    views = Views(on_the_fly(photos, SIDE), photos.table.labels, 1.0, SIDE)
    path = photos.table.paths[0]
    (folder / path).write_bytes(b"no image any more")
    with pytest.raises(UserError, match="changed after the scan") as caught:
        list(batches.loader(views, [BatchKey(0, SIDE, np.array([1])), BatchKey(0, SIDE, np.array([0]))], workers))
    assert caught.value.code == 3 and path in caught.value.line


class Dies:
    def __getitem__(self, row):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_loader_process_that_dies_is_a_user_error():
    views = Views(Dies(), np.zeros(4, np.int64), 1.0, 8)
    with pytest.raises(UserError, match="loader process") as caught:
        list(batches.loader(views, [BatchKey(0, 8, np.array([row])) for row in range(4)], 2))
    assert caught.value.code == 5 and "data.workers=1" in caught.value.line


class Stumbles:
    def __getitem__(self, row):
        raise TypeError("a bug of ours")


def test_an_error_ends_the_loader_processes():
    """Otherwise the run would wait for them at its end, since they ignore signals."""
    views = Views(Stumbles(), np.zeros(4, np.int64), 1.0, 8)
    with pytest.raises(TypeError, match="a bug of ours") as caught:
        list(batches.loader(views, [BatchKey(0, 8, np.array([row])) for row in range(4)], 2))
    assert caught.value.__traceback__ and multiprocessing.active_children() == []


class Threads:
    """Images whose first pixel is the number of threads that OpenCV and torch use in the process that reads them."""

    def __getitem__(self, row):
        for _ in range(100):
            cv2.resize(np.zeros((1000, 1000, 3), np.uint8), (100, 100), interpolation=cv2.INTER_AREA)
        return np.full((8, 8, 3), 16 * cv2.getNumThreads() + torch.get_num_threads(), np.uint8)


def test_loader_processes_compute_with_one_thread():
    views = Views(Threads(), np.zeros(2, np.int64), 1.0, 8)
    for x, _ in batches.loader(views, [BatchKey(0, 8, np.array([row])) for row in range(2)], 2):
        assert int(x.max()) in (1, 17), "0 or 1 for OpenCV, 1 for torch"


@pytest.mark.parametrize("held", [True, False])
def test_memory_is_flat_over_many_epochs(photos, tmp_path, held):
    made = load_pixels(photos, SIDE, 1e9, Store(tmp_path / "s"), bar) if held else on_the_fly(photos, SIDE)
    rows, labels = np.arange(len(photos.table)), photos.table.labels
    views = Views(made, labels, 1.0, SIDE, AUGMENT, (0, "full"))

    def epochs(n):
        for epoch in range(n):
            for _ in batches.loader(views, [BatchKey(epoch, SIDE, part) for part in batches.cut_batches(rows, 8)], 0):
                pass
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early = epochs(10)
        late = epochs(60)
    finally:
        tracemalloc.stop()
    assert late - early < 20_000, "bytes; one epoch of these images is 60,000"


INDEXES = [  # the index of a file of 36 bytes, and whether it is valid
    ([["a", 0, 2, 3], ["b", 18, 3, 2]], True), ([], True), ([["a", 0, 2, 7]], False), ([["a", -18, 2, 3]], False),
    ([["a", 30, 2, 3]], False), ([["a", 0, 0, 3]], False), ([["a", 0, -2, -3]], False), ([["a", 0, 2]], False),
    ([[1, 0, 2, 3]], False), ([["a", 0.0, 2, 3]], False), ([["a", 10**30, 2, 3]], False), ([3], False), ({}, False),
    ("x", False), (None, False),
]  # fmt: skip


@pytest.mark.parametrize(("index", "good"), INDEXES)
def test_a_shard_with_an_invalid_index_is_at_fault(tmp_path, index, good):
    (tmp_path / "pixels.u8").write_bytes(bytes(36))
    (tmp_path / "index.json").write_text(json.dumps(index))
    assert (pixels.shard_fault(tmp_path) is None) == good
