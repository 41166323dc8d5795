"""W&B online, with a fake server: what arrives, and that a failing server costs seconds and never the run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import offline
import pytest
import wandb_server

SRC = Path(__file__).resolve().parents[2] / "src"
LONGEST = 60  # seconds that a run may take in all; W&B alone would retry for minutes
ROWS = 12
NOISE = ("wandb: [wandb.login()]", "wandb: WARNING Artifact", "wandb: 500 encountered")  # printed by W&B itself
JOB = """
import json, sys
from pathlib import Path
from thaw.config.schema import Wandb
from thaw.report import tracker as tracking
folder = Path(sys.argv[1])
identity = tracking.RunIdentity("abcd1234", "sgdr · s1", "a sweep", ("digits",), None, {"seed": 1})
tracker = tracking.Tracker(folder, Wandb(sys.argv[2], None, None, str(folder / "wandb")), print)
tracker.begin(identity)
for step in range(int(sys.argv[3])):
    if step == 6 and sys.argv[4] == "midway":
        print("midway", flush=True)
        sys.stdin.readline()
    tracker.log({"step": step, "train/loss": 1 / (step + 1)})
tracker.summary({"best/accuracy": 0.5})
tracker.table("confusion", ["truth", "cat"], [["cat", 1]])
if sys.argv[4] == "end":
    print("midway", flush=True)
    sys.stdin.readline()
tracker.finish(0)
print(json.dumps(tracker.unsent))
"""


@pytest.fixture
def server():
    server = wandb_server.Server()
    yield server
    server.close()


def run(folder, server, midway=lambda: None, mode="auto", when="midway"):
    """Track a run in a process; return the lines it printed on both streams, and the folder left to sync."""
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    environment |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "x" * 40, "PYTHONPATH": str(SRC)}
    command = [sys.executable, "-c", JOB, str(folder), mode, str(ROWS), when]
    started = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as job:
        lines = []
        for line in job.stdout:
            if line == "midway\n":
                midway()
                job.stdin.write("\n")
                job.stdin.flush()
            else:
                lines.append(line.rstrip())
        assert job.wait(60) == 0, lines
    assert time.monotonic() - started < LONGEST
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == ROWS
    *said, unsent = [line for line in lines if not line.startswith(NOISE)]
    return said, json.loads(unsent)


@pytest.mark.slow
def test_a_run_arrives(tmp_path, server):
    said, unsent = run(tmp_path, server)
    assert said == [f"wandb: {server.url}/tester/thaw/runs/abcd1234"]
    assert unsent is None
    begun = server.runs[0]
    assert (begun["name"], begun["displayName"], begun["groupName"]) == ("abcd1234", "sgdr · s1", "a sweep")
    assert (begun["project"], begun["jobType"], begun["tags"]) == ("thaw", "train", ["digits"])
    assert json.loads(begun["config"])["seed"] == {"value": 1}
    assert [row["step"] for row in server.rows] == list(range(ROWS))
    assert server.summary["best/accuracy"] == 0.5 and server.summary["confusion"]["_type"] == "table-file"
    assert server.exit == 0


def fails(server, how):
    if how == "dies":
        server.shutdown()
        server.socket.close()
    else:
        server.broken = {"500": 500, "garbage": b"<html>"}[how]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["dies", "500", "garbage"])
def test_a_server_that_fails_from_the_start_leaves_a_run_to_sync(tmp_path, server, how):
    fails(server, how)
    said, unsent = run(tmp_path, server, mode="online")
    (line,) = said
    assert line.startswith("wandb: offline (") and line.endswith(f"later: wandb sync {unsent}")
    told = offline.read_ended(Path(unsent) / "run-abcd1234.wandb")
    assert len(told["history"]) == ROWS and told["exit"] == 0 and told["summary"]["best/accuracy"] == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("how", ["dies", "500", "garbage"])
def test_a_server_that_fails_midway_leaves_a_run_to_sync(tmp_path, server, how):
    said, unsent = run(tmp_path, server, lambda: fails(server, how))
    assert len(said) == 2 and said[1].startswith("wandb: stopped (") and said[1].endswith(f"wandb sync {unsent}")
    told = offline.read_ended(Path(unsent) / "run-abcd1234.wandb")
    assert len(told["history"]) == ROWS and told["exit"] == 0 and told["summary"]["best/accuracy"] == 0.5


@pytest.mark.slow
def test_a_server_that_answers_nonsense_at_the_end_is_noticed(tmp_path, server):
    """It answers with status 200, which W&B takes for success."""
    said, unsent = run(tmp_path, server, lambda: fails(server, "garbage"), when="end")
    assert len(said) == 2 and "may not have everything (" in said[1] and said[1].endswith(f"wandb sync {unsent}")
