"""The fingerprint of a command notices every change of the files it names and of the code."""

import os

import pytest

from thaw.config.schedulers import SCHEDULES
from thaw.data import file_state
from thaw.store import code_hash
from thaw.train import fingerprint


@pytest.fixture
def photos(tmp_path):
    """Create two class folders, one of them a link to a folder elsewhere, and a table of their images."""
    for place in ("photos/cats", "disk/dogs"):
        (tmp_path / place).mkdir(parents=True)
        for i in range(3):
            (tmp_path / place / f"{i}.png").write_bytes(b"x")
    (tmp_path / "photos/dogs").symlink_to(tmp_path / "disk/dogs")
    names = [f"photos/{label}/{i}.png" for label in ("cats", "dogs") for i in range(3)]
    (tmp_path / "table.csv").write_text("path,label\n" + "".join(f"{name},{name[7:11]}\n" for name in names))
    return tmp_path


@pytest.mark.parametrize("data", ["photos", "table.csv"])
@pytest.mark.parametrize("changed", ["photos/cats/1.png", "disk/dogs/2.png"])
def test_a_changed_image_changes_the_stamp(compose, photos, data, changed):
    settings = compose(f"data={'csv' if data.endswith('csv') else 'folder'}", f"data.root={photos / data}")
    before = fingerprint.fingerprint(settings)
    assert fingerprint.fingerprint(settings) == before
    (photos / changed).write_bytes(b"xy")
    assert fingerprint.fingerprint(settings) != before


def test_choices_of_equal_options_have_different_stamps(compose):
    schedulers = {fingerprint.fingerprint(compose(f"scheduler={shape}", "scheduler.warmup=0")) for shape in SCHEDULES}
    assert len(schedulers) == len(SCHEDULES)


def test_the_folder_of_a_table_s_images_is_not_walked(compose, photos, monkeypatch):
    settings = compose("data=csv", f"data.root={photos}/table.csv", f"data.images={photos}")
    monkeypatch.setattr(fingerprint.os, "walk", lambda path, **_: [(str(path), [], [])] if path.is_file() else 1 / 0)
    assert len(file_state.named_files(settings)) == 1 + 6


def test_changed_weights_of_a_local_backbone_change_the_stamp(compose, tmp_path):
    (tmp_path / "body").mkdir()
    (tmp_path / "body/model.safetensors").write_bytes(b"x")
    settings = compose("backbone=resnet18")
    settings.backbone.name = f"local-dir:{tmp_path}/body"
    before = fingerprint.fingerprint(settings)
    (tmp_path / "body/model.safetensors").write_bytes(b"xy")
    assert fingerprint.fingerprint(settings) != before


def test_a_cycle_of_links_is_walked_once(compose, photos):
    os.symlink(photos / "photos", photos / "photos/cats/round")
    assert len(file_state.folder_content(photos / "photos")) == 6


def test_changed_code_changes_the_stamp_unless_code_is_ignored(compose, monkeypatch, tmp_path):
    settings, ignoring = compose(), compose("store.code=ignore")
    before, ignored = fingerprint.fingerprint(settings), fingerprint.fingerprint(ignoring)
    (tmp_path / "split.py").write_text("share = 0.3")
    monkeypatch.setattr(code_hash, "PACKAGES", tmp_path)
    fingerprint.code_digest.cache_clear()
    assert fingerprint.fingerprint(settings) != before and fingerprint.fingerprint(ignoring) == ignored
    fingerprint.code_digest.cache_clear()
