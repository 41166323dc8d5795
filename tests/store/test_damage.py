"""Artifacts that were changed after a run, perhaps with a matching DONE.json, are moved aside and made again."""

import hashlib
import json
import math
import shutil

import pytest
import torch
from brief import skip_plots, trained
from safetensors.torch import load_file, save_file

from thaw.config import paths
from thaw.config.weights import PACKAGED_NETWORK
from thaw.model import packaged
from thaw.model.network import build_model
from thaw.store import snapshot
from thaw.store.kinds import FILES, lacks_done
from thaw.store.store import Store
from thaw.train import cycle_state, features, lr_finder

NASTY = [b"[]", b"1", b'"x"', b"null", b'{"a": [1]}', b"[" * 200_000, b'{"losses": NaN}', b'{"a": "\xff"}', b""]


def certify(folder, files=None):
    """Rewrite DONE.json so that it states the present files, or `files`."""
    done = json.loads((folder / "DONE.json").read_text())
    done["files"] = files if files is not None else {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name in done["files"] for data in [(folder / name).read_bytes()]
    }  # fmt: skip
    (folder / "DONE.json").write_text(json.dumps(done))


DONES = {  # entries that anybody may have written into a DONE.json
    "no files": {"files": {}}, "another format": {"format": 2}, "a list": [], "a list of files": {"files": ["x"]},
    "a file more": {"files": {"curve.json": {}, "x": {}}}, "a path outside": {"files": {"../x": {"bytes": 1}}},
    "no sizes": {"files": {"curve.json": 3}}, "words": {"files": {"curve.json": {"bytes": "2", "sha256": []}}},
}  # fmt: skip


@pytest.mark.parametrize("way", [*DONES, *NASTY, "none", "a folder"], ids=lambda way: str(way)[:20])
def test_an_artifact_with_a_damaged_done_json_is_moved_aside_and_made_again(tmp_path, way):
    def made(store):
        with store.entry("finds", {}) as entry:
            if entry.missing:
                (entry.folder / "curve.json").write_text("{}")
        return entry

    path = made(Store(tmp_path)).path
    done = path / "DONE.json"
    if isinstance(way, bytes):
        done.write_bytes(way)
    elif way in DONES:
        done.write_text(json.dumps(json.loads(done.read_text()) | DONES[way] if DONES[way] else []))
    else:
        done.unlink()
        if way == "a folder":
            done.mkdir()
    said = []
    assert made(Store(tmp_path, said.append)).missing and len(said) == 1 and "is damaged" in said[0]
    assert not made(Store(tmp_path, said.append)).missing and len(said) == 1


@pytest.mark.parametrize("place", ["finds", "finds/KEY", "ROOT"])
def test_a_file_where_a_folder_should_be_is_no_traceback(tmp_path, place):
    root = tmp_path / "store"
    path = root / place.replace("KEY", Store(root).place("finds", {}).name) if place != "ROOT" else root
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    try:
        with Store(root).entry("finds", {}) as entry:
            (entry.folder / "curve.json").touch()
    except Exception as error:
        assert getattr(error, "code", None) == 5 and "\n" not in error.line
    else:
        assert place == "finds/KEY"


CURVES = [
    {"rates": [1], "losses": []}, {"rates": "x", "losses": [], "seconds": 1}, {"rates": [1.0], "losses": [1.0]},
    {"rates": [1, 2], "losses": [[1], 2], "seconds": 1}, {"rates": [1.0, 2.0], "losses": [1.0], "seconds": 1},
    {"rates": [-1.0], "losses": [1.0], "seconds": 1}, {"rates": [1.0], "losses": [1.0], "seconds": "a"},
    {"rates": [1.0], "losses": ["a"], "seconds": 1}, {"rates": [2.0, 1.0], "losses": [1.0, 1.0], "seconds": 1},
    {"rates": [1.0], "losses": [[]], "seconds": 1}, {"rates": [1.0], "losses": [-1.0], "seconds": 1},
    {"rates": [1.0], "losses": None, "seconds": 1}, {"rates": [1.0], "losses": [math.inf], "seconds": 1},
    {"rates": [1.0, 2.0], "losses": [None], "seconds": 1}, {"rates": [1.0], "losses": [False], "seconds": 1},
    {"rates": [1.0, 1.0], "losses": [1.0, 1.0], "seconds": 1}, {"rates": [math.inf], "losses": [1.0], "seconds": 1},
]  # fmt: skip


@pytest.mark.parametrize(
    "text", [*NASTY, *(json.dumps(one).encode() for one in CURVES)], ids=lambda text: str(text)[:30]
)
def test_damaged_curves_have_a_fault(tmp_path, text):
    (tmp_path / "curve.json").write_bytes(text)
    assert lr_finder.curve_fault(tmp_path, of_trials=True)
    assert lr_finder.curve_fault(tmp_path, of_trials=False)


@pytest.mark.parametrize(
    ("losses", "of_trials", "of_a_range_test"),
    [([2.0, 1.0], True, True), ([2.0, None], True, False), ([None, None], True, False), ([0, 0.0], True, True)],
)
def test_good_curves_have_no_fault(tmp_path, losses, of_trials, of_a_range_test):
    """Only a trial may have no loss, if its loss is infinite."""
    (tmp_path / "curve.json").write_text(json.dumps({"rates": [0.1, 1.0], "losses": losses, "seconds": 1}))
    assert (lr_finder.curve_fault(tmp_path, of_trials=True) is None) == of_trials
    assert (lr_finder.curve_fault(tmp_path, of_trials=False) is None) == of_a_range_test


TENSORS = {  # activations of two images, three each, and whether they are as they should be
    "right": ({"features": torch.zeros(2, 3)}, True),
    "narrow": ({"features": torch.zeros(2, 2)}, False),
    "short": ({"features": torch.zeros(1, 3)}, False),
    "whole numbers": ({"features": torch.zeros(2, 3, dtype=torch.int8)}, False),
    "another name": ({"x": torch.zeros(2, 3)}, False),
}


@pytest.mark.parametrize("way", TENSORS)
def test_damaged_activations_have_a_fault(tmp_path, way):
    tensors, good = TENSORS[way]
    save_file(tensors, tmp_path / "features.safetensors")
    (tmp_path / "rows.json").write_text('{"rows": ["a", "b"], "seconds": 1}')
    assert (features.shard_fault(tmp_path, 3) is None) == good
    for text in (*NASTY, b'{"rows": [1, 2], "seconds": 1}', b'{"rows": ["a", "b"]}'):
        (tmp_path / "rows.json").write_bytes(text)
        assert features.shard_fault(tmp_path, 3)


def test_only_an_existing_folder_can_lack_its_done_json(tmp_path):
    for name in ("empty", "whole", "odd/DONE.json"):
        (tmp_path / name).mkdir(parents=True)
    for file in (tmp_path / "file", tmp_path / "whole/DONE.json"):
        file.touch()
    lacking = {name: lacks_done(tmp_path / name) for name in ("none", "empty", "whole", "odd", "file")}
    assert lacking == {"none": False, "empty": True, "whole": False, "odd": True, "file": True}


def test_damaged_packaged_weights_have_a_fault(tmp_path):
    weights = build_model(PACKAGED_NETWORK, False, {}).state_dict()
    save_file(weights, tmp_path / "weights.safetensors")
    assert packaged.fault(tmp_path) is None
    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    assert "conv_stem" in packaged.fault(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    assert "cannot be read" in packaged.fault(tmp_path)


EPOCH = dict.fromkeys(cycle_state.FIGURES, 1.0)
RECORDS = [  # for epochs of two and three steps: a record, whether it is of the whole cycle, whether it is valid
    ({"losses": [1.0] * 5, "epochs": [EPOCH] * 2}, True, True),
    ({"losses": [1.0] * 4, "epochs": [EPOCH] * 2}, True, False),
    ({"losses": [1.0] * 5, "epochs": [EPOCH]}, True, False),
    ({"losses": ["a"] * 5, "epochs": [EPOCH] * 2}, True, False),
    ({"losses": [1.0] * 5, "epochs": [{}] * 2}, True, False),
    ({"losses": [1.0] * 5, "epochs": [EPOCH | {"loss": None}] * 2}, True, False),
    ({}, True, False),
    ({"losses": [], "epochs": [], "figures": cycle_state.NO_SUMS}, False, True),
    ({"losses": [1.0] * 3, "epochs": [EPOCH], "figures": cycle_state.NO_SUMS | {"images": 4}}, False, True),
    ({"losses": [1.0] * 3, "epochs": [EPOCH], "figures": cycle_state.NO_SUMS}, False, False),
    ({"losses": [1.0], "epochs": [EPOCH], "figures": cycle_state.NO_SUMS | {"images": 4}}, False, False),
    ({"losses": [1.0] * 9, "epochs": [EPOCH], "figures": cycle_state.NO_SUMS | {"images": 4}}, False, False),
    ({"losses": [], "epochs": [], "figures": {}}, False, False),
    ({"losses": [], "epochs": {}, "figures": cycle_state.NO_SUMS}, False, False),
]  # fmt: skip


@pytest.mark.parametrize(("record", "whole", "good"), RECORDS)
def test_damaged_records_have_a_fault(record, whole, good):
    assert (cycle_state.record_fault(record, [2, 3], whole) is None) == good


def test_damaged_snapshots_are_not_read(tmp_path):
    def write(body):
        (tmp_path / "snapshot").write_bytes(hashlib.sha256(body).digest() + body)

    for text in NASTY:
        write(len(text).to_bytes(8, "big") + text + b"x")
        assert snapshot.read(tmp_path) is None
    write(b"")
    assert snapshot.read(tmp_path) is None


SHORT = ("data.limit=60", "size=16", "batch_size=16", "checklist=fine_tune", "lr=0.01", "epochs=1", "wandb=disabled")


@pytest.mark.slow
def test_a_run_makes_damaged_artifacts_again(compose, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    skip_plots(monkeypatch)
    first = trained(compose(*SHORT), tmp_path / "a", *SHORT)
    cycles, *shards = (
        sorted((tmp_path / "store" / kind).glob(glob)) for kind, glob in (("cycles", "*"), ("activations", "*/*"))
    )
    assert (
        len(cycles) == 2
        and shards[0]
        and {file.name for file in cycles[0].iterdir()} == {*FILES["cycles"], "DONE.json"}
    )
    save_file({"a": torch.zeros(1)}, shards[0][0] / "features.safetensors")
    certify(shards[0][0])
    (cycles[0] / "record.json").write_text("[" * 200_000)
    certify(cycles[0])
    weights = load_file(cycles[1] / "weights.safetensors")
    save_file({name: torch.zeros_like(value) for name, value in weights.items()}, cycles[1] / "weights.safetensors")
    certify(cycles[1], {})
    shutil.rmtree(tmp_path / "a")
    capsys.readouterr()
    again = trained(compose(*SHORT), tmp_path / "b", *SHORT)
    assert again["model_sha256"] == first["model_sha256"]
    assert capsys.readouterr().out.count("moved aside, to be made again") == 3
