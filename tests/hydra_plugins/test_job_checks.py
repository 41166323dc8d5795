"""A sweep with a wrong job is refused before its first job starts."""

from types import SimpleNamespace

import pytest
from faults import in_child, run_train

from hydra_plugins.search_sweeper import corners, ends_of

SWEEPS = [
    (("bn=train,evel",), 2, "error: job 1: bn=evel: must be one of auto, train, eval; did you mean eval?\n"),
    (("bn=train,evel", "seed=0,1"), 2,
     "error: job 2: bn=evel: must be one of auto, train, eval; did you mean eval? (1 more"),
    (("optimizer.clip=1,-1", "seed=0"), 2, "error: job 1: optimizer.clip=-1.0: must be above 0"),
    (("checklist.full.lr=1,null,-1",), 2, "error: job 2: checklist.full.lr=-1: must be above 0 and at most 1,000"),
    (("device=cpu,gpu", "hydra/launcher=slurm"), 2, "error: job 1: device=gpu: must be auto"),
    (("bn=train,evel", "hydra/sweeper=halving"), 2, "error: job 1: bn=evel: must be one of auto, train, eval"),
    (("data.root=choice('/','/no')", "data=folder"), 3, "error: job 1: data.root=/no: no such folder"),
    (("bn=train,evel", "lr_factor=interval(0.1,3)", "hydra/sweeper=optuna"), 2, "error: bn=evel: must be one of"),
    (("lr_factor=interval(0.1,3e9)", "hydra/sweeper=optuna"), 2, "error: lr_factor=3000000000.0: must be above 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "code", "line"), [SWEEPS[0], *(pytest.param(*one, marks=pytest.mark.slow) for one in SWEEPS[1:])]
)
def test_a_sweep_is_refused_before_its_first_job_and_leaves_no_folder(tmp_path, typed, code, line):
    sweep, printed = tmp_path / "sweep", tmp_path / "printed"
    folders = (f"hydra.sweep.dir={sweep}", f"store.dir={tmp_path}/store", "wandb=disabled")
    assert in_child(lambda: run_train("-m", *typed, *folders, outputs=tmp_path / "out"), printed) == code
    assert printed.read_text().startswith(line) and printed.read_text().count("\n") == 1
    assert not sweep.exists()


def test_a_search_is_checked_at_each_value_and_end():
    values = {"bn": ["train", "eval"], "lr": [0.1, 3.0]}
    checked = [["bn=train", "lr=0.1"], ["bn=eval", "lr=0.1"], ["bn=train", "lr=3.0"]]
    assert corners(values, {"seed": 1}) == [[*job, "seed=1"] for job in checked]


@pytest.mark.parametrize(
    ("space", "ends"),
    [({"low": 0.1, "high": 3.0}, [0.1, 3.0]), ({"low": 1, "high": 1}, [1]), ({"choices": (3, 1, 2)}, [1, 3])]
    + [({"choices": ("b", "a")}, ["b", "a"]), ({"choices": (1, None)}, [1, None])],
)
def test_the_ends_of_numbers_are_the_lowest_and_the_highest(space, ends):
    assert ends_of(SimpleNamespace(**space)) == ends
