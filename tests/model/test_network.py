"""Layer groups, freezing and sizes of timm's families."""

import math

import pytest
import timm
import torch
from torch import nn

from thaw.config.schema import Backbone, BackboneFacts, Head
from thaw.model import freezing, heads
from thaw.model.device import Device
from thaw.model.layer_groups import layer_names, split_into_groups
from thaw.model.network import Network, check_body_and_head, create_network, model_facts
from thaw.runtime.errors import UserError

CPU = Device(torch.device("cpu"), torch.float32, 1)
FAMILIES = {  # name: layer ids by timm's group_matcher(coarse=False), as ours counts them
    "test_resnet": 6,
    "test_convnext": 11,
    "test_vit": 8,
    "swin_tiny_patch4_window7_224": 14,
    "test_efficientnet": 7,
    "densenet121": 60,
    "regnetx_002": 15,
    "mobilenetv3_small_050": 14,
    "vgg11": 9,
    "mixer_s32_224": 10,
    "test_nfnet": 6,
}


@pytest.fixture(scope="module")
def built():
    """Build every family once without weights, on the meta device, which is enough for layer groups."""
    with torch.device("meta"):
        return {name: timm.create_model(name, num_classes=5) for name in FAMILIES}


def network(name="test_resnet", **kwargs) -> Network:
    given = {"weights": "none", "drop": 0.0, "drop_path": 0.0, "facts": BackboneFacts()} | kwargs
    return create_network(Backbone(name=name, **given), 5, 0, CPU)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_split_covers_every_parameter_once_for_every_number_of_groups(built, name):
    net = built[name]
    ids = layer_names(net)
    everything = sorted(n for n, _ in net.named_parameters())
    head = heads.head_parameters(net) & set(everything)
    assert head and head <= set(ids[-1])
    for n in range(1, len(ids) + 1):
        ratios = tuple(10.0 ** (i - n + 1) for i in range(n))
        for how in ("equal", "head"):
            if how == "head" and n > len([i for i in ids if set(i) - head]) + 1:
                continue
            groups = split_into_groups(net, how, ratios)
            assert len(groups) == n
            assert all(group.names and group.parameters for group in groups)
            assert sorted(name for group in groups for name in group.names) == everything
            assert head <= set(groups[-1].names)
            assert [group.ratio for group in groups] == list(ratios)
        sizes = [len([i for i in ids if set(i) <= set(g.names)]) for g in split_into_groups(net, "equal", ratios)]
        assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)
    with pytest.raises(UserError, match=f"at most {len(ids)}"):
        split_into_groups(net, "equal", tuple([1.0] * (len(ids) + 1)))


@pytest.mark.parametrize("name", FAMILIES)
def test_fastai_split_is_early_body_late_body_head(built, name):
    net = built[name]
    early, late, head = split_into_groups(net, "fastai", (1 / 9, 1 / 3, 1.0))
    assert set(head.names) == heads.head_parameters(net)
    assert early.names and late.names and not set(early.names) & set(late.names)
    with pytest.raises(UserError, match="three"):
        split_into_groups(net, "fastai", (0.1, 1.0))


@pytest.mark.parametrize("name", FAMILIES)
def test_layer_decay_is_one_group_a_layer_id(built, name):
    net = built[name]
    groups = split_into_groups(net, "layer_decay", None, 0.5)
    assert len(groups) == FAMILIES[name]
    assert [g.ratio for g in groups] == [0.5 ** (len(groups) - 1 - i) for i in range(len(groups))]


def test_groups_follow_timms_order_of_layers():
    net = timm.create_model("resnet18", num_classes=5)
    first, second, last = split_into_groups(net, "equal", (1 / 9, 1 / 3, 1.0))
    assert first.names[0] == "conv1.weight" and "layer1.1.bn2.bias" in first.names
    assert second.names[0] == "layer2.1.conv1.weight"
    assert last.names[-1] == "fc.bias"


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_frozen_is_eval_mode_and_no_gradients(bn):
    net = network()
    freezing.set_trainable(net, "head", bn)
    assert [n for n, p in net.named_parameters() if p.requires_grad] == ["model.fc.weight", "model.fc.bias"]
    assert [m for m in net.modules() if m.training] == [net.head]
    before = {n: b.clone() for n, b in net.named_buffers()}
    net(torch.randint(0, 255, (4, 32, 32, 3), dtype=torch.uint8)).sum().backward()
    assert all(torch.equal(b, before[n]) for n, b in net.named_buffers())
    freezing.set_trainable(net, "all", bn)
    assert all(p.requires_grad for p in net.parameters())
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(m.training == (bn == "train") for m in norms)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "test_efficientnet", "test_mambaout"])
def test_head_on_features_is_what_timm_computes(name):
    net = network(name).eval()
    x = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    images = (
        x.permute(0, 3, 1, 2) / 255 - torch.tensor(net.model.pretrained_cfg["mean"]).view(1, 3, 1, 1)
    ) / torch.tensor(net.model.pretrained_cfg["std"]).view(1, 3, 1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(net(x), net.model(images), atol=1e-4, rtol=1e-4)
        assert torch.equal(net(net.features(x)), net(x))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "dla46_c"])
def test_a_model_of_backbone_and_head_is_accepted(name):
    net = network(name)
    check_body_and_head(net, 64 if name == "dla46_c" else 160)
    if name == "dla46_c":  # its classifier is a convolution
        images = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
        assert torch.allclose(net(images), net.model(net.normalised(images)), atol=1e-5)
        dla = Backbone("dla46_c", "none", 0.0, 0.0, BackboneFacts())
        with pytest.raises(UserError, match="head=fastai: cannot replace the Conv2d classifier"):
            create_network(dla, 5, 0, CPU, Head("fastai", 8, [0.1, 0.2]))


def test_a_model_with_more_than_backbone_and_head_is_refused(monkeypatch):
    net, whole = network(), timm.models.ResNet.forward
    monkeypatch.setattr(timm.models.ResNet, "forward", lambda self, x: whole(self, x) + 0.1)  # VOLO adds a second head
    with pytest.raises(UserError, match="more than backbone and head"):
        check_body_and_head(net, 160)
    with pytest.raises(UserError, match="no single classifier"):
        network("crossvit_tiny_240")


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_nfnet", "test_mambaout", "dla46_c"]
)
def test_a_linear_head_starts_at_zero_in_every_family(name):
    net = network(name)
    assert all(not parameter.any() for parameter in net.head.parameters())
    size = 64 if name != "test_vit" else 160
    logits = net(torch.randint(0, 255, (4, size, size, 3), dtype=torch.uint8))
    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 4]))
    assert loss.item() == pytest.approx(math.log(5), abs=1e-6)
    loss.backward()
    assert net.head.weight.grad.abs().sum() > 0, "its first step moves it"


def test_the_seed_draws_a_backbone_without_weights_and_fastais_head():
    def made(seed, kind="linear", weights="none"):
        backbone = Backbone("test_resnet", weights, 0.0, 0.0, BackboneFacts())
        head = Head("fastai", 8, [0.1, 0.2]) if kind == "fastai" else heads.LINEAR
        return create_network(backbone, 5, seed, CPU, head).state_dict()

    def differ(a, b):
        return {name for name in a if not torch.equal(a[name], b[name])}

    assert differ(made(0), made(0)) == set()
    assert "model.conv1.0.weight" in differ(made(0), made(1))
    tiny = "conf/backbone/tiny.safetensors"
    assert differ(made(0, weights=tiny), made(1, weights=tiny)) == set(), "the same network for all seeds"
    assert differ(made(0, "fastai", tiny), made(1, "fastai", tiny)) == {"model.fc.2.weight", "model.fc.6.weight"}


def test_only_the_last_layer_of_a_classifier_is_zero():
    """A preceding norm at zero, or two layers at zero, would never learn."""
    net = timm.create_model("test_resnet", num_classes=5)
    net.fc = nn.Sequential(nn.BatchNorm1d(net.fc.in_features), nn.Linear(net.fc.in_features, 7), nn.Linear(7, 5))
    heads.replace_head(net, heads.LINEAR, 5)
    assert [bool(layer.weight.any()) for layer in net.fc] == [True, True, False]


def test_the_head_is_new_even_if_the_weights_have_as_many_classes(tmp_path):
    timm.models.save_for_hf(timm.create_model("test_resnet", num_classes=5), tmp_path, safe_serialization=True)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).state_dict()
    backbone = Backbone(f"local-dir:{tmp_path}", "pretrained", 0.0, 0.0, BackboneFacts())
    first, again, other = (create_network(backbone, 5, seed, CPU) for seed in (0, 0, 1))
    assert theirs["fc.weight"].any()
    assert not any(made.head.weight.any() for made in (first, again, other))
    assert all(torch.equal(value, theirs[name]) for name, value in freezing.frozen_weights(first))


def test_transformers_keep_their_position_parameter_at_another_size():
    net = network("test_vit")
    position = net.model.pos_embed
    net(torch.zeros(1, 96, 96, 3, dtype=torch.uint8))
    assert net.model.pos_embed is position
    assert model_facts(net.model)["multiple"] == 16


def refusal(name="test_resnet", **kwargs) -> UserError:
    with pytest.raises(UserError) as caught:
        network(name, **kwargs)
    return caught.value


def test_unknown_names_are_refused_with_the_nearest_ones():
    assert refusal("resnet19").code == 2
    assert "resnet18" in refusal("resnet19").line
    assert "a1_in1k" in refusal("resnet50.a1_in2k").line


def test_weights_that_cannot_be_fetched_or_do_not_fit(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    error = refusal("resnet18", weights="pretrained")
    assert error.code == 5 and "no network" in error.line
    assert refusal(weights=str(tmp_path / "no.safetensors")).code == 2
    (tmp_path / "x.pth").write_bytes(b"pickle")
    assert refusal(weights=str(tmp_path / "x.pth")).code == 6
    (tmp_path / "x.safetensors").write_bytes(b"no such format")
    assert refusal(weights=str(tmp_path / "x.safetensors")).code == 6
    other = timm.create_model("test_efficientnet").state_dict()
    save_file(other, tmp_path / "other.safetensors")
    assert "another backbone" in refusal(weights=str(tmp_path / "other.safetensors")).line
    own = timm.create_model("test_resnet").state_dict()
    own["conv1.0.weight"] = torch.full_like(own["conv1.0.weight"], float("nan"))
    save_file(own, tmp_path / "nan.safetensors")
    assert "not finite" in refusal(weights=str(tmp_path / "nan.safetensors")).line
