"""Stored activations equal those of the live frozen backbone bit for bit, and are computed once per image."""

import numpy as np
import pytest
import torch

from thaw.config.optimizers import SGD
from thaw.config.schema import Backbone, BackboneFacts
from thaw.data import batches
from thaw.data.augment import view
from thaw.data.pixels import Pixels
from thaw.model import freezing
from thaw.model.device import Device
from thaw.model.layer_groups import head_group
from thaw.model.network import Network, create_network
from thaw.store.store import Store
from thaw.train import features, loop

SIZE = 64
LOOK = features.ImageView(SIZE, 1.0)


def network(name, dtype=torch.float32) -> Network:
    backbone = Backbone(name, "none", 0.0, 0.0, BackboneFacts())
    return create_network(backbone, 5, 0, Device(torch.device("cpu"), dtype, 1))


def images(n) -> Pixels:
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 255, (SIZE, SIZE + 8, 3), dtype=np.uint8) for _ in range(n)]
    names = [f"image {row}" for row in range(n)]
    return Pixels(names, dict(zip(names, drawn, strict=True)), SIZE)


def activations(net, pixels, rows, store, look=LOOK):
    return features.activations(net, pixels, np.array(rows), look, store)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_stored_activations_equal_the_live_frozen_backbone_bit_for_bit(name, dtype, tmp_path):
    net, pixels = network(name, dtype), images(features.images_per_pass(32))
    stored = activations(net, pixels, range(len(pixels)), Store(tmp_path))
    see = view(SIZE, 1.0)
    x = torch.from_numpy(np.stack([see(pixels[i], None) for i in range(len(pixels))]))
    freezing.set_trainable(net, "head", "train")
    live = net.features(x)
    assert stored.dtype == live.dtype and not live.requires_grad
    assert torch.equal(stored, live)
    assert torch.equal(net(stored), net(x)) and net(x).dtype == torch.float32


def test_an_image_is_computed_once_whatever_its_neighbours_and_its_row(tmp_path, monkeypatch):
    net, pixels, store = network("test_resnet"), images(7), Store(tmp_path)
    passed = []
    whole = features.compute_activations
    monkeypatch.setattr(
        features, "compute_activations", lambda n, p, rows, *rest: passed.append(list(rows)) or whole(n, p, rows, *rest)
    )
    first = activations(net, pixels, [0, 1, 2, 3], store)
    again = activations(net, pixels, [3, 0], store)
    more = activations(net, pixels, [6, 2, 5, 0], store)
    assert passed == [[0, 1, 2, 3], [6, 5]]
    assert torch.equal(again, first[[3, 0]]) and torch.equal(more[[1, 3]], first[[2, 0]])
    alone = whole(net, pixels, [6], LOOK, "")
    assert torch.equal(alone[0], more[0]), "an image's activations do not depend on the others in its batch"


def test_equal_images_are_computed_once(tmp_path, monkeypatch):
    net, pixels = network("test_resnet"), images(3)
    pixels.names = ["image 0", "image 1", "image 0"]
    passed = []
    whole = features.compute_activations
    monkeypatch.setattr(
        features, "compute_activations", lambda n, p, rows, *rest: passed.append(len(rows)) or whole(n, p, rows, *rest)
    )
    out = activations(net, pixels, [0, 1, 2], Store(tmp_path))
    assert passed == [2] and torch.equal(out[0], out[2])


@pytest.mark.parametrize("change", ["body", "size", "batch norm"])
def test_whatever_changes_activations_changes_their_key(tmp_path, change):
    net, pixels, store = network("test_resnet"), images(2), Store(tmp_path)
    before = activations(net, pixels, [0, 1], store)
    if change == "body":
        with torch.no_grad():
            next(net.model.parameters()).mul_(1.01)
        after = activations(net, pixels, [0, 1], store)
    elif change == "batch norm":
        net.model.bn1.running_mean.add_(0.1)
        after = activations(net, pixels, [0, 1], store)
    else:
        after = activations(net, pixels, [0, 1], store, features.ImageView(32, 1.0))
    assert not torch.equal(before, after)


def test_training_the_head_changes_no_key(tmp_path):
    net = network("test_resnet")
    before = features.backbone_hash(net)
    with torch.no_grad():
        net.head.weight.add_(1)
    assert features.backbone_hash(net) == before
    net.model.pretrained_cfg = {**net.model.pretrained_cfg, "mean": (0.4, 0.4, 0.4)}
    assert features.backbone_hash(net) != before, "the same weights get differently normalised inputs"


def test_activations_of_another_process_save_their_share_of_its_seconds(tmp_path):
    net, pixels, store = network("test_resnet"), images(4), Store(tmp_path)

    def saved(rows, store):
        return features.activations(net, pixels, np.array(rows), LOOK, store)[1]

    first, again = saved([0, 1], store), saved([0, 1], store)
    assert first == again == {}, "this process computed them"
    whole, half = saved([0, 1], Store(tmp_path)), saved([2, 1], Store(tmp_path))
    assert whole.keys() == half.keys() and list(half.values()) == [next(iter(whole.values())) / 2] != [0]


@pytest.mark.parametrize(("size", "images"), [(32, 64), (224, 64), (256, 48), (299, 32), (512, 12), (4000, 4)])
def test_large_images_have_a_smaller_batch(size, images):
    assert features.images_per_pass(size) == images


def test_a_damaged_shard_is_recomputed_and_reported(tmp_path):
    said = []
    net, pixels = network("test_resnet"), images(3)
    first = activations(net, pixels, [0, 1, 2], Store(tmp_path))
    file = next(tmp_path.glob("activations/*/*/features.safetensors"))
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    second = activations(net, pixels, [0, 1, 2], Store(tmp_path, said.append))
    assert torch.equal(first, second)
    assert len(said) == 1 and "damaged" in said[0]


def test_an_epoch_on_stored_activations_never_runs_the_backbone(tmp_path, monkeypatch):
    net, pixels = network("test_resnet"), images(8)
    x = activations(net, pixels, range(8), Store(tmp_path))
    monkeypatch.setattr(net.model, "forward_features", None)
    freezing.set_trainable(net, "head", "train")
    optimizer = loop.make_optimizer(
        net, head_group(net.model), SGD(weight_decay=0.0, momentum=0.9, nesterov=False, clip=None)
    )
    order = batches.cut_batches(np.arange(8), 4)
    stored = batches.stored_batches(x, torch.arange(8) % 5, order)
    steps = loop.train(net, stored, optimizer, loop.StepOptions(lr=0.1))
    assert len(list(steps)) == 2


def test_shards_finished_before_a_stop_are_kept(tmp_path, monkeypatch):
    net, pixels, whole = network("test_resnet"), images(7), features.compute_activations
    at_once = activations(net, pixels, range(7), Store(tmp_path / "whole"))
    monkeypatch.setattr(features, "SHARD_ROWS", 3)
    passed = []

    def stops(n, p, rows, *rest):
        passed.append(list(rows))
        if len(passed) == 2:
            raise KeyboardInterrupt
        return whole(n, p, rows, *rest)

    monkeypatch.setattr(features, "compute_activations", stops)
    with pytest.raises(KeyboardInterrupt):
        activations(net, pixels, range(7), Store(tmp_path / "parts"))
    assert torch.equal(activations(net, pixels, range(7), Store(tmp_path / "parts")), at_once)
    assert passed == [[0, 1, 2], [3, 4, 5], [3, 4, 5], [6]]
