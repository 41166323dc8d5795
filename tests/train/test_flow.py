"""The call path from the command line to the loss is short, and nothing is done twice."""

import json
import os
import traceback

import pytest
from brief import FIND
from faults import in_child, run_train
from images import tree

from thaw.config.paths import ROOT
from thaw.data import scan
from thaw.plan import plan
from thaw.train import loop

QUICK = ("smoke=true", "size=32", "batch_size=16", "wandb=disabled", *FIND)


ABOVE = ["main", "__call__", "train_job", "run_plan"]
FRAMES = [  # what is typed, and thaw's functions from `main` to the one that calls the loss
    (["checklist=from_scratch", "lr=0.1"], [*ABOVE, "fit_phase", "train_cycle", "train"]),
    (["checklist=from_scratch", "lr=0.1", "augment.mixup=0.2"], [*ABOVE, "fit_phase", "train_cycle", "train"]),
    (["checklist=from_scratch"], [*ABOVE, "find_rate", "rate_trials", "train"]),
    (["checklist=from_scratch", "find.rule=edge", "find.steps=10"], [*ABOVE, "find_rate", "range_test", "train"]),
]


@pytest.mark.parametrize(("words", "functions"), FRAMES)
def test_main_reaches_the_loss_in_seven_of_our_frames(tmp_path, words, functions):
    """Hydra's frames are not counted."""

    def probe(*logits_and_labels, **options):
        frames = traceback.extract_stack()[:-1]
        own = [frame for frame in frames if frame.filename.startswith(f"{ROOT}/src/")]
        names = [frame.name for frame in own]
        (tmp_path / "frames").write_text(json.dumps(names[names.index("main") :]))
        os._exit(0)

    def work():
        loop.cross_entropy = probe
        run_train(*QUICK, "data.limit=60", *words, f"store.dir={tmp_path}/store", outputs=tmp_path / "out")

    assert in_child(work) == 0
    assert json.loads((tmp_path / "frames").read_text()) == functions


def test_a_folder_is_scanned_once_and_a_job_planned_once(tmp_path):
    photos, calls = tree(tmp_path / "photos", cat=8, dog=8), tmp_path / "calls"

    def counted(holder, name):
        whole = getattr(holder, name)

        def call(*args, **kwargs):
            with calls.open("a") as file:
                file.write(f"{name}\n")
            return whole(*args, **kwargs)

        setattr(holder, name, call)

    def work():
        counted(scan, "scan")
        counted(plan, "make_plan")
        typed = (f"data.root={photos}", "backbone=tiny", "data.workers=0", f"store.dir={tmp_path}/store")
        return run_train(*QUICK, *typed, outputs=tmp_path / "out")

    assert in_child(work, tmp_path / "says") == 0, (tmp_path / "says").read_text()
    assert calls.read_text().split() == ["scan", "make_plan"]


def test_the_exit_code_is_that_of_this_run_whatever_its_folder_holds(tmp_path):
    """For example the folder of a sweep with a failed job."""
    folder = tmp_path / "sweep"
    for number, status in enumerate(({"state": "done"}, {"state": "failed", "code": 3, "line": "no"})):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "status.json").write_text(json.dumps({**status, "overrides": [f"seed={number}"]}))
    places = (f"store.dir={tmp_path}/store", f"hydra.run.dir={folder}")
    assert in_child(lambda: run_train(*QUICK, "data.limit=60", *places, outputs=tmp_path / "out")) == 0
    assert (folder / "result.json").exists() and not (folder / "leaderboard.md").exists()
    assert in_child(lambda: run_train(*QUICK, "data.limit=2", *places, "fresh=true", outputs=tmp_path / "out")) == 6
