"""The store contains whole artifacts or none, even if several processes build one or a builder is killed."""

import errno
import json
import os
import signal
import time
from pathlib import Path

import pytest
from faults import in_child
from stores import make

from thaw.runtime import machine
from thaw.runtime.errors import UserError
from thaw.store import lock as lock_
from thaw.store import publish
from thaw.store.store import Store, key_of

PARTS = {"what": "a test", "n": 3}


def place(root):
    return Store(root).place("kind", PARTS)


def build(folder):
    (folder / "a.bin").write_bytes(b"a" * 1000)
    (folder / "b.json").write_text("{}")


def test_one_process_at_a_time_works_in_a_folder(tmp_path):
    with lock_.only_one_at_work(tmp_path / "new") as first, lock_.only_one_at_work(tmp_path / "new") as second:
        assert (first, second) == (True, False)
    assert not (tmp_path / "new").exists(), "the folder is removed if nothing was made in it"
    (tmp_path / "kept").mkdir()
    with lock_.only_one_at_work(tmp_path / "kept") as free:
        (tmp_path / "kept/0").mkdir()
    assert free and [path.name for path in (tmp_path / "kept").iterdir()] == ["0"]


def test_a_folder_is_not_free_until_all_forks_are_gone(tmp_path):
    """The jobs of a killed sweep are still writing snapshots."""
    told, tell = os.pipe()

    def killed():
        with lock_.only_one_at_work(tmp_path):
            if os.fork() == 0:
                os.close(tell)
                os.read(told, 1)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)

    def free() -> bool:
        with lock_.only_one_at_work(tmp_path) as free:
            return free

    assert in_child(killed) == -signal.SIGKILL and not free()
    os.close(tell)
    end = time.monotonic() + 30
    while not free() and time.monotonic() < end:
        time.sleep(0.01)
    assert free()


def test_a_lock_on_a_file_that_was_just_removed_does_not_count(tmp_path, monkeypatch):
    def removed(*args, **kwargs):
        (tmp_path / ".at-work").unlink()
        return True

    monkeypatch.setattr("filelock.lock_descriptor", removed)
    with lock_.only_one_at_work(tmp_path) as free:
        assert not free


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EROFS])
def test_a_folder_is_free_if_nothing_can_be_locked(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pathlib.Path.open" if number == errno.EROFS else "fcntl.flock", refuse)
    with lock_.only_one_at_work(tmp_path / "new") as first, lock_.only_one_at_work(tmp_path / "new") as second:
        assert first and second
    assert not (tmp_path / "new").exists()


def test_an_artifact_is_made_once_and_found_after(tmp_path):
    store, calls = Store(tmp_path), []
    path, was_there = make(store, "kind", PARTS, lambda f: calls.append(f) or build(f))
    assert not was_there
    assert path == store.place("kind", PARTS)
    assert make(Store(tmp_path), "kind", PARTS, lambda f: calls.append(f)) == (path, True)
    assert len(calls) == 1
    done = json.loads((path / "DONE.json").read_text())
    assert done["parts"] == PARTS | {"code": []} and done["files"]["a.bin"]["bytes"] == 1000
    assert sorted(p.name for p in path.iterdir()) == ["DONE.json", "a.bin", "b.json"]


def test_the_key_does_not_depend_on_the_order_of_the_parts():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 2, "b": 2})


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def breaks(folder):
        build(folder)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        make(Store(tmp_path), "kind", PARTS, breaks)
    assert list((tmp_path / "kind").iterdir()) == []


@pytest.mark.parametrize("call", ["rename", "fsync", "replace"])
def test_a_builder_killed_at_any_point_leaves_nothing_visible(tmp_path, call):
    """Kill the builder before its n-th call, for every n until it survives."""
    survived = False
    for n in range(20):
        child = os.fork()
        if child == 0:
            count = [0]
            whole = getattr(os, call)

            def counted(*args, count=count, n=n, whole=whole, **kwargs):
                if count[0] == n:
                    os.kill(os.getpid(), signal.SIGKILL)
                count[0] += 1
                return whole(*args, **kwargs)

            setattr(os, call, counted)
            make(Store(tmp_path), "kind", PARTS, build)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        path = Store(tmp_path).usable(place(tmp_path))
        if path is not None:
            assert (path / "a.bin").read_bytes() == b"a" * 1000
        if os.WIFEXITED(status):
            survived = True
            break
    assert survived and path is not None


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "no done"])
def test_a_damaged_artifact_is_moved_aside_with_a_warning(tmp_path, damage):
    path, _ = make(Store(tmp_path), "kind", PARTS, build)
    file = path / "a.bin"
    if damage == "flip":
        file.write_bytes(b"a" * 999 + b"b")
    elif damage == "cut":
        file.write_bytes(b"a" * 999)
    elif damage == "remove":
        file.unlink()
    else:
        (path / "DONE.json").write_text("{")
    said = []
    store = Store(tmp_path, said.append)
    assert store.usable(place(tmp_path)) is None
    assert len(said) == 1 and "damaged" in said[0]
    again, _ = make(store, "kind", PARTS, build)
    assert (again / "a.bin").read_bytes() == b"a" * 1000
    assert len(list((tmp_path / "kind").glob("*.bad.*"))) == 1


def test_the_second_of_two_builders_drops_its_own(tmp_path):
    store = Store(tmp_path)

    def other_wins(folder):
        build(folder)
        make(Store(tmp_path / "other"), "kind", PARTS, build)
        os.rename(place(tmp_path / "other"), place(tmp_path))
        (place(tmp_path) / "mark").touch()

    path, _ = make(store, "kind", PARTS, other_wins)
    assert (path / "mark").exists()
    assert [p.name for p in (tmp_path / "kind").iterdir()] == [place(tmp_path).name]


def test_the_order_on_disk_is_files_done_rename_directory(tmp_path, monkeypatch):
    calls = []
    whole_sync, whole_rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append(os.readlink(f"/proc/self/fd/{fd}")) or whole_sync(fd))
    monkeypatch.setattr(os, "rename", lambda a, b: calls.append("rename") or whole_rename(a, b))
    make(Store(tmp_path), "kind", PARTS, build)
    names = ["DIRECTORY" if os.path.isdir(c) or ".tmp." in os.path.basename(c) else os.path.basename(c) for c in calls]
    assert names == ["a.bin", "b.json", "DONE.json", "DIRECTORY", "rename", "DIRECTORY"]


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk full"), (errno.EROFS, "Read-only")])
def test_a_full_or_read_only_disk_is_one_line(tmp_path, monkeypatch, number, words):
    def refuses(folder):
        raise OSError(number, os.strerror(number))

    with pytest.raises(UserError) as caught:
        make(Store(tmp_path), "kind", PARTS, refuses)
    assert caught.value.code == 5 and words in caught.value.line
    assert list((tmp_path / "kind").iterdir()) == []


def test_shards_are_those_of_one_key(tmp_path):
    store = Store(tmp_path)
    a, _ = make(store, "kind", {"size": 1}, build, rows=[1])
    b, _ = make(store, "kind", {"size": 1}, build, rows=[2])
    make(store, "kind", {"size": 2}, build, rows=[1])
    assert store.shards("kind", {"size": 1}, [1, 2]) == sorted([a, b])
    assert store.shards("nothing", {"size": 1}, [1, 2]) == []
    assert json.loads((a / "DONE.json").read_text())["parts"] == {"size": 1, "code": [], "rows": [1]}
    (b / "a.bin").write_bytes(b"")
    assert Store(tmp_path).shards("kind", {"size": 1}, [1, 2]) == [a]


def test_shards_of_other_images_are_neither_read_nor_marked_as_used(tmp_path):
    store = Store(tmp_path)
    a, b = (make(store, "kind", {}, build, rows=rows)[0] for rows in ([1, 2], [3]))
    os.utime(b / "DONE.json", (0, 0))
    (b / "a.bin").write_bytes(b"")  # a reader would notice this damage
    warned = []
    other = Store(tmp_path, warned.append)
    assert other.shards("kind", {}, [2, 7]) == [a] and other.used == {a} and not warned
    assert (b / "DONE.json").stat().st_mtime == 0 and (b / "a.bin").exists()
    (a / "DONE.json").write_text("{")
    assert Store(tmp_path, warned.append).shards("kind", {}, [2]) == [] and len(warned) == 1


def test_the_code_is_in_the_key_of_its_kind(tmp_path):
    one, other, ignoring = (Store(tmp_path, code=lambda kind, c=c: c) for c in ({"a.py": "1"}, {"a.py": "2"}, {}))
    make(one, "kind", PARTS, build)
    assert one.usable(one.place("kind", PARTS)) and not other.usable(other.place("kind", PARTS))
    assert not ignoring.usable(ignoring.place("kind", PARTS))


def test_an_artifact_made_again_replaces_the_old_one(tmp_path):
    path, _ = make(Store(tmp_path), "kind", PARTS, build)
    again, was_there = make(Store(tmp_path, anew=("kind",)), "kind", PARTS, lambda f: (f / "new").touch())
    assert again == path and not was_there
    assert sorted(p.name for p in path.iterdir()) == ["DONE.json", "new"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_artifact_made_again_is_made_by_one_of_several_processes(tmp_path):
    make(Store(tmp_path), "kind", PARTS, build)
    since, made = time.time() + 1e-3, tmp_path / "made"
    time.sleep(0.01)

    def work(i):
        def slow(folder):
            with made.open("a") as file:
                file.write("x")
            time.sleep(0.05)
            build(folder)

        store = Store(tmp_path, anew=("kind",), wait_s=60)
        store.since = since
        assert (make(store, "kind", PARTS, slow)[0] / "a.bin").exists()

    assert children(3, work) == [0] * 3 and made.read_text() == "x"


def test_the_old_artifact_can_be_read_until_the_new_one_is_on_disk(tmp_path, monkeypatch):
    path, _ = make(Store(tmp_path), "kind", PARTS, build)
    seen, whole = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: seen.append((path / "DONE.json").exists()) or whole(file))
    make(Store(tmp_path, anew=("kind",)), "kind", PARTS, build)
    assert len(seen) > 2 and all(seen)


def test_facts_are_remembered_and_unknown_names_have_none(tmp_path):
    store = Store(tmp_path)
    assert store.recall("x") == {}
    store.remember("x", {"train": 3})
    store.remember("x", {"train": 4})
    assert Store(tmp_path).recall("x") == {"train": 4}
    assert publish.FORMAT == 1


def children(n, work):
    """Return the exit codes of n forked processes that all do `work(i)` at once."""
    pids = []
    for i in range(n):
        if not (pid := os.fork()):
            try:
                work(i)
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


@pytest.mark.parametrize("wait_s", [0.0, 60.0])
def test_four_processes_at_once_make_one_artifact_twenty_times_over(tmp_path, wait_s):
    for turn in range(20):
        made = tmp_path / f"made-{turn}"

        def work(i, turn=turn, made=made):
            def slow(folder):
                with made.open("a") as file:
                    file.write("x")
                time.sleep(0.02)
                build(folder)

            path, _ = make(Store(tmp_path, wait_s=wait_s), "kind", {"turn": turn}, slow)
            assert (path / "a.bin").read_bytes() == b"a" * 1000

        assert children(4, work) == [0] * 4
        assert wait_s == 0 or made.read_text() == "x", "if they may wait, only one makes it"
    names = [path.name for path in (tmp_path / "kind").iterdir()]
    assert len(names) == 20 and not [name for name in names if "." in name], "nothing is left over"


def test_a_dead_holder_is_not_waited_for(tmp_path):
    (tmp_path / "kind").mkdir()
    lock = tmp_path / "kind" / f"{place(tmp_path).name}.lock"
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    lock.write_text(f"{machine.host_id()} {child}")
    said = []
    make(Store(tmp_path, said.append, wait_s=60), "kind", PARTS, build)
    assert said == [] and not lock.exists()


def test_a_lock_that_nobody_touches_is_taken_over(tmp_path, monkeypatch):
    (tmp_path / "kind").mkdir()
    lock = tmp_path / "kind" / f"{place(tmp_path).name}.lock"
    lock.write_text("elsewhere 1")
    os.utime(lock, (2e9, 2e9))  # in the future, since clocks are not compared
    monkeypatch.setattr("thaw.store.lock.STALE_SECONDS", 0.3)
    said = []
    make(Store(tmp_path, said.append, wait_s=60), "kind", PARTS, build)
    assert len(said) == 1 and "elsewhere:1 is making" in said[0]
    assert not lock.exists()


def test_a_private_copy_is_made_if_locks_cannot_be_made(tmp_path, monkeypatch):
    whole = os.open

    def refuses(path, *args, **kwargs):
        if str(path).endswith(".lock"):
            raise OSError(errno.ENOLCK, "no locks")
        return whole(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuses)
    assert make(Store(tmp_path, wait_s=60), "kind", PARTS, build)[0].is_dir()


def test_an_unreadable_lock_is_not_waited_for(tmp_path, monkeypatch):
    store, whole = Store(tmp_path, wait_s=60), Path.read_text
    path = store.place("kind", PARTS)
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.lock").write_text("another user's")

    def refuses(file, *args, **kwargs):
        if file.name.endswith(".lock"):
            raise PermissionError(errno.EACCES, "not yours")
        return whole(file, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuses)
    assert make(store, "kind", PARTS, build)[0].is_dir()


def test_the_name_of_what_is_waited_for_is_reported(tmp_path):
    said = []
    store = Store(tmp_path, wait_s=0.3)
    store.waits = said.append
    path = store.place("cycles", {"n": 1})
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.lock").write_text(f"{machine.host_id()} {os.getppid()}")
    make(store, "cycles", {"n": 1}, lambda folder: (folder / "a").touch())
    assert said == [f"cycles/{path.name[:8]}", None] and store.waited > 0.25
