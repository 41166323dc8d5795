"""metrics.jsonl and W&B get the same rows, and no failure of W&B affects the run."""

import json
import logging
import math
import os
import socket
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import offline
import pytest

from thaw.config.schema import Wandb
from thaw.report import tracker, wandb_mode, wandb_run
from thaw.report.tracker import RunIdentity, Tracker
from thaw.runtime.errors import UserError
from thaw.runtime.job_status import write_status
from thaw.runtime.signals import Stopped

CONFIG = {"cfg": {"lr": [1, 2]}, "seed": 1}
IDENTITY = tracker.RunIdentity("abcd1234", "sgdr · s1", "a sweep", ("digits", "x" * 80), "a note", CONFIG)


def opened(tmp_path, mode="offline", say=print):
    (tmp_path / "run").mkdir(exist_ok=True)
    wandb = Wandb(mode, None, None, str(tmp_path / "wandb"))
    opened = Tracker(tmp_path / "run", wandb, say)
    opened.begin(IDENTITY)
    return opened


def test_the_offline_run_has_the_rows_of_metrics_jsonl(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    said = []
    tracker = opened(tmp_path, say=said.append)
    rows = [{"find_head/rate": 10.0**-k, "find_head/loss": 2.0 - k / 10} for k in range(5)]
    rows += [{"step": s, "epoch": s / 4, "phase": "full", "train/loss": 1 / s, "lr/head": 0.1} for s in range(1, 9)]
    rows += [{"step": 8, "epoch": 2, "phase": "full", "valid/loss": 0.25, "valid/accuracy": 0.5}]
    for row in rows:
        tracker.log(row)
    tracker.table("most_wrong", ["image", "path"], [[np.zeros((4, 4, 3), np.uint8), "a.png"]])
    sync = tracker.unsent
    tracker.summary({"best/accuracy": 0.5, "test/accuracy": 0.4})
    tracker.finish(3)
    assert [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()] == rows

    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert sync == str(file.parent)
    run = offline.read_ended(file)
    history = [{k: v for k, v in row.items() if not k.startswith("_")} for row in run["history"]]
    assert history[: len(rows)] == rows
    assert (run["id"], run["name"], run["group"], run["project"]) == ("abcd1234", "sgdr · s1", "a sweep", "thaw")
    assert run["job_type"] == "train" and run["tags"] == ["digits", "x" * 64]
    assert run["config"]["cfg"] == {"lr": [1, 2]} and run["config"]["seed"] == 1
    assert run["summary"]["best/accuracy"] == 0.5 and run["summary"]["test/accuracy"] == 0.4
    assert run["exit"] == 3
    assert run["axes"]["lr/*"] == "step" and run["axes"]["valid/loss"] == "epoch"
    assert run["axes"]["find_head/*"] == "find_head/rate"
    assert len(said) == 1 and "wandb leet" in said[0]


def test_nan_and_inf_are_null(tmp_path):
    row = {"step": 1, "train/loss": math.nan, "lr": np.float64("inf"), "deep": {"a": [-math.inf, 1.5, "x", None, True]}}
    Tracker(tmp_path, None, print).log(row)
    written = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert written == {"step": 1, "train/loss": None, "lr": None, "deep": {"a": [None, 1.5, "x", None, True]}}
    write_status(tmp_path, state="running", code=math.nan)
    assert json.loads((tmp_path / "status.json").read_text(), parse_constant=pytest.fail)["code"] is None


def test_two_runs_in_one_process_are_separate(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for n in range(2):
        (tmp_path / str(n)).mkdir()
        tracker = Tracker(tmp_path / str(n), Wandb("offline", None, None, str(tmp_path / "wandb")))
        tracker.begin(RunIdentity(f"run{n}", f"n {n}", None, (), None, {}))
        tracker.log({"step": n})
        if n:
            tracker.finish(0)
    runs = [offline.read_ended(file) for file in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")]
    assert sorted((run["id"], run["history"][0]["step"]) for run in runs) == [("run0", 0), ("run1", 1)]


@pytest.mark.parametrize("call", ["log", "finish", "table"])
def test_a_failure_of_wandb_is_one_line_and_ends_its_run(tmp_path, call):
    class Broken:
        dir = str(tmp_path / "x" / "files")
        summary = property(lambda self: 1 / 0)

        def __getattr__(self, name):
            def fails(*args, **kwargs):
                raise RuntimeError("the core died")

            return fails

    said = []
    tracker = Tracker(tmp_path, None, said.append, run=Broken(), local="x")
    if call == "log":
        tracker.log({"step": 1})
        tracker.log({"step": 2})
    elif call == "table":
        tracker.table("t", ["a"], [[1]])
    tracker.summary({"a": 1})
    tracker.finish(0)
    why = "the core died" if call == "log" else "ZeroDivisionError"
    assert len(said) == 1 and why in said[0] and "metrics.jsonl" in said[0]
    if call == "log":
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    said = []
    tracker = opened(tmp_path, say=said.append)
    tracker.log({"step": 1})
    tracker.finish(0)
    assert tracker.unsent is None
    assert len(said) == 1 and "not used" in said[0]


def test_disabled_writes_metrics_and_nothing_else(tmp_path):
    tracker = opened(tmp_path, "disabled")
    tracker.log({"step": 1})
    tracker.finish(0)
    assert tracker.unsent is None
    assert not (tmp_path / "wandb").exists()


@pytest.fixture
def listening():
    server = socket.create_server(("127.0.0.1", 0))
    yield server.getsockname()[1]
    server.close()


def test_auto_is_online_only_with_a_login_and_a_server_that_answers(monkeypatch, listening, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening}")
    assert wandb_mode.choose_mode("auto")[0] == "offline" and "not logged in" in wandb_mode.choose_mode("auto")[1]
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_mode.choose_mode("auto")[0] == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    assert wandb_mode.choose_mode("auto")[0] == "offline" and "does not answer" in wandb_mode.choose_mode("auto")[1]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:2")
    monkeypatch.setenv("no_proxy", "")
    assert wandb_mode.choose_mode("auto")[0] == "online", "only the proxy can tell"
    monkeypatch.delenv("http_proxy")
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "netrc").write_text("machine 127.0.0.1\n  login user\n  password key\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening}")
    assert wandb_mode.choose_mode("auto")[0] == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode.choose_mode("auto")[0] == "disabled"
    assert wandb_mode.choose_mode("offline")[0] == "offline"


def test_the_last_error_in_wandbs_own_log(tmp_path):
    assert wandb_run.server_complaint(tmp_path) == ""
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs/debug-internal.log"
    log.write_text('{"level":"INFO","msg":"fine"}\nnot json\n')
    assert wandb_run.server_complaint(tmp_path) == ""
    log.write_text('{"level":"ERROR","msg":"upserter:","error":"invalid  \'<\'"}\n{"level":"INFO","msg":"fine"}\n{"lev')
    assert wandb_run.server_complaint(tmp_path) == "upserter: invalid '<'"


def of_blocks(tmp_path, error, begun, refused):
    """Return the W&B runs of a block that ends with `error`, {name: (exit code, error in the summary)}."""
    (tmp_path / "run").mkdir()
    wandb = Wandb("offline", None, None, str(tmp_path / "wandb"))
    with suppress(type(error)), Tracker(tmp_path / "run", wandb, print, refused) as tracker:
        if begun:
            tracker.begin(IDENTITY)
        raise error
    runs = [offline.read_ended(file) for file in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")]
    return {run["name"]: (run["exit"], run["summary"].get("error")) for run in runs}


ENDS = [  # what ends the block, whether W&B was begun, whether a refusal is recorded, the W&B runs
    (UserError(3, "no images"), True, True, {"sgdr · s1": (3, "no images")}),
    (UserError(3, "no images"), False, True, {"refused": (3, "no images")}),
    (UserError(3, "no images"), False, False, {}),
    (Stopped(15, "in full"), True, True, {"sgdr · s1": (143, "stopped in full (SIGTERM)")}),
    (Stopped(15, "in full"), False, True, {}),
]  # fmt: skip


@pytest.mark.parametrize(("error", "begun", "seen", "runs"), ENDS)
def test_a_failure_ends_the_wandb_run_and_a_refusal_creates_one(
    tmp_path, monkeypatch, capsys, error, begun, seen, runs
):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    refused = (lambda: replace(IDENTITY, id="other", name="refused")) if seen else None
    found = of_blocks(tmp_path, error, begun, refused)
    assert ("wandb: offline" in capsys.readouterr().out) == begun, "nothing is printed after the error of a refusal"
    assert {name: (code, line.partition(";")[0]) for name, (code, line) in found.items()} == runs


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("WANDB_MODE", "nonsense", "mode='nonsense': Input should be 'online'"),
        ("WANDB_MODE", "dryrun", "WANDB_MODE=dryrun"),
        ("WANDB_PROJECT", "a/b", "Invalid project name 'a/b'"),
    ],
)
def test_wrong_wandb_variables_are_one_line(tmp_path, monkeypatch, capfd, variable, value, why):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv(variable, value)
    said = []
    opened(tmp_path, "auto", said.append).finish(0)
    assert len(said) == 1 and why in said[0]
    assert capfd.readouterr() == ("", "")


def test_online_without_a_server_is_offline_at_once(monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    assert wandb_mode.choose_mode("online") == ("offline", "127.0.0.1 does not answer")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full (Linux)")
def test_wandbs_log_on_a_full_disk_prints_no_traceback(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    said = []
    tracker = opened(tmp_path, say=said.append)
    for handler in logging.getLogger("wandb").handlers:
        if isinstance(handler, logging.FileHandler):
            own = handler.stream
            with suppress(OSError), open("/dev/full", "w") as full:
                handler.setStream(full)
                logging.getLogger("wandb").error("x" * 10_000)
                handler.setStream(own)
    tracker.finish(0)
    assert len(said) == 1 and capfd.readouterr() == ("", "")


def test_a_folder_that_cannot_be_written_is_one_line_and_nothing_is_written_elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(os, "access", lambda path, mode: "wandb" not in str(path))
    said = []
    opened(tmp_path, say=said.append).finish(0)
    assert len(said) == 1 and said[0].startswith("wandb: not used (PermissionError: no permission to write to ")
    assert not list(tmp_path.glob("**/*.wandb"))


@pytest.mark.parametrize(("data", "sent"), [(b"", False), (b":W&B123", False), (b":W&B1234", True)])
def test_a_run_without_records_is_not_offered_for_sync(tmp_path, data, sent):
    (tmp_path / "run-x.wandb").write_bytes(data)
    assert wandb_run.can_be_sent(tmp_path) is sent
