"""What is refused before images are read or torch is loaded, with the same message as in the run."""

import pytest
from composed import settings_of

from thaw.config.timm_names import has_known_weights
from thaw.model import device_checks
from thaw.runtime.errors import UserError
from thaw.train.preflight import check_ahead


def nothing(name: str) -> dict:
    """Recall no facts."""
    return {}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(device_checks, "listed_gpus", list)
    monkeypatch.setattr(device_checks, "torch_has_cuda", lambda: False)
    monkeypatch.setattr(device_checks.sys, "platform", "linux")


FOLDER = ("data=folder", "data.root=/no/where")
REFUSED = [  # overrides, a setting and its value, the exit code and the start of the message
    ((), "device", "gpu", 2, "device=gpu: must be auto, cpu, cuda, cuda:1 or mps"),
    ((), "device", "cuda:x", 2, "device=cuda:x: must be"),
    ((), "device", "cuda", 5, "device=cuda: no CUDA device here; use device=cpu"),
    ((), "device", "mps", 5, "device=mps: no Apple GPU here; use device=cpu"),
    ((), "precision", "tf32", 2, "precision=tf32: needs a CUDA GPU of capability 8.0 or higher, not cpu"),
    ((), "backbone.name", "resnet500", 2, "backbone=resnet500: no such network; did you mean resnet50"),
    ((), "backbone.name", "resnet50.xyz", 2, "backbone=resnet50.xyz: no such weights"),
    ((), "backbone.name", "local-dir:/no/where", 2, "backbone=local-dir:/no/where: this folder contains no network"),
    ((), "backbone.weights", "/no/where", 2, "backbone.weights=/no/where: no such file"),
    ((), "backbone.weights", __file__, 6, f"backbone.weights={__file__}: not a .safetensors file"),
    ((), "backbone.weights", "packaged", 2, "backbone.weights=packaged: only backbone=lite0"),
    ((), "init", "/no/where", 6, "init=/no/where: this folder contains no finished run"),
    ((), "checklist", {"a": {"do": "fit", "epochs": -1}}, 2, "checklist.a.epochs=-1: must be a whole number >= 1"),
    ((), "checklist", {"a": {"do": "fit", "max_cycles": 10**9}}, 2, "checklist.a.max_cycles=1000000000: must be bet"),
    ((), "checklist", {"a": {"do": "fit", "cycles": 65}}, 2, "checklist.a.cycles=65: must be between 1 and 64"),
    (
        (),
        "checklist",
        {"a": {"do": "fit", "cycles": 60, "cycle_mult": 9}},
        2,
        "checklist.a: cycles=60 with cycle_mult=9",
    ),
    ((), "checklist", {"a/../b": {"do": "fit"}}, 2, "checklist.a/../b: the name of a phase may only have"),
    (FOLDER, "data.root", "/no/where", 3, "data.root=/no/where: no such folder"),
    (FOLDER, "data.root", "~/no/where", 3, "data.root=~/no/where: no such folder"),
    (("data=csv", "data.root=/no.csv"), "data.root", "/no.csv", 3, "data.root=/no.csv: no such file"),
    (("data=csv", f"data.root={__file__}"), "data.images", "/no/where", 3, "data.images=/no/where: no such folder"),
    (("data=folder", "data.root=/"), "data.labels", "/no.csv", 3, "data.labels=/no.csv: no such file"),
    (("data=folder", "data.root=/"), "data.classes", "/no.csv", 3, "data.classes=/no.csv: no such file"),
    ((), "augment.transforms", {"Blurr": {}}, 2, "augment.transforms.Blurr: albumentations has no such transform"),
    ((), "augment.transforms", {"Blur": {"p": 2}}, 2, "augment.transforms.Blur.p=2: Input should be"),
    ((), "augment.transforms", {"Resize": {"height": 9, "width": 9}}, 2, "augment.transforms: end in 9x9 pixels"),
]


@pytest.mark.parametrize(("overrides", "key", "value", "code", "line"), REFUSED)
def test_settings_that_are_invalid_or_name_something_missing_are_refused(overrides, key, value, code, line):
    settings = settings_of(*overrides)
    group, _, last = key.rpartition(".")
    setattr(getattr(settings, group) if group else settings, last, value)
    with pytest.raises(UserError) as refused:
        check_ahead(settings, nothing)
    assert refused.value.code == code and refused.value.line.startswith(line)


def test_a_plan_may_ask_to_validate_on_all_images():
    """Whether enough images are left is checked later, together with the classes."""
    settings = settings_of("data.limit=2", "data.valid=0.9")
    check_ahead(settings, nothing)


def test_a_device_of_another_machine_need_not_exist_here():
    settings = settings_of()
    for settings.device in ("cuda", "mps", "cuda:3"):
        check_ahead(settings, nothing, here=False)
    settings.device = "gpu"
    with pytest.raises(UserError, match="device=gpu"):
        check_ahead(settings, nothing, here=False)


def test_a_listed_gpu_is_not_refused(monkeypatch):
    monkeypatch.setattr(device_checks, "listed_gpus", lambda: ["0", "1"])
    settings = settings_of()
    for settings.device in ("cuda", "cuda:1"):
        check_ahead(settings, nothing)
    settings.device = "cuda:2"
    with pytest.raises(UserError, match="this machine has 2 CUDA devices; use cuda:0 to cuda:1"):
        check_ahead(settings, nothing)


def test_names_of_timm_weights_are_found_in_its_source():
    names = ("resnet18", "resnet50.a1_in1k", "resnext50_32x4d.tv_in1k", "hf-hub:timm/x.y")
    assert all(map(has_known_weights, names)) and not has_known_weights("resnet50.xyz")
