"""Reads W&B offline files; W&B has no public reader since 0.31."""

import json
import struct
import time
from pathlib import Path

BLOCK, HEAD = 32768, 7


def records(path):
    """Yield the protobuf records of a run-*.wandb file in order."""
    from wandb.proto import wandb_internal_pb2 as pb

    data = Path(path).read_bytes()
    assert data[:4] == b":W&B"
    position, buffer = HEAD, b""
    while position + HEAD <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEAD:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEAD])
        if kind == 0:
            position += left
            continue
        if position + HEAD + length > len(data):  # W&B is still writing it
            return
        chunk = data[position + HEAD : position + HEAD + length]
        position += HEAD + length
        buffer = chunk if kind in (1, 2) else buffer + chunk  # 1 whole, 2 first; else middle or last
        if kind in (1, 4):
            record = pb.Record()
            record.ParseFromString(buffer)
            yield record


def items(updates):
    """Return the values of updates by dotted key."""
    return {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in updates}


def read_ended(path) -> dict:
    """Read the file of a finished run, waiting up to 10 s since W&B closes it shortly after `finish` returns."""
    deadline = time.monotonic() + 10
    while (run := read(path))["exit"] is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return run


def read(path) -> dict:
    """Return a run's history (list of rows), config, summary, exit code, axes, name, id, group, project and tags."""
    out = {"history": [], "config": {}, "summary": {}, "exit": None, "axes": {}}
    for record in records(path):
        match record.WhichOneof("record_type"):
            case "history":
                out["history"].append(items(record.history.item))
            case "run":
                out |= {"id": record.run.run_id, "name": record.run.display_name, "group": record.run.run_group}
                out |= {"project": record.run.project, "tags": list(record.run.tags), "job_type": record.run.job_type}
                out["config"] |= items(record.run.config.update)
            case "config":
                out["config"] |= items(record.config.update)
            case "summary":
                out["summary"] |= items(record.summary.update)
            case "exit":
                out["exit"] = record.exit.exit_code
            case "metric":
                out["axes"][record.metric.name or record.metric.glob_name] = record.metric.step_metric
    return out
