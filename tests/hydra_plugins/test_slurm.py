"""Sweeps on a real one-node Slurm (set up by tests/slurm.sh): jobs that fail, are requeued, killed or cancelled."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from brief import FIND

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("size=32", "data.limit=200", "threads=1", "wandb=disabled", "store.snapshot_s=0")
LONG = ("checklist=fine_tune", "epochs=15", *FIND)


def slurm_answers() -> bool:
    return bool(shutil.which("sinfo")) and subprocess.run(["sinfo"], capture_output=True, timeout=30).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(
        os.environ.get("THAW_SLURM") != "required" and not slurm_answers(),
        reason="no Slurm found; tests/slurm.sh sets one up",
    ),
]


def start(tmp_path, name, *args):
    """Start a sweep in the folder tmp_path/name with a store of its own; return its process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA", "THAW"))}
    folders = (f"store.dir={tmp_path}/store-{name}", f"hydra.sweep.dir={tmp_path}/{name}")
    return subprocess.Popen(
        [sys.executable, str(ROOT / "src/train.py"), "-m", *args, *SMALL, *folders],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip


def until(condition, what: str, seconds: float = 90):
    """Wait until `condition()` is true and return its value; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return found


def steps_of(folder: Path) -> int:
    """Return the number of rows of metrics that a job has logged."""
    file = folder / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def queued(name: str) -> str:
    """Return the id, <array>_<number>, of the queued job with this `--job-name`; '' if there is none."""
    return next(iter(output_of("squeue", "-h", "-r", "-n", name, "-o", "%i").split()), "")


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def states(sweep: Path) -> list[str]:
    files = sorted(sweep.glob("*/status.json"), key=lambda file: int(file.parent.name))
    return [json.loads(file.read_text())["state"] for file in files]


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_a_sweep_of_four_with_one_that_fails(tmp_path):
    typed = ("seed=0,1", "device=cpu,cuda", "smoke=true", "hydra/launcher=slurm")
    sweep = start(tmp_path, "four", *typed)
    out, err = sweep.communicate(timeout=200)
    assert sweep.returncode == 5, err
    assert states(tmp_path / "four") == ["done", "failed", "done", "failed"]
    assert "2/4 jobs done" in out and err.count("error: ") == 2 and "device=cpu" in err
    assert (tmp_path / "four/leaderboard.md").exists()


@pytest.mark.parametrize("asks", ["scontrol requeue", "scancel --signal=USR2"])
def test_a_requeued_job_ends_with_the_bits_of_an_undisturbed_one(asks, tmp_path):
    """Requeued by Slurm, as after preemption, and by itself, after the warning that its time is nearly up."""
    quiet = start(tmp_path, "quiet", *LONG)
    out, err = quiet.communicate(timeout=200)
    assert quiet.returncode == 0, err
    name = f"requeued{os.getpid()}"  # the other case may run in another worker at the same time
    sweep = start(tmp_path, "requeued", *LONG, "hydra/launcher=slurm", f"hydra.launcher.name={name}")
    job = until(lambda: queued(name), "in the queue")
    until(lambda: steps_of(tmp_path / "requeued/0") > 20, "in the middle of a phase")
    subprocess.run([*asks.split(), job], check=True)
    until(lambda: "PENDING" in output_of("squeue", "-h", "-j", job, "-o", "%T"), "back in the queue")
    output_of("scontrol", "update", f"jobid={job}", "starttime=now")  # otherwise it waits for two minutes
    out, err = sweep.communicate(timeout=200)
    assert sweep.returncode == 0, err
    assert "1/1 jobs done" in out
    printed = "".join(file.read_text() for file in (tmp_path / "requeued/.submitit").glob("*/*_log.out"))
    assert "resumes from a snapshot" in printed, "the snapshot of the first attempt"
    assert weights(tmp_path / "requeued/0") == weights(tmp_path / "quiet/0")


def test_a_sweep_whose_command_was_killed_waits_for_its_running_jobs(tmp_path):
    typed = ("seed=0,1", *LONG, "hydra/launcher=slurm", "hydra.launcher.name=lost")
    sweep = start(tmp_path, "lost", *typed)
    until(lambda: steps_of(tmp_path / "lost/0") > 20, "under way")
    sweep.kill()
    sweep.communicate()
    again = start(tmp_path, "lost", *typed)
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    assert "still in Slurm's queue" in out and "2/2 jobs done" in out
    printed = "".join(file.read_text() for file in (tmp_path / "lost/.submitit").glob("*/*_log.out"))
    assert printed.count("already done") == 2 and "resumes from a snapshot" not in printed


def test_a_killed_job_has_failed_and_the_same_command_trains_only_that_one(tmp_path):
    typed = ("seed=0,1", *LONG, "hydra/launcher=slurm")
    sweep = start(tmp_path, "killed", *typed)
    until(lambda: steps_of(tmp_path / "killed/1") > 20, "under way")
    os.kill(json.loads((tmp_path / "killed/1/status.json").read_text())["pid"], 9)
    out, err = sweep.communicate(timeout=200)
    assert sweep.returncode == 5 and "1/2 jobs done" in out, err
    assert "failed, signal 9" in json.loads((tmp_path / "killed/1/status.json").read_text())["line"]
    kept = (tmp_path / "killed/0/result.json").stat().st_mtime_ns
    again = start(tmp_path, "killed", *typed)
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0 and "2/2 jobs done" in out, err
    assert (tmp_path / "killed/0/result.json").stat().st_mtime_ns == kept


def test_halving_on_slurm(tmp_path):
    typed = ("hydra/sweeper=halving", "lr_factor=0.1,1", "checklist=fine_tune", *FIND, "hydra/launcher=slurm")
    sweep = start(tmp_path, "halved", *typed)
    out, err = sweep.communicate(timeout=200)
    assert sweep.returncode == 0 and "2/2 jobs done" in out, err
    results = [json.loads((tmp_path / f"halved/{n}/result.json").read_text()) for n in range(3)]
    whys = [result["phase/full/stopped_because"] for result in results]
    assert whys == ["stop_after=1", "stop_after=1", "all planned cycles trained"]


def test_a_cancelled_job_has_failed_and_the_others_are_done(tmp_path):
    sweep = start(
        tmp_path, "cancelled", "epochs=2,400", "checklist=fine_tune", *FIND, "hydra/launcher=slurm",
        "hydra.launcher.name=cancelled",
    )  # fmt: skip
    array = until(lambda: queued("cancelled"), "in the queue").partition("_")[0]
    until(lambda: steps_of(tmp_path / "cancelled/1") > 20, "under way")
    subprocess.run(["scancel", f"{array}_1"], check=True)
    out, err = sweep.communicate(timeout=200)
    assert sweep.returncode == 143, err
    assert states(tmp_path / "cancelled") == ["done", "stopped"]
    assert "1/2 jobs done" in out and "stopped in" in err


def test_ctrl_c_cancels_the_jobs_and_the_same_command_goes_on(tmp_path):
    typed = ("seed=0,1,2,3", *LONG, "hydra/launcher=slurm", "hydra.launcher.name=interrupted")
    sweep = start(tmp_path, "interrupted", *typed)
    until(lambda: steps_of(tmp_path / "interrupted/0") > 20, "under way")
    sweep.send_signal(2)
    out, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 130, err
    assert "0/4 jobs done" in out and "run the same command again" in err
    assert queued("interrupted") == ""
