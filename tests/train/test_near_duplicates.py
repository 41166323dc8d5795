"""Near duplicates: re-encoded, resized or cropped copies are found, images that merely look alike are not."""

import csv
import io

import cv2
import numpy as np
import pytest
import torch
from brief import CONFIG, FIND, trained, untracked
from PIL import Image

from thaw.config import paths
from thaw.config.job_request import JobRequest
from thaw.train import fingerprint, near_duplicates, stages

SHORT = ("checklist=head_only", "epochs=1", *FIND, "threads=1", "wandb=disabled")


def scene(number):
    """Draw blobs and clouds of many scales, uint8 [96, 128, 3]."""
    rng = np.random.default_rng(number)
    image = np.full((96, 128, 3), 128, np.float32)
    for octave in range(5):
        grid = rng.normal(0, 60 / (octave + 1) ** 0.7, (3 * 2**octave, 4 * 2**octave, 3)).astype(np.float32)
        image += cv2.resize(grid, (128, 96), interpolation=cv2.INTER_CUBIC)
    for _ in range(5):
        at, colour = rng.integers(0, 96, 2), rng.uniform(0, 255, 3)
        cv2.circle(image, at.tolist(), int(rng.integers(6, 30)), colour.tolist(), -1)
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


COPIES = {
    "quality": lambda p: jpeg(p, 60),
    "smaller": lambda p: jpeg(p.resize((96, 72), Image.Resampling.BICUBIC), 90),
    "cropped": lambda p: jpeg(p.crop((2, 2, 126, 94)), 90),
}


def test_a_duplicate_is_much_nearer_than_the_other_neighbours():
    rng = torch.Generator().manual_seed(0)
    train_, valid = torch.randn(3000, 32, generator=rng), torch.randn(1500, 32, generator=rng)
    assert near_duplicates.find_near_duplicates(train_, valid) == []
    valid[1400] = 3 * train_[77] + 0.05 * torch.randn(32, generator=rng)
    valid[5] = train_[8]
    found = near_duplicates.find_near_duplicates(train_, valid)
    assert [pair[:2] for pair in found] == [(8, 5), (77, 1400)]
    assert found[0][2] == pytest.approx(1, abs=1e-6) and 0.99 < found[1][2] < 1


@pytest.mark.parametrize("spread", [1.0, 0.03, 0.001])
def test_images_that_all_look_alike_are_no_duplicates(spread):
    rng = torch.Generator().manual_seed(0)
    train_, valid = (1 + spread * torch.randn(n, 16, generator=rng) for n in (2000, 500))
    assert len(near_duplicates.find_near_duplicates(train_, valid)) <= 1, "at most by chance"
    assert near_duplicates.find_near_duplicates(torch.ones(100, 8), torch.ones(10, 8)) == []


def test_too_few_images_have_no_duplicates():
    assert near_duplicates.find_near_duplicates(torch.eye(19), torch.eye(19)) == []


@pytest.fixture
def run(compose, tmp_path, monkeypatch):
    """Return run("data.root=...", ...) -> (folder, result)."""
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    folder = tmp_path / "run"
    return lambda *overrides: (folder, trained(compose(*SHORT, *overrides), folder, *overrides))


def test_copies_of_training_images_are_listed_shown_and_warned_about(run, compose, tmp_path, capsys, monkeypatch):
    for name, start in (("a", 0), ("b", 1000)):
        for split, n in (("train", 30), ("valid", 12)):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(n):
                data = jpeg(scene(start + i + 500 * (split == "valid")), 95)
                (tmp_path / "photos" / split / name / f"{i:02}.jpg").write_bytes(data)
        for i, (kind, copied) in enumerate(COPIES.items()):
            (tmp_path / "photos/valid" / name / f"{kind}.jpg").write_bytes(copied(scene(start + i)))
    (tmp_path / "photos/valid/a/same.jpg").write_bytes((tmp_path / "photos/train/a/20.jpg").read_bytes())
    for name, start in (("a", 7), ("b", 1500)):  # copies of a training and of a validation image
        (tmp_path / "photos/test" / name).mkdir(parents=True)
        (tmp_path / "photos/test" / name / "again.jpg").write_bytes(COPIES["smaller"](scene(start)))
    data = (f"data.root={tmp_path}/photos", "backbone=tiny", "augment=none", "size=64")
    folder, result = run(*data)
    with (folder / "leaks.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "duplicate", "splits", "similarity"]
    assert rows[0] == ["train/a/20.jpg", "valid/a/same.jpg", "train/valid", "equal"]
    expected = {
        (f"train/{c}/0{i}.jpg", f"valid/{c}/{kind}.jpg", "train/valid") for c in "ab" for i, kind in enumerate(COPIES)
    }
    expected |= {("train/a/07.jpg", "test/a/again.jpg", "train/test")}
    expected |= {("valid/b/00.jpg", "test/b/again.jpg", "valid/test")}
    assert {tuple(row[:3]) for row in rows[1:]} == expected
    assert all(0.9 < float(row[3]) < 1 for row in rows[1:])
    assert (result["equal_duplicates"], result["near_duplicates"]) == (1, 8)
    said = [line for line in capsys.readouterr().out.splitlines() if "near duplicates" in line]
    assert len(said) == 1 and said[0].startswith(
        "warning: possible near duplicates of images in other splits: 6 of 31 validation and 2 of 2 test images"
    )
    warnings = [line for line in result["warnings"] if "no better than" not in line]
    assert len(warnings) == 2 and warnings[1] == said[0]
    page = (folder / "report.html").read_text()
    assert (
        "valid/a/cropped.jpg" in page
        and 'href="leaks.csv"' in page
        and warnings[1].removeprefix("warning: ")[:40] in page
    )
    assert Image.open(folder / "leaks.png").width > 800
    (folder / "status.json").write_text("{}")
    settings = compose(*SHORT, *data)
    request = JobRequest(folder, [], {}, CONFIG, CONFIG)
    second = stages.train_job(settings, request, untracked(folder), fingerprint.fingerprint(settings))
    said = capsys.readouterr().out.splitlines()
    assert second is None and said[:-1] == result["warnings"] and said[-1].startswith("already done")
    monkeypatch.delattr(near_duplicates, "find_near_duplicates")  # another run with the same images recalls them
    again = trained(compose(*SHORT, *data, "lr_factor=0.5"), tmp_path / "again", "lr_factor=0.5")
    assert (tmp_path / "again/leaks.csv").read_text() == (folder / "leaks.csv").read_text()
    assert again["warnings"][:2] == result["warnings"][:2]


@pytest.mark.parametrize(
    ("found", "valid"),
    [([0, 2, 0.5], True), ([0, 3, 0.5], False), ([-1, 2, 0.5], False), ([0, 2], False), ([0, 2, None], False),
     ([0, 1.0, 0.5], False), ("abc", False), (None, False)],
)  # fmt: skip
def test_damaged_pairs_in_the_store_are_searched_for_again(found, valid):
    assert near_duplicates.is_pair(3, found) == valid


def test_the_digits_have_no_duplicates(run):
    folder, result = run()
    assert result["near_duplicates"] == 0 and not (folder / "leaks.csv").exists()


def test_images_that_do_not_fit_into_memory_are_not_compared(run, monkeypatch, capsys):
    def near(*sides):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(near_duplicates, "find_near_duplicates", near)
    _, result = run("checklist=head_only")
    assert "near_duplicates" not in result and "near duplicates are not searched for" in capsys.readouterr().out
