"""timm's families: trained at three sizes, saved, and loaded by timm with the same probabilities; or refused."""

import csv
import json

import numpy as np
import pytest
import timm
import torch
from brief import skip_plots, trained

from thaw.config import paths
from thaw.data.dataset import load_dataset
from thaw.model.network import open_classifier
from thaw.runtime.errors import UserError

SMALL = {"test_resnet": 64, "test_vit": 64}  # the final size, after half and three quarters of it
FAMILIES = {
    "resnet10t": 128,
    "convnextv2_atto": 128,
    "efficientnet_b0": 128,
    "mobilenetv4_conv_small_035": 128,
    "regnetx_002": 128,
    "vit_tiny_patch16_224": 128,
    "eva02_tiny_patch14_224": 112,
    "swin_tiny_patch4_window7_224": 128,
    "edgenext_xx_small": 128,
    "mobilevit_xxs": 128,
    "densenet121": 128,
    "vit_tiny_r_s16_p8_224": 128,
}
FIXED = {  # families that are refused, and a part of the message
    "mixer_s32_224": "does not accept this size",
    "beit_base_patch16_224": "does not accept this size",
    "xcit_nano_12_p16_224": "does not accept this size",
    "cait_xxs24_224": "does not accept this size",
    "levit_128s": "no single classifier",
    "pit_ti_224": "how its layers are ordered",
}
ONE_STEP = ("data=shapes", "data.limit=40", "batch_size=32", "checklist=from_scratch", "~checklist.full.until")
ONE_STEP += ("lr=1e-3", "scheduler=one_cycle", "epochs=3", "resize=staircase", "precision=float32", "wandb=disabled")


@pytest.fixture
def run(compose, tmp_path, monkeypatch):
    """Return run("backbone=...", ...) -> (folder, settings, result)."""
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    skip_plots(monkeypatch)

    def ran(*overrides):
        settings, folder = compose(*overrides), tmp_path / "run"
        return folder, settings, trained(settings, folder, *overrides)

    return ran


def timms(folder):
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def sizes_are_trained_and_timm_says_the_same(run, name, size, *more, opened=timms):
    """Train a family, check its sizes, and compare the probabilities of the opened network with the run's."""
    folder, settings, _ = run(f"backbone={name}", "backbone.weights=none", f"size={size}", *ONE_STEP, *more)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["image_size"] for row in rows if "valid/loss" in row] == [size // 2, size * 3 // 4, size]
    with (folder / "valid_predictions.csv").open() as file:
        said = [[float(x) for x in row[3:]] for row in list(csv.reader(file))[1:]]
    source = load_dataset(settings.data, size)
    images = np.stack([source.image(row, 1) for row in source.rows(1)])
    model = opened(folder)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        p = model((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std).softmax(1)
    torch.testing.assert_close(p, torch.tensor(said), atol=2e-5, rtol=1e-3)
    return folder


@pytest.mark.parametrize("name", SMALL)
def test_two_families(run, name):
    sizes_are_trained_and_timm_says_the_same(run, name, SMALL[name])


def test_fastais_head_is_opened_by_thaw_and_refused_by_timm(run):
    folder = sizes_are_trained_and_timm_says_the_same(run, "test_resnet", 64, "head=fastai", opened=open_classifier)
    config = json.loads((folder / "config.json").read_text())
    assert config["head"] == {"kind": "fastai", "hidden": 512, "drop": [0.25, 0.5]}
    with pytest.raises(RuntimeError, match=r"fc\.0\.weight"):
        timms(folder)


HEADS = ("resnet18", "densenet121", "efficientnet_b0", "mobilenetv4_conv_small_035", "regnetx_002")


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_fastais_head_on_families(run, name):
    sizes_are_trained_and_timm_says_the_same(run, name, 128, "head=fastai", opened=open_classifier)


@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_families_that_cannot_have_fastais_head(run, name):
    assert "use head=linear" in refused(run, name, "head=fastai")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_families(run, name):
    sizes_are_trained_and_timm_says_the_same(run, name, FAMILIES[name])


def refused(run, name, *overrides):
    with pytest.raises(UserError) as caught:
        run(f"backbone={name}", "backbone.weights=none", *ONE_STEP, *overrides)
    assert caught.value.code == 2 and "\n" not in caught.value.line
    return caught.value.line


@pytest.mark.slow
@pytest.mark.parametrize("name", FIXED)
def test_families_of_fixed_size_or_without_layer_order_are_refused(run, name):
    assert FIXED[name] in refused(run, name, "size=128")


def test_the_message_names_a_scheduled_size_that_a_family_does_not_take(run):
    line = refused(run, "mixer_s32_224", "size=224")
    assert "resize.sizes=[0.5, 0.75, 1.0], 112 px: mixer_s32_224" in line and "its native size is 224" in line
