"""A run killed anywhere, any number of times, and repeated gives the same bits as one that was never killed."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from brief import trained
from faults import SMALL, at_call, bits, carry_out, cut_and_kill, in_child, kill

import train
from thaw.config import paths
from thaw.data import batches
from thaw.model.network import Network
from thaw.runtime import processes, signals
from thaw.store import snapshot
from thaw.store.fresh import FRESH, end_fresh
from thaw.train import cycle, features, fit, loop, run


@pytest.fixture
def settings(compose, tmp_path):
    return lambda store, *more: compose(*SMALL, f"store.dir={tmp_path}/{store}", *more)


UNDISTURBED = []  # the bits of a run that is never killed, made once


@pytest.fixture
def reference(settings, tmp_path):
    if not UNDISTURBED:
        assert in_child(lambda: carry_out(settings("reference"), tmp_path / "runs/reference")) == 0
        UNDISTURBED.append(bits(tmp_path / "runs/reference"))
    return UNDISTURBED[0]


def killed_at(holder, function, number, work):
    """Return whether a child process that does `work` was killed at the `number`th call of the function."""

    def doomed():
        at_call(holder, function, number, kill)
        work()

    return in_child(doomed) == -signal.SIGKILL


def killed_and_resumed(settings, tmp_path, name, points, *more):
    """Kill a run at each of the points (holder, function, call), then let it finish; return its folder."""
    for attempt, (holder, function, number) in enumerate(points):
        folder = tmp_path / f"runs/{name}-{attempt}"

        def work(folder=folder, holder=holder, function=function, number=number):
            at_call(holder, function, number, kill)
            carry_out(settings(name, *more), folder)

        ended = in_child(work)
        assert ended == -signal.SIGKILL or (attempt and ended == 0), "the first point is reached"
    folder = tmp_path / f"runs/{name}-last"
    assert in_child(lambda: carry_out(settings(name, *more), folder)) == 0
    return folder


# killed before the n-th optimizer step, rename of an artifact, rename of a snapshot, or sync
SAMPLE = [
    [(torch.optim.AdamW, "step", 4), (torch.optim.AdamW, "step", 20)],  # inside the finder, inside a fit
    [(os, "rename", 1), (os, "fsync", 9), (os, "replace", 8)],
]


@pytest.mark.parametrize("points", SAMPLE, ids=lambda points: " ".join(f"{p[1]}{p[2]}" for p in points))
def test_killed_at_sampled_points(settings, tmp_path, reference, points):
    assert bits(killed_and_resumed(settings, tmp_path, "killed", points)) == reference


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_with_loader_processes(settings, tmp_path, reference, workers):
    points = [(torch.optim.AdamW, "step", 20)]
    assert bits(killed_and_resumed(settings, tmp_path, "killed", points, f"data.workers={workers}")) == reference


@pytest.mark.slow
def test_killed_with_fastais_head_on_stored_views_and_sgd(settings, tmp_path):
    more = ("head=fastai", "+checklist.head.views=2", "optimizer=sgd")
    assert in_child(lambda: carry_out(settings("whole", *more), tmp_path / "runs/whole")) == 0
    points = [(features, "compute_activations", 2), (torch.optim.SGD, "step", 1)]
    assert bits(killed_and_resumed(settings, tmp_path, "killed", points, *more)) == bits(tmp_path / "runs/whole")


# The process is killed before (or after) every n-th call of a function: holder, function, n.
POINTS = {
    "in the finder or a fit, before an optimizer step": (torch.optim.AdamW, "step", 6),
    "after a backward pass": (torch.nn.utils, "get_total_norm", 11),
    "after an optimizer step": (torch.optim.AdamW, "zero_grad", 13),
    "before validation": (loop, "evaluate", 2),
    "inside validation, or before a step": (Network, "classify", 13),
    "inside the activations, or before a step": (Network, "features", 13),
    "between phases, before a fit": (run, "fit_phase", 1),
    "between phases, before a finder": (run, "find_rate", 1),
    "before activations are computed": (features, "compute_activations", 1),
    "before loader batches": (batches, "loader", 4),
    "an artifact half filled": (Path, "write_bytes", 2),
    "an artifact or a record half filled": (Path, "write_text", 5),
    "before a rename of an artifact": (os, "rename", 2),
    "before a rename of a snapshot": (os, "replace", 7),
    "before a sync": (os, "fsync", 14),
    "a file half there at its sync": (os, "fsync", 17, cut_and_kill),
    "before a snapshot is read": (snapshot, "read", 2),
    "before a snapshot is removed": (snapshot, "remove", 2),
    "before export": (run, "export", 1),
    "after export": (run, "export", 1, kill, True),
    "at an open": (os, "open", 14),
}


@pytest.mark.slow
@pytest.mark.parametrize("where", POINTS)
def test_killed_at_every_kind_of_point(settings, tmp_path, reference, where, capsys):
    """Kill at later and later calls until a run finishes; repeat each killed run."""
    holder, function, every, *how = POINTS[where]
    for number in range(0, 400, every):
        folder, store = tmp_path / f"runs/{number}", f"store-{number}"

        def work(folder=folder, store=store, number=number):
            at_call(holder, function, number, *(how or [kill]))
            carry_out(settings(store), folder)

        if in_child(work) == 0:
            break
        again = tmp_path / f"runs/{number}-again"
        assert in_child(lambda again=again, store=store: carry_out(settings(store), again)) == 0
        assert bits(again) == reference, f"killed {where}, {number}"
    with capsys.disabled():
        print(f" {where}: {number // every} points", end="", flush=True)
    assert number


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_five_random_points_of_one_run(settings, tmp_path, reference, seed):
    """Calls are counted from the start of each attempt, so some points are where it reads what the last one left."""
    calls = [
        (torch.optim.AdamW, "step", 24),
        (os, "fsync", 30),
        (os, "replace", 9),
        (os, "rename", 4),
        (os, "open", 20),
    ]
    rng = random.Random(seed)
    points = [(holder, name, rng.randrange(most)) for holder, name, most in rng.choices(calls, k=5)]
    assert bits(killed_and_resumed(settings, tmp_path, "chain", points)) == reference


@pytest.mark.slow
@pytest.mark.parametrize("then", [(snapshot, "read", 0), (torch.optim.AdamW, "step", 0)])
def test_killed_while_it_resumes(settings, tmp_path, reference, then):
    assert bits(killed_and_resumed(settings, tmp_path, "twice", [(torch.optim.AdamW, "step", 20), then])) == reference


DAMAGE = {
    "flip": lambda content: content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 4])
    + content[len(content) // 2 + 1 :],
    "cut": lambda content: content[: len(content) // 3],
    "empty": lambda content: b"",
    "header only": lambda content: content[:40],
}  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "names"),
    [("flip", ("snapshot",))]
    + [pytest.param(damage, ("snapshot",), marks=pytest.mark.slow) for damage in ("cut", "empty", "header only")]
    + [pytest.param(damage, snapshot.NAMES, marks=pytest.mark.slow) for damage in ("header only",)],
)
def test_a_damaged_snapshot_falls_back_to_the_one_before(settings, tmp_path, reference, damage, names):
    """If both snapshots are damaged, the cycle starts from its beginning."""

    def work():
        at_call(snapshot, "write", 6, kill)
        carry_out(settings("damaged"), tmp_path / "runs/damaged")

    assert in_child(work) == -signal.SIGKILL
    (folder,) = (tmp_path / "damaged").glob("underway/*")
    assert all((folder / name).exists() for name in snapshot.NAMES)
    for name in names:
        (folder / name).write_bytes(DAMAGE[damage]((folder / name).read_bytes()))
    assert (snapshot.read(folder) is None) == (len(names) == 2)
    again = tmp_path / "runs/damaged-again"
    assert in_child(lambda: carry_out(settings("damaged"), again)) == 0
    assert bits(again) == reference


@pytest.mark.parametrize(
    ("number", "holder", "name", "call"),
    [
        (signal.SIGTERM, snapshot, "write", 4),
        pytest.param(signal.SIGINT, snapshot, "write", 4, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, cycle, "validate", 1, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_run_after_its_step_with_a_snapshot(
    settings, tmp_path, reference, number, holder, name, call
):
    def work():
        signals.listen()
        at_call(holder, name, call, lambda *_: os.kill(os.getpid(), number))
        carry_out(settings("stopped"), tmp_path / "runs/stopped")

    assert in_child(work) == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    (folder,) = (tmp_path / "stopped").glob("underway/*")
    state, _ = snapshot.read(folder)
    assert len(state["losses"]) > 0
    again = tmp_path / "runs/stopped-again"
    assert in_child(lambda: carry_out(settings("stopped"), again)) == 0
    assert bits(again) == reference


@pytest.mark.parametrize(
    ("number", "call", "line"),
    [
        (signal.SIGTERM, 0, "stopped in phase full after step 1 (SIGTERM); "),
        (signal.SIGINT, 1, "stopped in phase full after step 2 (SIGINT, Ctrl-C); "),
    ],
)
def test_a_stopped_run_says_after_which_step_and_by_which_signal(settings, tmp_path, number, call, line):
    def work():
        signals.listen()
        at_call(torch.optim.AdamW, "zero_grad", call, lambda *_: os.kill(os.getpid(), number))
        try:
            carry_out(settings("counted", "checklist=from_scratch", "lr=0.01", "batch_size=16"), tmp_path / "run")
        except signals.Stopped as stopped:
            print(stopped.line, file=sys.stderr)
            raise

    assert in_child(work, tmp_path / "says") == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert (tmp_path / "says").read_text().splitlines() == [f"{line}run the same command again to continue"]


def test_a_resumed_run_counts_its_steps_as_the_line_that_stopped_it(capsys):
    phase = SimpleNamespace(name="full", epochs=[SimpleNamespace(steps=n) for n in (10, 20, 30)])
    phase.epoch_numbers = lambda cycle: range(cycle, cycle + 1)
    log = SimpleNamespace(phase=phase, replay=lambda *_: None)
    fit.show_snapshot(log, 2, SimpleNamespace(losses=[0.5] * 7, epochs=[]))
    assert capsys.readouterr().out == "  full: cycle 3 resumes from a snapshot after step 37\n"


@pytest.mark.parametrize(
    ("number", "everyone", "code"),
    [
        (signal.SIGTERM, False, 143),
        pytest.param(signal.SIGTERM, True, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, True, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, True, 129, marks=pytest.mark.slow),
    ],
)
def test_loader_processes_end_with_the_run_that_is_stopped(number, everyone, code, tmp_path):
    """Loader processes ignore signals, even multiprocessing's SIGTERM at exit, so the run must close them itself."""
    typed = ["data=shapes", "data.limit=100", "size=64", "data.workers=2", "threads=1", "wandb=disabled", "lr=1e-3"]
    typed += [
        "epochs=1000",
        "verbose=true",
        "store.snapshot_s=0",
        f"store.dir={tmp_path}/store",
        f"hydra.run.dir={tmp_path}/run",
    ]
    with subprocess.Popen(
        [sys.executable, train.__file__, *typed], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as run:  # fmt: skip
        try:
            while "full: cycle 1, epoch 1" not in run.stdout.readline():
                assert run.poll() is None
            (os.killpg if everyone else os.kill)(run.pid, number)
            _, err = run.communicate(timeout=60)
            assert run.returncode == code and "stopped in phase full" in err and "Traceback" not in err
            with pytest.raises(ProcessLookupError):  # no process of its group is left
                os.killpg(run.pid, 0)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


def test_a_second_interrupt_exits_at_once(settings, tmp_path):
    def work():
        signals.listen()
        with signals.stopping(at_once=False):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

    assert in_child(work) == 130


def test_a_handler_from_before_is_called_after_the_snapshot():
    """The handler of submitit puts the job back into Slurm's queue."""
    called = []
    signal.signal(signal.SIGUSR2, lambda number, frame: called.append(number))
    try:
        signals.listen()
        with pytest.raises(signals.Stopped), signals.stopping(at_once=False):
            os.kill(os.getpid(), signal.SIGUSR2)
            assert signals.pending() == signal.SIGUSR2 and called == []
        assert called == [signal.SIGUSR2]
    finally:
        signals.asked.clear()
        signals.chained.clear()
        for name in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(name, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_under_nohup_a_run_and_a_sweep_survive_a_hangup():
    def work():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals.listen()
        os.kill(os.getpid(), signal.SIGHUP)

        def job(place):
            os.kill(os.getppid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
            return 7 if signals.pending() else 0

        codes = []
        assert processes.run_all([job, job], 1, lambda i, code: codes.append(code)) is None
        return 0 if codes == [0, 0] and signals.pending() is None else 1

    assert in_child(work) == 0


def test_one_more_cycle_trains_only_that_cycle(settings, tmp_path, monkeypatch):
    """scheduler.cycles=4 after 3 trains only the fourth, and gives the bits of training four at once."""
    common = ("checklist=eight", "epochs=null", "scheduler.cycle_mult=1", "batch_size=64")
    of_three, of_four = ((*common, f"scheduler.cycles={n}", f"scheduler.max_cycles={n}") for n in (3, 4))
    assert in_child(lambda: carry_out(settings("whole", *of_four), tmp_path / "runs/whole")) == 0
    carry_out(settings("grown", *of_three), tmp_path / "runs/three")
    steps = []
    whole = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *args, **kwargs: steps.append(1) or whole(*args, **kwargs))
    result = carry_out(settings("grown", *of_four), tmp_path / "runs/four")
    assert len(steps) == 1, "the fourth cycle is one epoch of one step"
    assert bits(tmp_path / "runs/four") == bits(tmp_path / "runs/whole")
    assert result["phase/full/reused"] == 3 and result["phase/head_precomputed/reused"] == 1
    assert result["phase/find_full/reused"] is True
    assert result["cost/seconds"] > result["cost/seconds_paid"]


def test_a_repeated_run_trains_nothing_and_logs_everything(settings, tmp_path, reference, monkeypatch):
    carry_out(settings("done"), tmp_path / "runs/again-0")
    monkeypatch.setattr(torch.optim.AdamW, "step", None)
    carry_out(settings("done"), tmp_path / "runs/again-1")
    assert bits(tmp_path / "runs/again-1") == reference


def test_fresh_trains_again_and_gives_the_same_bits(settings, tmp_path, reference, monkeypatch):
    assert in_child(lambda: carry_out(settings("done"), tmp_path / "runs/done")) == 0
    steps = []
    whole = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *args, **kwargs: steps.append(1) or whole(*args, **kwargs))
    carry_out(settings("done", "fresh=true"), tmp_path / "runs/fresh")
    everything = len(steps)
    assert everything > 20 and bits(tmp_path / "runs/fresh") == reference
    assert killed_at(
        torch.optim.AdamW, "step", everything - 1, lambda: carry_out(settings("half"), tmp_path / "runs/half")
    )
    steps.clear()
    carry_out(settings("half", "fresh=true"), tmp_path / "runs/anew")
    assert len(steps) == everything, "no snapshot is used"


def test_a_stopped_fresh_run_resumes_and_a_finished_one_starts_again(settings, tmp_path, reference, monkeypatch):
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)

    def fresh(name):
        return trained(settings("stopped", "fresh=true"), tmp_path / name, "fresh=true")

    assert killed_at(torch.optim.AdamW, "step", 20, lambda: fresh("killed"))
    steps = []
    whole = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *args, **kwargs: steps.append(1) or whole(*args, **kwargs))
    result, left = fresh("gone-on"), len(steps)
    assert bits(tmp_path / "gone-on")[0] == reference[0]
    assert result["cost/seconds"] > result["cost/seconds_paid"]
    fresh("anew")
    assert len(steps) - left > left > 0


def test_the_jobs_of_a_fresh_sweep_share_their_results(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    steps, whole = [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *args, **kwargs: steps.append(1) or whole(*args, **kwargs))

    def taken(name):
        before = len(steps)
        trained(settings("sweep", "fresh=true"), tmp_path / "swept" / name, "fresh=true", number=int(name))
        return len(steps) - before

    everything = taken("0")
    assert everything > 20 and taken("1") == 0
    end_fresh(tmp_path / "swept" / FRESH)
    assert taken("2") == everything


# A process that does what src/train.py does, and is killed before the n-th call of a function.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import faults, train, wandb
from thaw.report import tracker
holders = {"Tracker": tracker.Tracker, "wandb": wandb, "Run": wandb.Run}
if int(sys.argv[4]) >= 0:
    faults.at_call(holders[sys.argv[2]], sys.argv[3], int(sys.argv[4]), faults.kill)
sys.exit(faults.run_train(*sys.argv[6:], outputs=Path(sys.argv[5])))
"""


@pytest.fixture
def with_wandb(tmp_path):
    """Return with_wandb(folder, holder, function, call): a run with W&B offline, killed at that call."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA", "THAW"))}

    def ran(folder, holder="Tracker", function="begin", number=-1):
        helpers = Path(in_child.__code__.co_filename).parent
        typed = [arg for arg in SMALL if not arg.startswith("wandb")] + [
            "wandb=offline", f"wandb.dir={tmp_path}/wandb", f"store.dir={tmp_path}/store", f"hydra.run.dir={folder}",
        ]  # fmt: skip
        command = [sys.executable, "-c", KILLED, helpers, holder, function, number, tmp_path / "out"]
        return subprocess.run(
            [*map(str, command), *typed],
            capture_output=True, text=True, env=environment | {"HOME": str(tmp_path)}, timeout=240,
        )  # fmt: skip

    return ran


@pytest.mark.slow
@pytest.mark.parametrize(
    "points",
    [
        [("wandb", "init", 0), ("Run", "define_metric", 3)],
        [("Tracker", "log", 12), ("Tracker", "table", 1), ("Run", "finish", 0)],
    ],
    ids=lambda points: " ".join(f"{p[1]}{p[2]}" for p in points),
)
def test_killed_inside_the_calls_of_wandb(with_wandb, tmp_path, reference, points):
    for attempt, point in enumerate(points):
        done = with_wandb(tmp_path / f"run-{attempt}", *point)
        assert done.returncode == -signal.SIGKILL, done.stderr
    done = with_wandb(tmp_path / "last")
    assert done.returncode == 0, done.stderr
    assert bits(tmp_path / "last") == reference
