"""The local launcher: jobs do not affect each other, and a signal to the sweep stops all of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sweeps
import torch
from brief import FIND
from faults import ended, in_child, run_train, start_child

import train
from hydra_plugins.job_endings import Progress, report_ending
from hydra_plugins.local_launcher import first_of_equals, job_environment, jobs_at_once, say_identical
from thaw.runtime import machine, processes, signals
from thaw.runtime.errors import UserError
from thaw.runtime.job_status import write_status
from thaw.runtime.machine import listed_gpus
from thaw.store import code_hash
from thaw.store.publish import sha256_of

STATE = []  # filled by each job in its own process
QUICK = ("size=32", "data.limit=60", "smoke=true", "wandb=disabled", "checklist=head_only")

SLOW = ("size=32", "data.limit=200", "threads=1", "wandb=disabled", "store.snapshot_s=0", "checklist=fine_tune")
SLOW += ("epochs=10", *FIND)


def test_identical_jobs_run_once(capsys):
    same = first_of_equals([["a=1", "b=2"], ["a=2"], ["b=2", "a=1"]])
    assert same == [0, 1, 0]
    say_identical(same, 5)
    assert capsys.readouterr().out == "note: job 7 is the same as job 5 and runs only once\n"


@pytest.mark.parametrize(
    ("n_jobs", "gpus", "cores", "at_once"),
    [("auto", 4, 64, 4), ("auto", 1, 64, 1), ("auto", 0, 2, 2), ("auto", 0, 1, 1), ("auto", 0, 16, 4), (3, 8, 8, 3),
     (-1, 0, 6, 6)],
)  # fmt: skip
def test_number_of_jobs_at_once(n_jobs, gpus, cores, at_once):
    assert jobs_at_once(n_jobs, gpus, cores) == at_once


@pytest.mark.parametrize("n_jobs", [0, -2, "many", True, 1.5])
def test_a_wrong_number_of_jobs_is_refused(n_jobs):
    with pytest.raises(UserError) as refused:
        jobs_at_once(n_jobs, 0, 8)
    assert refused.value.code == 2


def test_a_job_gets_one_gpu_and_its_share_of_the_cores(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5,7")
    assert listed_gpus() == ["3", "GPU-5", "7"]
    given = [job_environment(slot, 3, listed_gpus())["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert given == ["3", "GPU-5", "7"]
    assert job_environment(0, 1, listed_gpus()) == {}, "a single job has all GPUs"
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert listed_gpus() == [] and "CUDA_VISIBLE_DEVICES" not in job_environment(1, 2, [])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    for name, value in job_environment(2, 3, []).items():
        monkeypatch.setenv(name, value)
    assert machine.cores() == 2
    for name in (machine.AT_ONCE, "SLURM_CPUS_PER_TASK"):
        for nonsense in ("abc", "0", "-1", ""):
            monkeypatch.setenv(name, nonsense)
            assert machine.cores() in (2, 8), "an invalid value is ignored"


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 8), ("400000 100000", 4), ("50000 100000", 1), (None, 8)])
def test_a_container_has_the_cores_of_its_quota(quota, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(machine, "CPU_MAX", tmp_path / "cpu.max")
    if quota:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert machine.cores() == cores


def test_parallel_processes_and_their_exit_codes(tmp_path):
    """Each of two slots runs one process at a time; a killed process has its signal as code, the others go on."""

    def work(i, slot):
        mark = tmp_path / f"slot-{slot}"
        mark.touch(exist_ok=False)
        time.sleep(0.02)
        mark.unlink()
        if i == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    def whole():
        codes = {}
        works = [lambda slot, i=i: work(i, slot) for i in range(5)]
        assert processes.run_all(works, 2, codes.__setitem__) is None
        assert codes == {0: 0, 1: 1, 2: -signal.SIGKILL, 3: 3, 4: 4}

    assert in_child(whole) == 0


def test_no_state_of_a_job_reaches_the_next(tmp_path):
    def work(i, slot):
        seen = {"left": os.environ.get("LEFT"), "threads": torch.get_num_threads(), "folder": os.getcwd()}
        seen |= {"random": torch.rand(1).item(), "bytes": resident()}
        (tmp_path / str(i)).write_text(json.dumps(seen))
        os.environ["LEFT"] = "behind"
        os.chdir("/")
        torch.set_num_threads(3)
        STATE.append(b"x" * 200_000_000)  # not a tensor: a forked process with three threads may hang

    def whole():
        works = [lambda slot, i=i: work(i, slot) for i in range(3)]
        assert processes.run_all(works, 1, lambda i, code: None) is None
        first, *others = (json.loads((tmp_path / str(i)).read_text()) for i in range(3))
        size = first.pop("bytes")
        for other in others:
            assert abs(other.pop("bytes") - size) < 20e6
            assert other == first

    assert in_child(whole) == 0


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fail_by_seed(settings):
    """Fail in a different way for each seed from 1 to 4."""
    if settings.seed == 1:
        raise RuntimeError("boom")
    if settings.seed == 2:
        sys.exit(7)
    if settings.seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if settings.seed == 4:
        raise MemoryError


@pytest.mark.parametrize("launcher", [pytest.param("basic", marks=pytest.mark.slow), "joblib"])
def test_a_failing_job_does_not_affect_others_and_the_same_command_runs_the_rest(launcher, tmp_path, monkeypatch):
    sweep, printed = tmp_path / "sweep", tmp_path / "printed"
    typed = ("-m", "seed=0,1,2,3,4,5,5", f"hydra/launcher={launcher}", *QUICK, f"store.dir={tmp_path}/store")

    def again(fault):
        def faulty(settings, request, *_):
            folder = request.folder
            assert STATE == [], "no state of another job"
            assert code_hash.hash_of.cache_info().currsize, "the code was hashed when the sweep started"
            STATE.append(settings.seed)
            fault(settings)
            (folder / "model.safetensors").write_bytes(b"a model")
            result = {"best/accuracy": 0.5, "model_sha256": sha256_of(folder / "model.safetensors")}
            (folder / "result.json").write_text(json.dumps(result))
            return result

        monkeypatch.setattr("thaw.train.job.train_job", faulty)
        return in_child(lambda: run_train(*typed, f"hydra.sweep.dir={sweep}", outputs=tmp_path / "out"), printed)

    assert again(fail_by_seed) == 1, "the exit code of the first failed job"
    found = [json.loads((sweep / f"{n}/status.json").read_text()) for n in range(6)]
    assert [one["state"] for one in found] == ["done", "failed", "failed", "failed", "failed", "done"]
    assert [one.get("code") for one in found] == [None, 1, 7, 5, 5, None]
    assert "boom" in found[1]["line"] and "sys.exit(7)" in found[2]["line"]
    assert "signal 9" in found[3]["line"] and "memory" in found[3]["line"] and "out of memory" in found[4]["line"]
    assert not (sweep / "6").exists(), "the same as job 5"
    assert printed.read_text().count("error: ") == 4 and "Traceback" not in printed.read_text()
    done_before = (sweep / "0/result.json").stat().st_mtime_ns
    assert again(lambda settings: None) == 0
    assert all(json.loads((sweep / f"{n}/status.json").read_text())["state"] == "done" for n in range(6))
    assert (sweep / "0/result.json").stat().st_mtime_ns == done_before, "a finished job does not run again"


@pytest.mark.parametrize(("times", "code"), [(2, 130), (3, -signal.SIGKILL)])
def test_a_job_that_ignores_a_signal_exits_at_the_second_and_is_killed_at_the_third(times, code, tmp_path):
    """Each signal is sent only after the job has received the one before it."""
    heard = tmp_path / "heard"

    def stubborn(slot):
        before = signals.on_signal

        def note(number, frame):
            with heard.open("a") as file:
                file.write("!")
            if times == 2:
                before(number, frame)

        signal.signal(signal.SIGINT, note)
        heard.touch()
        while True:
            time.sleep(0.01)

    def whole():
        codes = {}
        assert processes.run_all([stubborn, stubborn], 1, codes.__setitem__) == signal.SIGINT
        assert codes == {0: code}, "the second job never started"

    parent = start_child(whole)
    end = time.monotonic() + 60
    for count in range(times):
        while time.monotonic() < end and not (heard.exists() and len(heard.read_text()) >= count):
            time.sleep(0.01)
        os.kill(parent, signal.SIGINT)
    assert ended(parent) == 0


def all_end(pids: list[int], within: float) -> bool:
    """Return whether all these processes end within that many seconds."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_to_a_sweep_stops_its_jobs_and_starts_no_more(number, code, tmp_path, monkeypatch):
    def patient(job, log):
        with signals.stopping(at_once=False):
            (tmp_path / f"pid-{job.settings.seed}-{os.getpid()}").touch()
            while not signals.pending():
                time.sleep(0.01)
            signals.raise_stopped(signals.pending(), "in full")

    monkeypatch.setattr("thaw.train.run.run_plan", patient)
    typed = ("-m", "seed=0,1,2,3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *QUICK)
    folders = (f"store.dir={tmp_path}/store", f"hydra.sweep.dir={tmp_path}/sweep")
    parent = start_child(lambda: run_train(*typed, *folders, outputs=tmp_path / "out"), tmp_path / "printed")
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("pid-*"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    jobs = [int(file.name.split("-")[2]) for file in tmp_path.glob("pid-*")]
    os.kill(parent, number)
    assert ended(parent) == code
    assert all_end(jobs, within=3)
    for n in (0, 1):
        found = json.loads((tmp_path / f"sweep/{n}/status.json").read_text())
        assert found["state"] == "stopped" and "stopped in full" in found["line"]
        assert found["code"] == (143 if number == signal.SIGKILL else code)
    assert not list(tmp_path.glob("pid-[23]-*")), "no more were started"


@pytest.mark.slow
def test_a_sweep_continued_after_ctrl_c_ends_with_the_bits_of_an_undisturbed_one(tmp_path):
    """A terminal sends Ctrl-C to the whole foreground process group."""
    root = Path(train.__file__).resolve()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA", "THAW"))}

    def sweep(name, *more):
        typed = ["-m", "seed=0,1,2", *SLOW, *more, f"store.dir={tmp_path}/store-{name}"]
        return subprocess.Popen(
            [sys.executable, root, *typed, f"hydra.sweep.dir={tmp_path}/{name}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        )  # fmt: skip

    quiet = sweep("quiet")
    assert quiet.communicate(timeout=200) and quiet.returncode == 0
    for launcher, stopped in (("basic", 1), ("joblib", 2)):
        disturbed = sweep(launcher, f"hydra/launcher={launcher}")
        end, rows = time.monotonic() + 100, tmp_path / launcher / "0/metrics.jsonl"
        while time.monotonic() < end and not (rows.exists() and len(rows.read_text().splitlines()) > 30):
            time.sleep(0.05)
        os.killpg(disturbed.pid, signal.SIGINT)
        _, err = disturbed.communicate(timeout=30)
        assert disturbed.returncode == 130 and "run the same command again" in err and "Traceback" not in err
        states = [json.loads(file.read_text())["state"] for file in (tmp_path / launcher).glob("*/status.json")]
        assert states == ["stopped"] * stopped
        again = sweep(launcher, f"hydra/launcher={launcher}")
        assert again.communicate(timeout=200) and again.returncode == 0
        for n in range(3):
            first, second = ((tmp_path / name / f"{n}/model.safetensors").read_bytes() for name in ("quiet", launcher))
            assert first == second


@pytest.mark.parametrize("word", ["seed=range(0)", "data.root=glob(/nowhere/*)"])
@pytest.mark.parametrize("plan", ["plan_only=true", "plan_only=false"])
def test_a_sweep_of_no_jobs_is_refused(tmp_path, word, plan):
    typed = ("-m", word, plan, f"store.dir={tmp_path}/store", f"hydra.sweep.dir={tmp_path}/sweep")
    assert in_child(lambda: run_train(*typed, outputs=tmp_path / "out"), tmp_path / "printed") == 2
    assert "error: -m: the sweep has no jobs: a glob or a range in it is empty" in (tmp_path / "printed").read_text()


@pytest.mark.parametrize(("wrote", "code"), [(True, 0), (False, 5)])
def test_the_status_of_an_earlier_attempt_does_not_make_a_killed_job_done(tmp_path, capsys, wrote, code):
    write_status(tmp_path, state="done")
    assert report_ending(tmp_path, -9, None, Progress(1, ()), wrote) == code


def test_a_job_that_printed_to_a_file_has_one_line_in_the_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 120.0)
    progress = Progress(4, {"lr", "seed"}, done=1, began=100.0)
    sweeps.make_job(tmp_path / "3", "lr=0.2", accuracy=0.5)
    assert report_ending(tmp_path / "3", 0, tmp_path / "3/output.txt", progress, wrote=False) == 0
    for number, warnings in enumerate(([], ["warning: a", "warning: b"])):
        folder, result = tmp_path / str(number), {"warnings": warnings, "cost/seconds_paid": 2.0}
        sweeps.make_job(folder, "lr=0.1", "size=32", f"seed={number}", accuracy=0.75, result=result)
        assert report_ending(folder, 0, folder / "output.txt", progress) == 0
    (tmp_path / "2").mkdir()
    write_status(tmp_path / "2", state="failed", code=4, line="not finite")
    assert report_ending(tmp_path / "2", 4, tmp_path / "2/output.txt", progress) == 4
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "job 3 was done before: lr 0.2: accuracy 50.00%, 10.0 s (1 of 4)",
        "job 0 done: lr 0.1 · s0: accuracy 75.00%, 2.0 s (2 of 4, about 40.0 s left)",
        f"job 1 done: lr 0.1 · s1: accuracy 75.00%, 2.0 s, 2 warnings in {tmp_path}/1/output.txt "
        "(3 of 4, about 10.0 s left)",
    ]
    assert printed.err == f"error: job 2: not finite; see {tmp_path}/2/output.txt\n"
