"""Killed anywhere, any number of times, then the same command: the same bits as a run that was never killed."""

import hashlib
import json
import os
import signal
import time

import pytest
import torch

from thaw import run, signals, snapshot, tend
from thaw.job import set_up

SMALL = (
    "data.limit=80", "size=32", "batch_size=32", "checklist=fine_tune", "epochs=3", "find.steps=10",
    "store.snapshot_s=0", "wandb=disabled", "optimizer.momentum=0.8",
)  # fmt: skip
TIMES = ("speed/", "train_seconds")


def carry_out(settings, folder):
    """A run as a job does it, its rows in metrics.jsonl."""
    folder.mkdir(parents=True)

    def log(row):
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    return run.run(set_up(settings, folder, tend.open_store(settings, print)), log)


def bits(folder):
    """What must be the same: the weights, and the rows without their times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if not key.startswith(TIMES)} for row in rows]
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(), rows


def in_child(work) -> int:
    """The exit status of `work()` in a forked process, -n where signal n killed it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            work()
            code = 0
        except signals.Stopped as stopped:
            code = stopped.code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def before_call(holder, name, number, act):
    """Have `act()` called before the `number`th call of `holder.name`."""
    whole, count = getattr(holder, name), [0]

    def counted(*args, **kwargs):
        if count[0] == number:
            act()
        count[0] += 1
        return whole(*args, **kwargs)

    setattr(holder, name, counted)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def settings(compose, tmp_path):
    return lambda store, *more: compose(*SMALL, f"store.dir={tmp_path}/{store}", *more)


UNDISTURBED = []  # the bits of the run that nothing disturbs, made once


@pytest.fixture
def reference(settings, tmp_path):
    if not UNDISTURBED:
        assert in_child(lambda: carry_out(settings("reference"), tmp_path / "runs/reference")) == 0
        UNDISTURBED.append(bits(tmp_path / "runs/reference"))
    return UNDISTURBED[0]


def killed_and_resumed(settings, tmp_path, name, points, **more):
    """A run killed at each of the points, (holder, function, call), then let through; its folder."""
    for attempt, (holder, function, number) in enumerate(points):
        folder = tmp_path / f"runs/{name}-{attempt}"

        def work(folder=folder, holder=holder, function=function, number=number):
            before_call(holder, function, number, kill)
            carry_out(settings(name, **more), folder)

        assert in_child(work) in (-signal.SIGKILL, 0)
    folder = tmp_path / f"runs/{name}-last"
    assert in_child(lambda: carry_out(settings(name, **more), folder)) == 0
    return folder


# before the n-th of: optimizer steps, renames of artifacts, renames of snapshots, syncs
SAMPLE = [
    [(torch.optim.SGD, "step", 4), (torch.optim.SGD, "step", 15)],  # inside the finder, inside a fit
    [(os, "rename", 1), (os, "fsync", 9), (os, "replace", 8)],
]


@pytest.mark.parametrize("points", SAMPLE, ids=lambda points: " ".join(f"{p[1]}{p[2]}" for p in points))
def test_killed_at_sampled_points(settings, tmp_path, reference, points):
    assert bits(killed_and_resumed(settings, tmp_path, "killed", points)) == reference


@pytest.mark.slow
@pytest.mark.parametrize(
    ("holder", "function"),
    [(torch.optim.SGD, "step"), (os, "rename"), (os, "replace"), (os, "fsync"), (os, "open"), (run, "export")],
    ids=["step", "rename", "replace", "fsync", "open", "export"],
)
def test_killed_before_every_rename_and_every_seventh_other_call(settings, tmp_path, reference, holder, function):
    """Until a run is let through; each killed run is gone on with by the next."""
    survived = 0
    for number in range(0, 400, 1 if function in ("rename", "export") else 7):
        folder = tmp_path / f"runs/{function}-{number}"
        store = f"store-{number}"

        def work(folder=folder, store=store, number=number):
            before_call(holder, function, number, kill)
            carry_out(settings(store), folder)

        if in_child(work) == 0:
            survived = number
            break
        again = tmp_path / f"runs/{function}-{number}-again"
        assert in_child(lambda again=again, store=store: carry_out(settings(store), again)) == 0
        assert bits(again) == reference, f"killed before {function} {number}"
    assert survived


@pytest.mark.parametrize("damage", ["flip", pytest.param("cut", marks=pytest.mark.slow)])
def test_a_damaged_snapshot_falls_back_to_the_one_before(settings, tmp_path, reference, damage):
    def work():
        before_call(torch.optim.SGD, "step", 27, kill)
        carry_out(settings("damaged"), tmp_path / "runs/damaged")

    assert in_child(work) == -signal.SIGKILL
    (newest,) = (tmp_path / "damaged").glob("underway/*/snapshot")
    content = bytearray(newest.read_bytes())
    assert (newest.parent / "previous").exists()
    if damage == "flip":
        content[len(content) // 2] ^= 4
    newest.write_bytes(content[: len(content) // 3] if damage == "cut" else content)
    folder = tmp_path / "runs/damaged-again"
    assert in_child(lambda: carry_out(settings("damaged"), folder)) == 0
    assert bits(folder) == reference


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_the_run_after_its_step_with_a_snapshot(settings, tmp_path, reference, number):
    def work():
        signals.listen()
        before_call(torch.optim.SGD, "step", 26, lambda: os.kill(os.getpid(), number))
        carry_out(settings("stopped"), tmp_path / "runs/stopped")

    assert in_child(work) == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    (folder,) = (tmp_path / "stopped").glob("underway/*")
    state, _ = snapshot.read(folder)
    assert len(state["losses"]) > 0
    again = tmp_path / "runs/stopped-again"
    assert in_child(lambda: carry_out(settings("stopped"), again)) == 0
    assert bits(again) == reference


def test_the_second_interrupt_leaves_at_once(settings, tmp_path):
    def work():
        signals.listen()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    assert in_child(work) == 130


def test_a_handler_from_before_is_called_after_the_snapshot():
    """submitit's puts the job back into Slurm's queue."""
    called = []
    signal.signal(signal.SIGUSR2, lambda number, frame: called.append(number))
    try:
        signals.listen()
        os.kill(os.getpid(), signal.SIGUSR2)
        assert signals.pending() == signal.SIGUSR2 and called == []
        with pytest.raises(signals.Stopped):
            signals.leave(signals.pending(), "here")
        assert called == [signal.SIGUSR2]
    finally:
        signals.asked.clear()
        signals.chained.clear()
        for name in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(name, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_one_more_cycle_is_all_that_one_more_cycle_costs(settings, tmp_path, monkeypatch):
    """scheduler.cycles=3 after 2 trains the third alone, and ends in the bits of three at once."""
    of_three = ("checklist=eight", "epochs=null", "scheduler.cycles=3", "scheduler.max_cycles=3", "batch_size=64")
    of_two = (*of_three[:2], "scheduler.cycles=2", "scheduler.max_cycles=2", "batch_size=64")
    assert in_child(lambda: carry_out(settings("whole", *of_three), tmp_path / "runs/whole")) == 0
    carry_out(settings("grown", *of_two), tmp_path / "runs/two")
    steps = []
    whole = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda *args, **kwargs: steps.append(1) or whole(*args, **kwargs))
    result = carry_out(settings("grown", *of_three), tmp_path / "runs/three")
    assert len(steps) == 4, "four epochs of one step each: the third cycle"
    assert bits(tmp_path / "runs/three") == bits(tmp_path / "runs/whole")
    assert result["phase/full/reused"] == 2 and result["phase/head_precomputed/reused"] == 1
    assert result["phase/find_full/reused"] is True
    assert result["cost/seconds"] > result["cost/seconds_paid"]


def test_a_finished_run_again_trains_nothing_and_shows_everything(settings, tmp_path, reference, monkeypatch):
    carry_out(settings("done"), tmp_path / "runs/again-0")
    monkeypatch.setattr(torch.optim.SGD, "step", None)
    carry_out(settings("done"), tmp_path / "runs/again-1")
    assert bits(tmp_path / "runs/again-1") == reference


def test_fresh_trains_anew_and_ends_in_the_same_bits(settings, tmp_path, reference, monkeypatch):
    assert in_child(lambda: carry_out(settings("done"), tmp_path / "runs/done")) == 0
    steps = []
    whole = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda *args, **kwargs: steps.append(1) or whole(*args, **kwargs))
    carry_out(settings("done", "fresh=true"), tmp_path / "runs/fresh")
    assert len(steps) > 20 and bits(tmp_path / "runs/fresh") == reference
