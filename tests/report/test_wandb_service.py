"""Jobs of a sweep share one process of W&B, and do without it if it is gone."""

import os
import time

import offline
import pytest
from faults import in_child

from thaw.config.schema import Wandb
from thaw.report import wandb_service
from thaw.report.tracker import RunIdentity, Tracker
from thaw.report.wandb_service import TOKEN, shared_service
from thaw.runtime import processes


def log(folder, name):
    """Log a row to an offline W&B run; return the variable by which W&B finds its process."""
    folder.mkdir()
    tracker = Tracker(folder, Wandb("offline", None, None, str(folder / "wandb")), lambda line: None)
    tracker.begin(RunIdentity(name, name, None, (), None, {}))
    tracker.log({"step": 1, "train/loss": 0.5})
    tracker.finish(0)
    return os.environ.get(TOKEN, "")


def rows(folder):
    return [offline.read_ended(file)["history"] for file in folder.glob("wandb/offline-run-*/run-*.wandb")]


@pytest.mark.parametrize("gone", [False, True])
def test_jobs_share_a_process_and_do_without_one_that_is_gone(tmp_path, monkeypatch, gone):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv(TOKEN, raising=False)

    def whole():
        def work(number, slot):
            if gone:
                os.environ[TOKEN] = "3-1-unix-/nowhere/socket"
            (tmp_path / f"token-{number}").write_text(log(tmp_path / str(number), f"run{number}"))
            return 0

        codes = {}
        with shared_service():
            works = [lambda slot, n=n: work(n, slot) for n in range(2)]
            assert processes.run_all(works, 1, codes.__setitem__) is None
        assert codes == {0: 0, 1: 0} and TOKEN not in os.environ
        with pytest.raises(ChildProcessError):  # none is left
            os.waitpid(-1, 0)

    assert in_child(whole, tmp_path / "says") == 0, (tmp_path / "says").read_text()
    for number in range(2):
        ((row,),) = rows(tmp_path / str(number))
        assert row["train/loss"] == 0.5
    tokens = [(tmp_path / f"token-{number}").read_text() for number in range(2)]
    assert (tokens[0] == tokens[1]) != gone and "nowhere" not in "".join(tokens)


def test_a_process_of_the_user_is_left_alone(monkeypatch):
    monkeypatch.setenv(TOKEN, "theirs")
    with shared_service():
        assert os.environ[TOKEN] == "theirs"
    assert os.environ[TOKEN] == "theirs"


def test_what_a_job_leaves_behind_does_not_keep_the_sweep_waiting(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)
    monkeypatch.setattr(wandb_service, "PATIENCE", 2)
    ended, given_up = tmp_path / "ended", tmp_path / "given up"

    def leave_behind(slot):
        if not os.fork():  # holds what the job held until the sweep has ended
            for _ in range(3000):
                if ended.exists():
                    os._exit(0)
                time.sleep(0.01)
            given_up.touch()
            os._exit(0)
        return 0

    def whole():
        with shared_service():
            assert processes.run_all([leave_behind], 1, lambda i, code: None) is None
        assert not given_up.exists()
        ended.touch()

    assert in_child(whole, tmp_path / "says") == 0, (tmp_path / "says").read_text()
