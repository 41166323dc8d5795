"""The W&B name, group, columns, summary and tables of a job, read from the offline files of whole sweeps."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import offline
import pytest

from thaw.config.job_request import JobRequest
from thaw.report import publish
from thaw.sweep.jobs import keys_swept_in

ROOT = Path(__file__).resolve().parents[2]
TYPED = ["size=32", "scheduler=sgdr", "rates=thirds", "lr_factor=2", "stop_after=1", "seed=1"]
SWEPT = {"scheduler", "rates", "lr_factor", "seed"}
MULTIRUN = """hydra:
  sweeper:
    _target_: hydra._internal.core_plugins.basic_sweeper.BasicSweeper
    params:
      seed: 0,1
  overrides:
    hydra: []
    task:
    - size=32
    - scheduler=sgdr,one_cycle
    - lr_factor=interval(0.1, 10)
    - augment=light
  job: {}
"""


def identity(settings, folder, typed, number=3, swept=SWEPT, key="k"):
    config = asdict(settings) | {"stop_after": 1}
    request = JobRequest(folder, typed, {"scheduler": "sgdr"}, config, config, number)
    return publish.run_identity(request, swept, key)


def test_a_job_is_named_by_the_swept_keys_and_grouped_by_its_sweep(compose, tmp_path):
    job = identity(compose(*TYPED, "tags=[mine]"), tmp_path / "a sweep" / "3", TYPED)
    assert job.name == "sgdr · thirds · lr×2 · s1" and job.group == "a sweep"
    assert job.tags == ("digits", "test_resnet", "sweep", "mine")
    columns = job.config
    assert columns["setting"] == "size 32 · sgdr · thirds · lr×2"
    assert columns["command"] == "python src/train.py size=32 scheduler=sgdr rates=thirds lr_factor=2 seed=1"
    assert (columns["seed"], columns["lr_factor"], columns["choice"]["scheduler"]) == (1, 2.0, "sgdr")
    assert columns["ratios_2"] == 1 and "lr_0" not in columns and "stop_after" not in columns["cfg"]
    named = identity(compose(*TYPED, "name=ours"), tmp_path / "a sweep" / "3", TYPED)
    assert (named.group, named.name) == ("ours", job.name)
    assert identity(compose(*TYPED), tmp_path / "0", TYPED, swept=()).name == "size 32 · sgdr · thirds · lr×2 · s1"


def test_lists_are_columns_of_their_own(compose, tmp_path):
    job = identity(compose("lr=[1e-4,1e-3,1e-2]"), tmp_path / "a", ["lr=[1e-4,1e-3,1e-2]"], None, ())
    assert [job.config[f"lr_{i}"] for i in range(3)] == [1e-4, 1e-3, 1e-2]
    assert job.group is None and job.tags[2] == "single"


def test_rungs_and_attempts_of_a_job_share_one_run(compose, tmp_path):
    def id_of(folder, *typed, number=3, key="k", fresh="false"):
        return identity(compose(*typed, f"fresh={fresh}"), tmp_path / folder, list(typed), number, SWEPT, key).id

    first = id_of("sweep/0", "seed=1", "stop_after=1")
    assert first == id_of("sweep/4", "seed=1", "stop_after=2") == id_of("sweep/9", "seed=1", key="another")
    assert first not in {id_of("sweep/1", "seed=2"), id_of("other/0", "seed=1"), id_of("sweep", "seed=1", number=None)}
    assert id_of("a", number=None) == id_of("b", number=None) != id_of("a", number=None, key="another")
    assert id_of("a", number=None, fresh="true") != id_of("a", number=None, fresh="true")


def test_the_swept_keys_of_a_multirun_yaml(tmp_path):
    (tmp_path / "multirun.yaml").write_text(MULTIRUN)
    assert keys_swept_in(tmp_path) == {"scheduler", "lr_factor", "seed"}
    assert keys_swept_in(tmp_path / "none") == set()


def runs_of(tmp_path, *typed):
    """Run a sweep of small jobs; return the finished process and its offline W&B runs."""
    small = ["data.limit=80", "size=32", "threads=1", "epochs=3", "checklist=fine_tune", "lr=0.01", "wandb=offline"]
    where = [f"store.dir={tmp_path}/store", f"wandb.dir={tmp_path}/wandb", f"hydra.sweep.dir={tmp_path}/sweep"]
    command = [sys.executable, ROOT / "src" / "train.py", "-m", *small, *where, *typed]
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    return done, [offline.read_ended(file) for file in files]


@pytest.mark.slow
def test_the_wandb_files_of_a_sweep(tmp_path):
    done, runs = runs_of(tmp_path, "data.limit=choice(80,6)", "rates=thirds", "seed=0,1", "tags=[mine]")
    assert done.returncode == 2, done.stderr[-2000:]
    assert {run["name"]: run["exit"] for run in runs} == {
        "limit 80 · s0": 0,
        "limit 80 · s1": 0,
        "limit 6 · s0": 2,
        "limit 6 · s1": 2,
    }
    assert {run["group"] for run in runs} == {"sweep"} and {run["job_type"] for run in runs} == {"train"}
    assert {tuple(run["tags"]) for run in runs} == {("digits", "test_resnet", "sweep", "mine")}
    assert len({run["id"] for run in runs}) == 4
    good, failed = ([run for run in runs if bool(run["exit"]) == bad] for bad in (False, True))
    assert len({run["config"]["setting"] for run in good}) == 1 == len({run["config"]["setting"] for run in failed})
    assert all("data.limit=6, data.valid=0.2: " in run["summary"]["error"] for run in failed)
    sync = next(line for line in done.stdout.splitlines() if "wandb sync" in line and "after `wandb login`" in line)
    assert all(run["id"] in sync for run in runs)
    for run in good:
        columns = {"size", "n_train", "n_valid", "n_classes", "data_id", "commit", "command", "folder", "device"}
        groups = ("scheduler", "rates", "resize", "backbone", "augment", "checklist", "optimizer", "head", "data")
        assert columns <= run["config"].keys() and set(groups) <= run["config"]["choice"].keys()
        result = json.loads((tmp_path / "sweep" / Path(run["config"]["folder"]).name / "result.json").read_text())
        told = {key: value for key, value in result.items() if "/" in key or key == "bad_files"}
        assert {key: run["summary"][key] for key in told} == told
        for table in ("confusion", "per_class", "most_wrong"):
            assert run["summary"][table]["_type"] == "table-file"
        assert any("images/batch_32px._type" in row for row in run["history"])


@pytest.mark.slow
def test_the_rungs_of_a_setting_are_one_run(tmp_path):
    more = ("hydra/sweeper=halving", "scheduler.cycles=2", "lr_factor=1,0.01")
    done, runs = runs_of(tmp_path, *more)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(run["name"] for run in runs) in (["lr×0.01", "lr×1", "lr×1"], ["lr×0.01", "lr×0.01", "lr×1"])
    assert len({run["id"] for run in runs}) == 2
    assert "stop_after" not in json.dumps([run["config"] for run in runs])
    sync = next(line for line in done.stdout.splitlines() if "after `wandb login`" in line)
    assert len(sync.split("wandb sync")[1].split()) == 2
