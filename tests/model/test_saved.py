"""Network folders that anybody may have written: damaged ones are refused in one line, and no pickle is opened."""

import json
import os
import pickle

import predict
import pytest
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
from images import put
from safetensors.torch import load_file, save_file

from thaw.config.schema import Backbone, BackboneFacts, Head
from thaw.model import heads, hub
from thaw.model.device import Device
from thaw.model.network import build_model, create_network, open_classifier
from thaw.runtime import entry
from thaw.runtime.errors import UserError
from thaw.train import setup

CPU = Device(torch.device("cpu"), torch.float32, 1)
NAMES = ["cat", "dog", "owl"]


class Opened:
    """An object that creates a file when it is unpickled."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


@pytest.fixture
def folder(tmp_path):
    """Return a run's folder with its saved network."""
    model = timm.create_model("test_resnet", num_classes=3).eval()
    (tmp_path / "run").mkdir()
    size = {"input_size": (3, 32, 32), "crop_pct": 0.9}
    timm.models.save_for_hf(model, tmp_path / "run", {"label_names": NAMES}, safe_serialization=True, data_config=size)
    return tmp_path / "run"


def said(folder, **changes):
    """Change values of config.json; a name such as model_args__depth is an entry of a mapping in it."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for name, value in changes.items():
        holder, _, inner = name.rpartition("__")
        (config[holder] if holder else config)[inner] = value
    file.write_text(json.dumps(config))


def in_place(name, content):
    """Return a function that replaces a file of a folder by `content`: bytes, or a function that makes the file."""

    def put_there(folder):
        (folder / name).unlink()
        content(folder / name) if callable(content) else (folder / name).write_bytes(content)

    return put_there


def weights(change):
    """Return a function that applies `change` to the tensors of a folder's weights."""

    def changed(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return changed


def loop(path):
    path.symlink_to(path)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)


def cut(path):
    path.write_bytes((100).to_bytes(8, "little") + b'{"a":')


WAYS = {
    "no config": lambda f: (f / "config.json").unlink(),
    **{
        f"config {name}": in_place("config.json", content)
        for name, content in {
            "empty": b"", "binary": os.urandom(999), "not UTF-8": b'{"a": "\xff"}', "a list": b"[]", "null": b"null",
            "deep": b"[" * 200_000, "NaN": b'{"num_classes": NaN}', "a folder": lambda path: path.mkdir(),
            "a loop": loop, "huge": sparse, "a pipe": os.mkfifo,
        }.items()
    },
    **{
        f"weights {name}": in_place("model.safetensors", content)
        for name, content in {
            "missing": lambda path: None, "empty": b"", "cut": cut, "a folder": lambda path: path.mkdir(),
            "a loop": loop, "sparse": sparse, "a pipe": os.mkfifo,
            "a device": lambda path: path.symlink_to("/dev/zero"),
            "of another network": lambda path: save_file({"a": torch.zeros(1)}, path),
        }.items()
    },
    "weights of more classes": weights(lambda t: t.update({"fc.weight": torch.zeros(5, 96)})),
    "weights not finite": weights(lambda t: t["fc.bias"].fill_(float("nan"))),
    "weights of whole numbers": weights(lambda t: t.update({"fc.bias": torch.zeros(3, dtype=torch.int64)})),
    **{
        f"{key}={value!r}"[:60]: lambda f, key=key, value=value: said(f, **{key: value})
        for key, value in [
            ("architecture", 3), ("architecture", "hf-hub:timm/resnet18"), ("architecture", "local-dir:/etc"),
            ("architecture", "no_such"), ("architecture", "test_vit"), ("num_classes", -1), ("num_classes", 10**9),
            ("model_args", {"depth": 2000}), ("model_args", {"layers": [2000, 1, 1, 1]}),
            ("pretrained_cfg__std", [1e-40] * 3),
            ("num_classes", True), ("num_classes", "3"), ("num_classes", 5), ("label_names", NAMES[:2]),
            ("label_names", [1, 2, 3]), ("label_names", "cat"), ("label_names", None), ("label_names", [["a"]] * 3),
            ("label_names", {"0": "cat"}), ("head", 3), ("head", {"kind": "fastai"}),
            ("head", {"kind": "fastai", "hidden": 10**9, "drop": [0.1, 0.2]}),
            ("head", {"kind": "fastai", "hidden": 8, "drop": [0.1, "x"]}),
            ("head", {"kind": "fastai", "hidden": 8, "drop": [0.1, 0.2]}),
            ("model_args", []), ("pretrained_cfg", []), ("model_args__in_chans", 1), ("model_args__num_classes", 10**9),
            ("model_args__channels", [10**5] * 4), ("model_args__stem_width", -4), ("model_args__block", "os.system"),
            ("model_args__checkpoint_path", "x.bin"), ("model_args__pretrained", True), ("model_args__cache_dir", "x"),
            ("model_args__pretrained_cfg_overlay", {"url": "http://a"}), ("model_args__features_only", True),
            ("model_args__layers", {"a": 1}), ("model_args__no_such", 1), ("model_args__global_pool", ""),
            ("pretrained_cfg__mean", [0.5]), ("pretrained_cfg__std", [0.5, 0.5, 0]), ("pretrained_cfg__mean", "abc"),
            ("pretrained_cfg__mean", [10**400] * 3),
            ("pretrained_cfg__std", [1e999] * 3), ("pretrained_cfg__input_size", [3, -1, -1]),
            ("pretrained_cfg__input_size", [3, 10**9, 10**9]), ("pretrained_cfg__input_size", [1, 32, 32]),
            ("pretrained_cfg__input_size", 32), ("pretrained_cfg__input_size", [3, 1.5, 1.5]),
            ("pretrained_cfg__crop_pct", 0), ("pretrained_cfg__crop_pct", "1"), ("pretrained_cfg__crop_pct", 1e-9),
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_run_folder_is_refused_in_one_line(folder, monkeypatch, capsys, way):
    monkeypatch.setattr(torch, "load", lambda *args, **more: pytest.fail("a pickle was opened"))
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail("a server was asked"))
    WAYS[way](folder)
    monkeypatch.setattr("sys.argv", ["predict.py", str(folder), str(put(folder / "a.png"))])
    assert entry.run(predict.main) == 6
    err = capsys.readouterr().err
    assert err.startswith(f"error: {folder}: ") and err.count("\n") == 1 and len(err) < 330


HARMLESS = {
    "unchanged": lambda f: None,
    "sources": lambda f: said(f, **{
        f"pretrained_cfg__{key}": "http://127.0.0.1:9/x" for key in ("url", "file", "hf_hub_id", "source", "unknown")
    }),
    "custom_load": lambda f: said(f, pretrained_cfg__custom_load=True, pretrained_cfg__pool_size="x"),
    "more files": lambda f: (f / "pytorch_model.bin").write_bytes(b"x"),
}  # fmt: skip


@pytest.mark.parametrize("way", HARMLESS)
def test_entries_and_files_without_a_use_are_ignored(folder, monkeypatch, capsys, way):
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail("a server was asked"))
    HARMLESS[way](folder)
    monkeypatch.setattr("sys.argv", ["predict.py", str(folder), str(put(folder / "a.png"))])
    assert entry.run(predict.main) == 0
    assert "image" in capsys.readouterr().out


def refusal(work, *args) -> UserError:
    with pytest.raises(UserError) as caught:
        work(*args)
    assert "\n" not in caught.value.line
    return caught.value


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "x.bin", "model.safetensors"])
def test_a_pickle_is_never_opened_whatever_its_name(folder, tmp_path, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Opened(tmp_path / "it was opened")))
    for way in (
        lambda: open_classifier(folder),
        lambda: build_model(f"local-dir:{folder}", True, {"num_classes": 4}),
        lambda: create_network(Backbone("test_resnet", f"{folder}/{name}", 0.0, 0.0, BackboneFacts()), 4, 0, CPU),
    ):
        error = refusal(way)
        assert error.code == 6 and "pickles are never opened" in error.line
    assert not (tmp_path / "it was opened").exists()


def test_a_saved_network_is_a_backbone_with_a_new_head_with_or_without_its_weights(folder):
    theirs = open_classifier(folder).state_dict()
    own = build_model(f"local-dir:{folder}", True, {"num_classes": 7}).state_dict()
    assert own["fc.weight"].shape[0] == 7
    assert all(torch.equal(value, theirs[name]) for name, value in own.items() if not name.startswith("fc"))
    (folder / "model.safetensors").unlink()
    assert build_model(f"local-dir:{folder}", False, {}).state_dict()["fc.weight"].shape[0] == 3


def test_a_head_that_timm_does_not_know_is_opened(folder):
    model = timm.create_model("test_resnet", num_classes=3, global_pool="catavgmax")
    head = Head("fastai", 8, [0.1, 0.2])
    heads.replace_head(model, head, 3)
    timm.models.save_for_hf(
        model, folder, {"label_names": NAMES, **heads.head_config(head)}, safe_serialization=True,
        data_config={"input_size": (3, 32, 32)},
    )  # fmt: skip
    assert all(
        torch.equal(value, model.state_dict()[name]) for name, value in open_classifier(folder).state_dict().items()
    )


# init ------------------------------------------------------------------------------------------------------------


KEPT = "classes continue from the head of that run"
NEW = f"{KEPT}; these are new and start untrained"
UNTRAINED = "the last layer for 3 classes starts untrained, because that run names none of these classes"
INIT = [  # classes of the run, classes of the next run, the row each of these takes over (None: a new class), the line
    ("cat dog owl", "cat dog owl", [0, 1, 2], f"3 of 3 {KEPT}"),
    ("cat dog owl", "dog owl zeta", [1, 2, None], f"2 of 3 {NEW}: zeta"),
    ("owl dog cat", "cat dog owl", [2, 1, 0], f"3 of 3 {KEPT}"),
    ("cat dog owl", "cat owl", [0, 2], f"2 of 2 {KEPT}"),
    ("cat dog", "ant cat dog elk", [None, 0, 1, None], f"2 of 4 {NEW}: ant, elk"),
    ("cat cat dog", "cat dog", [0, 2], f"2 of 2 {KEPT}"),
    ("dog owl cat", "alpha mid zeta", [None] * 3, UNTRAINED),
    ("", "alpha mid zeta", [None] * 3, UNTRAINED),
    ("cat dog owl", "a b c d e f g h i cat", [None] * 9 + [0], f"1 of 10 {NEW}: a, b, c, d, e, f, g, h and 1 more"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["linear", "fastai"])
@pytest.mark.parametrize(("before", "classes", "rows", "line"), INIT)
def test_the_rows_of_a_head_are_taken_over_by_class_name(tmp_path, kind, before, classes, rows, line):
    before, classes = before.split(), classes.split()
    head = Head("fastai", len(classes), [0.1, 0.2]) if kind == "fastai" else heads.LINEAR
    backbone = Backbone("test_resnet", "none", 0.0, 0.0, BackboneFacts())
    theirs = create_network(backbone, len(before) or 3, 1, CPU, head).model.to(memory_format=torch.contiguous_format)
    for parameter in theirs.get_classifier().parameters():
        torch.nn.init.normal_(parameter)
    named = {"label_names": before} if before else {}
    config = {**named, **heads.head_config(head)}
    timm.models.save_for_hf(theirs, tmp_path, config, safe_serialization=True)
    model = create_network(backbone, len(classes), 2, CPU, head).model
    new = {name: value.clone() for name, value in model.state_dict().items()}
    assert setup.load_init(model, tmp_path, classes).startswith(f"init={tmp_path}: {line}")
    last = "fc" if kind == "linear" else "fc.6"
    for name, value in model.state_dict().items():
        if name.rpartition(".")[0] != last:
            assert torch.equal(value, theirs.state_dict()[name]), name
            continue
        for i, row in enumerate(rows):
            assert torch.equal(value[i], new[name][i] if row is None else theirs.state_dict()[name][row])


def test_a_head_of_another_form_is_not_taken_over(folder):
    backbone = Backbone("test_resnet", "none", 0.0, 0.0, BackboneFacts())
    model = create_network(backbone, 3, 2, CPU, Head("fastai", 8, [0.1, 0.2])).model
    new = model.fc[6].weight.clone()
    line = setup.load_init(model, folder, NAMES)
    assert line.endswith("the head for 3 classes starts untrained, because that run's head has another form")
    assert torch.equal(model.fc[6].weight, new)


def test_init_from_a_folder_that_is_no_run_is_refused(folder, tmp_path):
    model = timm.create_model("test_resnet", num_classes=3)
    for place in (tmp_path / "none", folder / "model.safetensors"):
        assert "give a run's folder" in refusal(setup.load_init, model, place, NAMES).line
    (folder / "config.json").write_text("[")
    assert "config.json is damaged" in refusal(setup.load_init, model, folder, NAMES).line
    (folder / "config.json").unlink()
    assert setup.load_init(model, folder, NAMES).endswith(UNTRAINED)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Opened(tmp_path / "it was opened")))
    error = refusal(setup.load_init, model, folder, NAMES)
    assert error.code == 6 and "pickles are never opened" in error.line
    assert not (tmp_path / "it was opened").exists()


# the hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(folder, monkeypatch):
    """Fake a hub whose only repository is `folder`, and return the list of its downloads."""
    asked = []

    def download(name, file, revision=None):
        asked.append((name, file, revision))
        if not (folder / file).exists():
            raise EntryNotFoundError(file)
        return str(folder / file)

    monkeypatch.setattr(hub, "responds", lambda url: True)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(torch, "load", lambda *args, **more: pytest.fail("a pickle was opened"))
    return asked


def test_the_hub_gives_safetensors(folder, repository):
    theirs = open_classifier(folder).state_dict()
    for name in ("hf-hub:me/mine@v1", "test_resnet"):
        own = build_model(name, True, {"num_classes": 7})
        assert "state_dict" not in own.pretrained_cfg and own.pretrained_cfg["input_size"][1] in (32, 160)
        assert all(torch.equal(v, theirs[n]) for n, v in own.state_dict().items() if not n.startswith("fc"))
    assert repository[:2] == [("me/mine", "config.json", "v1"), ("me/mine", "model.safetensors", "v1")]
    assert repository[2][0].startswith("timm/test_resnet.")


@pytest.mark.parametrize("name", ["hf-hub:me/mine", "test_resnet", "gcvit_tiny"])
def test_a_repository_of_pickles_is_refused(folder, repository, name):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    error = refusal(build_model, name, True, {})
    assert error.code == 6 and "pickles are never opened" in error.line
    assert not [file for _, file, _ in repository if not file.endswith((".json", ".safetensors"))]


HUB_ERRORS = [(LocalEntryNotFoundError("x"), 5), (HFValidationError("bad\nid"), 2), (ConnectionError("lost"), 5)]


@pytest.mark.parametrize(("error", "code"), HUB_ERRORS)
def test_an_error_of_the_hub_is_one_line(monkeypatch, error, code):
    monkeypatch.setattr(hub, "responds", lambda url: True)
    monkeypatch.setattr(hub, "hf_hub_download", lambda *args, **more: (_ for _ in ()).throw(error))
    assert refusal(build_model, "hf-hub:me/mine", True, {}).code == code
