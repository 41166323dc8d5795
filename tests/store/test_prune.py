"""Pruning: the least recently used is removed first, what is in use stays, files of dead processes are removed."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from brief import FIND
from faults import ended, run_train, start_child
from stores import make

from thaw.runtime import machine
from thaw.store import lock, prune
from thaw.store.lock import DONE
from thaw.store.open import open_store
from thaw.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
HOUR, DAY = prune.HOUR, prune.DAY


def made(root, number, age, size=1000, rows=None):
    """Make an artifact of `size` bytes that was last used `age` seconds ago, and return its path."""
    path, _ = make(Store(root), "kind", {"n": number}, lambda folder: (folder / "a").write_bytes(b"a" * size), rows)
    aged(path / DONE, age)
    return path


def aged(path, age):
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def dead_process():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def left(root):
    return sum(entry.bytes for entry in prune.entries(root))


def test_the_least_recently_used_are_removed_and_no_more_than_needed(tmp_path):
    paths = [made(tmp_path, n, age * HOUR) for n, age in enumerate((2, 5, 3, 4))]
    each = left(tmp_path) // 4
    removed, rest = prune.prune(tmp_path, 2 * each + 9)
    assert [entry.path for entry in removed] == [paths[1], paths[3]]
    assert rest == left(tmp_path) and paths[0].exists() and paths[2].exists()
    assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == sorted(p.name for p in (paths[0], paths[2]))


def test_what_was_used_within_the_hour_stays_whatever_the_size(tmp_path):
    new, old = made(tmp_path, 0, HOUR - 60), made(tmp_path, 1, HOUR + 60)
    removed, rest = prune.prune(tmp_path, 0)
    assert [entry.path for entry in removed] == [old]
    assert new.exists() and rest == left(tmp_path) > 0


def test_finding_an_artifact_marks_it_as_used(tmp_path):
    path = made(tmp_path, 0, DAY)
    assert make(Store(tmp_path), "kind", {"n": 0}, None) == (path, True)
    assert prune.prune(tmp_path, 0)[0] == []


def test_what_a_process_used_is_marked_again_even_if_no_build_takes_long(tmp_path, monkeypatch):
    store, first, second = Store(tmp_path), made(tmp_path, 0, 0), made(tmp_path, 1, 0)
    store.use(aged(first, 0))
    aged(first / DONE, 2 * HOUR)
    monkeypatch.setattr("thaw.store.store.USE_SECONDS", 0.0)
    store.use(second)
    assert prune.prune(tmp_path, 0)[0] == []


def test_what_a_process_uses_is_marked_while_it_builds(tmp_path, monkeypatch):
    """The directory that it fills is marked too, since a cycle may take more than a day."""
    monkeypatch.setattr(lock, "TOUCH_SECONDS", 0.02)
    monkeypatch.setattr(lock, "USE_SECONDS", 0.0)
    store, used = Store(tmp_path), made(tmp_path, 0, 0)
    store.use(used)

    def build(folder):
        (folder / "a").touch()
        aged(used / DONE, DAY)
        aged(folder, 2 * DAY)
        while time.time() - min((used / DONE).stat().st_mtime, folder.stat().st_mtime) > HOUR:
            time.sleep(0.02)
        prune.remove_leftovers(tmp_path, time.time())
        assert folder.is_dir()

    make(store, "kind", {"n": 1}, build)


def test_a_shard_is_removed_alone(tmp_path):
    one, other = made(tmp_path, 0, 2 * HOUR, rows=[1]), made(tmp_path, 0, 3 * HOUR, rows=[2])
    assert one.parent == other.parent
    assert [entry.path for entry in prune.prune(tmp_path, left(tmp_path) - 1)[0]] == [other]
    assert Store(tmp_path).shards("kind", {"n": 0}, [1, 2]) == [one]


@pytest.mark.parametrize("names", [("snapshot", "previous"), ("previous",), ("snapshot",)], ids=" ".join)
def test_snapshots_of_unfinished_cycles_count_and_are_removed_like_artifacts(tmp_path, names):
    """`previous` is alone if a process was killed between two renames."""
    folder = tmp_path / "underway" / "key"
    folder.mkdir(parents=True)
    for name in names:
        aged_file = folder / name
        aged_file.write_bytes(b"s" * 5000)
        aged(aged_file, 3 * HOUR)
    path = made(tmp_path, 0, 2 * HOUR)
    assert left(tmp_path) > 5000 * len(names)
    removed, _ = prune.prune(tmp_path, 4000)
    assert [(entry.path, entry.kind) for entry in removed] == [(folder, "underway")]
    assert path.exists() and not folder.exists()


A, B = "0a" * 16, "f" * 32


def left_over(root, owner):
    """Make everything that a process can leave unfinished (folders, files, locks), and return the paths."""
    (root / f"kind/{A}").mkdir(parents=True)
    (root / "underway/key").mkdir(parents=True)
    (root / "facts").mkdir()
    mine = owner.replace(" ", ".")
    folders = [root / f"kind/{A}.tmp.{mine}", root / f"kind/{A}/{B}.tmp.{mine}"]
    files = [root / f"underway/key/snapshot.tmp.{mine}", root / f"facts/c.json.tmp.{mine}", root / f"clock.tmp.{mine}"]
    for folder in folders:
        folder.mkdir()
        (folder / "half").touch()
    for file in files:
        file.touch()
    locks = [root / f"kind/{A}.lock", root / f"kind/{A}/{B}.lock"]
    for held in locks:
        held.write_text(owner)
    return [*folders, *files, *locks]


def test_what_dead_processes_left_is_removed(tmp_path):
    names = left_over(tmp_path, f"{machine.host_id()} {dead_process()}")
    for name in (f"kind/{B}.bad.0", f"kind/{B}.gone.{machine.process_id('.')}", f"kind/{A}/{B}.bad.3"):
        (tmp_path / name).mkdir()
        names.append(tmp_path / name)
    prune.prune(tmp_path, 1e9)
    assert [name for name in names if name.exists()] == []


def test_files_of_others_in_the_folder_stay(tmp_path):
    theirs = ["yarn.lock", "project/poetry.lock", "project/a/data.tmp.npz", "project/photo.bad.jpg", "a.gone.b/c.txt"]
    for name in theirs:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff")
        aged(tmp_path / name, 2 * DAY)
    prune.prune(tmp_path, 0)
    assert [name for name in theirs if not (tmp_path / name).exists()] == []


def test_unfinished_files_of_living_processes_stay(tmp_path):
    names = left_over(tmp_path, machine.process_id(" "))
    prune.prune(tmp_path, 0)
    kept = {name for name in names if name.exists()}
    assert kept == {name for name in names if not name.name.startswith("clock")}, (
        "prune makes and removes a clock of the same name"
    )


def test_unfinished_files_of_another_host_stay_for_a_day(tmp_path):
    names = left_over(tmp_path, "elsewhere 1")
    prune.prune(tmp_path, 1e9)
    assert all(name.exists() for name in names)
    for name in names:
        aged(name, DAY + 60)
    prune.prune(tmp_path, 1e9)
    assert [name for name in names if name.exists()] == []


def test_the_clock_is_the_file_system_s(tmp_path, monkeypatch):
    path = made(tmp_path, 0, 60)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert prune.prune(tmp_path, 0)[0] == [] and path.exists()
    assert abs(prune.file_system_time(tmp_path) - (tmp_path / "kind").stat().st_mtime) < DAY
    assert not list(tmp_path.glob("*clock*"))


def test_two_at_once_remove_everything_once_and_neither_fails(tmp_path):
    for n in range(40):
        made(tmp_path, n, (n + 2) * HOUR, rows=[n] if n % 2 else None)
        made(tmp_path, 100 + n, 0, rows=["in use"])
    for n in range(20):
        (tmp_path / f"kind/{n:032x}.bad.0").mkdir()
    children = [start_child(lambda: prune.prune(tmp_path, 0) and None) for _ in range(3)]
    assert [ended(child) for child in children] == [0, 0, 0]
    assert len(prune.entries(tmp_path)) == 40 and not list(tmp_path.glob("kind/*.*"))


def test_what_may_not_be_removed_is_skipped(tmp_path, monkeypatch):
    theirs, ours = made(tmp_path, 0, 3 * HOUR), made(tmp_path, 1, 2 * HOUR)

    def discard(path):
        if path == theirs:
            raise PermissionError(1, "not permitted")
        shutil.rmtree(path)

    monkeypatch.setattr(prune, "remove_folder", discard)
    assert [entry.path for entry in prune.prune(tmp_path, 0)[0]] == [ours]


def test_a_run_prunes_the_store_to_its_size(compose, tmp_path):
    said, settings = [], compose()
    path = made(tmp_path / "store", 0, 2 * HOUR, size=2_000_000)
    for settings.store.max_size in (None, "3MB"):
        open_store(settings, said.append)
        assert said == [] and path.exists()
    settings.store.max_size = "1MB"
    open_store(settings, said.append)
    assert not path.exists() and len(said) == 1 and said[0].startswith("store: removed 1 stored result (2.0 MB), ")


RUN = ("data.limit=80", "size=32", "checklist=head_only", "epochs=2", *FIND, "wandb=disabled")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["activations", "finds", "cycles"])
def test_a_missing_artifact_is_made_again(tmp_path, kind):
    """If it is removed during a run, that run fails with one line and the next succeeds."""

    def run(name, prepare=lambda: None):
        def work():
            prepare()
            args = (*RUN, f"store.dir={tmp_path}/store", f"hydra.run.dir={tmp_path / name}", "fresh=false")
            return run_train(*args, outputs=tmp_path / "outputs")

        code = ended(start_child(work, tmp_path / "said"))
        return code, (tmp_path / "said").read_text()

    assert run("a") == (0, "")
    shutil.rmtree(tmp_path / "store/facts")  # else the run counts as done already
    shutil.rmtree(tmp_path / "store" / kind)
    assert run("b") == (0, "")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()

    def prepare():
        whole = Store.entry

        @contextmanager
        def gone(self, name, *args, **kwargs):
            with whole(self, name, *args, **kwargs) as entry:
                yield entry
            if name == kind:
                shutil.rmtree(entry.path)

        Store.entry = gone

    for name in ("facts", "activations", "finds", "cycles") if kind == "activations" else ("facts",):
        shutil.rmtree(tmp_path / "store" / name, ignore_errors=True)
    code, said = run("c", prepare)
    assert code == 5 and said.startswith("error: ") and said.count("\n") == 1, (code, said)
    assert "no longer exists" in said
    assert run("d") == (0, "")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "d/model.safetensors").read_bytes()


def store_py(*args):
    command = [sys.executable, str(ROOT / "scripts/store.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_script_lists_verifies_and_prunes(tmp_path):
    paths = [made(tmp_path, n, 2 * HOUR) for n in range(3)]
    (paths[0] / "a").write_bytes(b"b" * 1000)
    done = store_py("verify", "--dir", tmp_path)
    assert done.returncode == 6 and "2 intact, 1 damaged and moved aside" in done.stdout, done.stderr
    done = store_py("ls", "--dir", tmp_path)
    head, _, kind, every, _ = done.stdout.splitlines()
    assert done.returncode == 0 and head.split() == ["kind", "number", "size", "last", "used", "contents"]
    assert kind.split() == ["kind", "2", "0.0", "MB", "2", "h", "ago"] and every.split()[0] == "all"
    for size in ("20", "1e9"):
        done = store_py("prune", "--dir", tmp_path, "--to", size)
        assert done.returncode == 2 and f"--to {size}: needs a unit" in done.stderr
    done = store_py("prune", "--dir", tmp_path, "--to", "0GB")
    assert done.returncode == 0 and done.stdout.startswith("2 stored results removed"), done.stdout + done.stderr
    assert prune.entries(tmp_path) == [] and not list(tmp_path.glob("kind/*"))


def test_the_script_names_the_first_difference_of_two_runs(tmp_path):
    for name, rate in (("a", 0.1), ("b", 0.2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"parts": {"order": ["full"], "lr": rate}}))
    done = store_py("explain", tmp_path / "a", tmp_path / "b")
    assert (done.returncode, done.stdout) == (0, "lr differs: 0.1 and 0.2\n")
    (tmp_path / "b/run.json").write_text(json.dumps({"parts": {"order": [["full", None]] * 20, "lr": 0.1}}))
    done = store_py("explain", tmp_path / "a", tmp_path / "b")
    assert done.stdout == f"order differs: [full] and [{'[full, null], ' * 4}...]\n"
    done = store_py("explain", tmp_path / "a", tmp_path / "c")
    assert done.returncode == 6 and done.stderr.startswith("error: ") and "c" in done.stderr
    for folder in ("d/0", "d/1"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "status.json").write_text('{"state": "done"}')
    done = store_py("explain", tmp_path / "a", tmp_path / "d")
    assert done.returncode == 6 and f"this is a sweep; name one of its jobs, e.g. {tmp_path}/d/0" in done.stderr
    done = store_py("prune", "--dir", tmp_path / "nowhere", "--to", "1GB")
    assert done.returncode == 5 and "no store" in done.stderr
