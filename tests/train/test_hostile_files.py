"""Files with unexpected content, folders that cannot be created, and secrets that must not be written to files."""

import os
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location

import pytest
from brief import FIND
from faults import in_child, run_train

from thaw.config.paths import ROOT
from thaw.data.verify import load_verdicts
from thaw.runtime.errors import UserError
from thaw.runtime.job_status import read_status
from thaw.store import keys
from thaw.store.estimates import size_of
from thaw.store.fresh import begin_fresh
from thaw.store.store import Store, holds_any
from thaw.train.run_folders import finished_result

SPEC = spec_from_file_location("store_script", ROOT / "scripts/store.py")
SPEC.loader.exec_module(store_script := module_from_spec(SPEC))

QUICK = ("smoke=true", "size=32", "data.limit=60", "wandb=disabled", *FIND)
JUNK = (
    "[1, 2, 3]",
    "[" * 200_000,
    "{",
    "null",
    '{"places": 3, "seconds": "a", "bytes": []}',
    '{"folder": 1, "train": -1}',
)


@pytest.mark.parametrize("text", JUNK, ids=lambda text: text[:12])
def test_an_invalid_fact_is_read_as_missing(tmp_path, text):
    store = Store(tmp_path)
    store.remember("a", {"places": ["x"], "seconds": 1.5, "bytes": 7})
    kinds = {"places": list, "seconds": int | float, "bytes": int | float}
    assert store.recall("a", **kinds) == {"places": ["x"], "seconds": 1.5, "bytes": 7}
    (tmp_path / "facts/a.json").write_text(text)
    assert store.recall("a", **kinds) == {}


STATUSES = [  # the content of status.json, and what is read from it
    ("[1]", {}), ('{"overrides": [1]}', {}), ('{"overrides": "seed=1", "code": 3}', {"code": 3}),
    ('{"state": 1, "code": "x", "line": "a"}', {"line": "a"}),
    ('{"state": "done", "stamp": null}', {"state": "done", "stamp": None}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), STATUSES)
def test_only_valid_fields_of_a_status_are_read(tmp_path, text, said):
    (tmp_path / "status.json").write_text(text)
    assert read_status(tmp_path) == said


def test_invalid_facts_in_the_store_stop_no_run(tmp_path):
    places = (f"store.dir={tmp_path}/store", f"hydra.run.dir={tmp_path}/run")
    assert in_child(lambda: run_train(*QUICK, *places, outputs=tmp_path / "out")) == 0
    for number, file in enumerate(sorted((tmp_path / "store/facts").glob("*.json"))):
        file.write_text(JUNK[number % len(JUNK)])
    (tmp_path / "run/status.json").write_text('{"state": "failed", "overrides": 7}')
    again = (places[0], f"hydra.run.dir={tmp_path}/again")
    assert in_child(lambda: run_train(*QUICK, *again, outputs=tmp_path / "out")) == 0
    assert in_child(lambda: run_train(*QUICK, *places, outputs=tmp_path / "out"), tmp_path / "says") == 6
    assert "contains another run" in (tmp_path / "says").read_text()


def test_the_value_of_an_environment_variable_is_in_no_file_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("A_SECRET", "hunter2hunter2")
    typed = (*QUICK, "notes=${oc.env:A_SECRET}", f"store.dir={tmp_path}/store", f"hydra.run.dir={tmp_path}/run")
    assert in_child(lambda: run_train(*typed, outputs=tmp_path / "out")) == 0
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [file.name for file in files if b"hunter2" in file.read_bytes()] == []
    assert "notes=${oc.env:A_SECRET}" in read_status(tmp_path / "run")["overrides"]


FOLDERS = [  # the override, the exit code and the line
    ("hydra.run.dir=", 2, "error: hydra.run.dir is empty; give hydra.run.dir=PATH"),
    ("hydra.run.dir=/dev/null/x", 5, "error: cannot use /dev/null/x: Not a directory"),
    (f"hydra.run.dir=/tmp/{'x' * 300}", 5, f"error: cannot use /tmp/{'x' * 300}: File name too long"),
]


@pytest.mark.parametrize(("word", "code", "line"), FOLDERS, ids=lambda value: str(value)[:24])
def test_a_folder_that_cannot_be_created_is_reported_in_one_line(tmp_path, word, code, line):
    assert in_child(lambda: run_train(*QUICK, word, outputs=tmp_path / "out"), tmp_path / "says") == code
    assert (tmp_path / "says").read_text().splitlines() == [line]


NASTY = [
    b"[]", b"1", b'"x"', b"null", b'{"a": [1]}', b'{"parts": 3}', b'{"parts": {"rows": 1}, "files": 2}', b"[" * 200_000,
    b'{"since": NaN, "a": NaN}', b'{"since": 1%s}' % (b"0" * 400), b'{"a": "\xff"}', b"", None,
]  # fmt: skip
READERS = {  # the file that each reads, and whether it returns the value for a file without usable content
    "facts": ("facts/a.json", lambda root: Store(root).recall("a", places=list) == {}),
    "result": ("result.json", lambda root: finished_result(root) == {}),
    "status": ("status.json", lambda root: read_status(root).get("state") is None),
    "fresh": ("f.json", lambda root: begin_fresh(root, root / "f.json") > 0),
    "an artifact's size": ("DONE.json", lambda root: size_of(root) == 0),
    "a shard's rows": ("DONE.json", lambda root: holds_any(root / "DONE.json", frozenset("a"))),
    "verdicts": ("t.json", lambda root: load_verdicts(root / "t.json") == {}),
    "a run's parts": ("run.json", lambda root: refuses(lambda: keys.changed(*[store_script.parts_of(root)] * 2))),
}  # fmt: skip


def refuses(work) -> bool:
    try:
        return work() is None
    except UserError as error:
        return error.code == 6


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", NASTY, ids=lambda text: str(text)[:20])
def test_a_reader_of_json_survives_any_content(tmp_path, reader, text):
    name, reads = READERS[reader]
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    if text is None:
        file.mkdir()
        if reader == "fresh":
            with pytest.raises(IsADirectoryError):  # an error of the machine: exit 5
                reads(tmp_path)
            return
    else:
        digest = sha256(text).hexdigest().encode() + b"\n" if reader == "verdicts" else b""
        file.write_bytes(digest + text)
    assert reads(tmp_path)


CHANGED = [  # the parts of two runs, which differ
    ({"code": 3, "computed": 1}, {"code": {}, "computed": 2}), ({"code": {"a": 1}}, {"code": []}), ({}, {"phases": 3}),
    ({"computed": {"threads": 1}}, {"computed": {"threads": 2}}),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), CHANGED)
def test_any_difference_of_parts_is_described(a, b):
    assert keys.changed(a, b)


def test_reading_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "status.json")
    assert read_status(tmp_path) == {}
