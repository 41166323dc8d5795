"""A disk that is full, over quota, read-only or broken: one line, exit 5, and the same bits once it works again."""

import errno
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch
from faults import SMALL, at_call, bits, ended, from_call, in_child, kill, run_train, start_child
from stores import make

from thaw.report import publish
from thaw.runtime import signals
from thaw.runtime.errors import UserError
from thaw.store import lock, snapshot
from thaw.store.lock import DONE
from thaw.store.store import Store
from thaw.train import job, run

RUN = (*SMALL, "epochs=1")


@pytest.fixture
def typed(tmp_path):
    """Return typed("a", prepare): calls `prepare()`, runs into the folder a, returns exit code and standard error."""

    def ran(folder, prepare=lambda: None, store="store", more=()):
        said = tmp_path / "said"

        def work():
            prepare()
            args = (*RUN, *more, f"store.dir={tmp_path / store}", f"hydra.run.dir={tmp_path / folder}")
            return run_train(*args, outputs=tmp_path / "outputs")

        code = in_child(work, said)
        return code, said.read_text()

    return ran


UNDISTURBED = []  # the bits of an undisturbed run, made once


@pytest.fixture
def reference(typed, tmp_path):
    if not UNDISTURBED:
        assert typed("reference", store="of-reference") == (0, "")
        UNDISTURBED.append(bits(tmp_path / "reference"))
    return UNDISTURBED[0]


def assert_refused(ended, *words):
    """Assert exit 5 and one line that contains these words."""
    code, said = ended
    lines = said.splitlines()
    assert code == 5, said
    assert len(lines) == 1 and lines[0].startswith("error: ") and "internal" not in said, said
    assert all(word in said for word in words), said


def assert_intact(store):
    """Assert that the store has no temporary files and every artifact and snapshot in it is whole."""
    assert list(store.rglob("*.tmp.*")) == []
    warned = []
    for done in store.rglob(DONE):
        assert Store(store, warned.append).usable(done.parent) == done.parent, warned
    for folder in store.glob("underway/*"):
        assert snapshot.read(folder) is not None or list(folder.iterdir()) == []


FULL, QUOTA, BROKEN = errno.ENOSPC, errno.EDQUOT, errno.EIO
FAULTS = [(os, "fsync", 15), (os, "replace", 8), (Path, "write_bytes", 4), (Path, "write_text", 9), (os, "mkdir", 9)]


@pytest.mark.parametrize(
    "fault",
    [(os, "fsync", 14, BROKEN, False)]
    + [
        pytest.param(fault, marks=pytest.mark.slow)
        for fault in [(Path, "write_bytes", 6, FULL, True), (Path, "write_text", 8, QUOTA, True)]
    ],
    ids=lambda fault: f"{fault[1]} {fault[2]} {errno.errorcode[fault[3]]}",
)
def test_a_failing_call_is_one_line_and_changes_no_bit(typed, tmp_path, reference, fault):
    assert_refused(typed("a", lambda: from_call(*fault)))
    assert_intact(tmp_path / "store")
    assert typed("b") == (0, "")
    assert bits(tmp_path / "b") == reference


@pytest.mark.slow
@pytest.mark.parametrize(("holder", "name", "every"), FAULTS, ids=[fault[1] for fault in FAULTS])
def test_every_nth_failing_call_is_one_line(typed, tmp_path, reference, holder, name, every, capsys):
    """The call fails alone, or together with all later ones."""
    for tried, number in enumerate(range(0, 200, every)):
        error, stays = (FULL, BROKEN, QUOTA, errno.EACCES)[tried % 4], tried % 2 == 0
        found = typed(f"a{number}", lambda n=number, e=error, s=stays: from_call(holder, name, n, e, s), f"s{number}")
        if found[0] == 0:
            break
        assert_refused(found)
        assert_intact(tmp_path / f"s{number}")
        assert typed(f"b{number}", store=f"s{number}") == (0, "")
        done = f"b{number}" if (tmp_path / f"b{number}/metrics.jsonl").exists() else f"a{number}"  # a had finished
        assert bits(tmp_path / done) == reference
    with capsys.disabled():
        print(f" {name}: {tried} points", end="", flush=True)
    assert tried


@pytest.fixture
def disk(tmp_path):
    """Return disk("size=2m"), which mounts a file system and returns its path; a second call changes its options."""
    place = tmp_path / "disk"
    place.mkdir()

    def sized(options):
        again = "remount," if os.path.ismount(place) else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{again}{options}", "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"no mount: {error}")
        if done.returncode:
            pytest.skip(f"mount: {done.stderr.strip()}")
        return place

    yield sized
    if os.path.ismount(place):
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["40k", "5m", "8m"])
def test_a_store_on_a_full_disk(typed, tmp_path, reference, disk, size):
    """The disk is full at the activations, at a snapshot of the head, or at one of the full network."""
    disk(f"size={size}")
    assert_refused(typed("a", store="disk/store"), "disk full", "free some space")
    assert_intact(tmp_path / "disk/store")
    disk("size=64m")
    assert typed("b", store="disk/store") == (0, "")
    assert bits(tmp_path / "b") == reference


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=pytest.mark.slow) for size in ("4k", "80k", "1600k")] + ["800k"]
)
def test_a_run_folder_on_a_full_disk(typed, tmp_path, reference, disk, size):
    """The disk is full at Hydra's files, at the image sheets, at the weights, or after them."""
    disk(f"size={size}")
    assert_refused(typed("disk/a"), "disk full")
    assert list((tmp_path / "disk").rglob("*.tmp*")) == []
    assert not (tmp_path / "disk/a/result.json").exists()
    assert not (weights := tmp_path / "disk/a/model.safetensors").exists() or weights.stat().st_size == 1510912
    disk("size=64m")
    assert typed("disk/b") == (0, "")
    assert bits(tmp_path / "disk/b") == reference


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metrics.jsonl", ".hydra/config.yaml"])
def test_a_file_that_cannot_be_written(typed, tmp_path, reference, name):
    (tmp_path / "a/.hydra").mkdir(parents=True)
    (tmp_path / "a" / name).symlink_to("/dev/full")
    assert_refused(typed("a"), "disk full", name if name == "metrics.jsonl" else "a")
    (tmp_path / "a" / name).unlink()
    assert typed("a") == (0, "")
    assert bits(tmp_path / "a")[0] == reference[0]


@pytest.mark.parametrize("part", ["run", pytest.param("store", marks=pytest.mark.slow)])
def test_a_read_only_disk_is_noticed_before_training(typed, tmp_path, disk, part):
    (disk("size=1m") / "store").mkdir()
    disk("ro")

    def prepare():
        torch.optim.AdamW.step = kill

    where = {"folder": "disk/a"} if part == "run" else {"folder": "a", "store": "disk/store"}
    assert_refused(typed(where.pop("folder"), prepare, **where), "Read-only file system")


@pytest.fixture
def others():
    """Make a folder that we may read but not write."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        yield place
        subprocess.run(["chmod", "-R", "u+w", name], check=True)


def test_a_read_only_store_can_be_read(others):
    def build(folder):
        (folder / "a").write_text("a")

    made, _ = make(Store(others), "kind", {"n": 1}, build)
    for folder in (others, others / "kind", made):
        folder.chmod(0o555)

    def work():
        if os.getuid() == 0:
            os.setuid(65534)
        assert make(Store(others, wait_s=60), "kind", {"n": 1}, build) == (made, True)
        with pytest.raises(UserError) as caught:
            make(Store(others, wait_s=60), "kind", {"n": 2}, build)
        assert caught.value.code == 5 and "Permission denied" in caught.value.line
        with pytest.raises(UserError):
            Store(others).remember("x", {})

    assert in_child(work) == 0


@pytest.mark.slow
def test_a_lock_of_a_dead_host_is_waited_for_only_until_it_is_stale(typed, tmp_path, reference):
    """The lock of a killed run, made to look like another machine's."""
    assert typed("a", lambda: at_call(torch.optim.AdamW, "step", 14, kill))[0] == -signal.SIGKILL
    (held,) = (tmp_path / "store").rglob("*.lock")
    held.write_text("elsewhere 1")

    def prepare():
        lock.STALE_SECONDS = 0.3

    assert typed("b", prepare) == (0, "")
    assert bits(tmp_path / "b") == reference and not held.exists()


@pytest.mark.slow
@pytest.mark.parametrize("wait_s", [0, 60])
def test_two_runs_of_one_command_at_once(tmp_path, reference, wait_s):
    def work(name):
        args = (*RUN, f"store.wait_s={wait_s}", f"store.dir={tmp_path}/store", f"hydra.run.dir={tmp_path / name}")
        return lambda: run_train(*args, outputs=tmp_path / name)

    children = [start_child(work(name), tmp_path / f"said-{name}") for name in ("a", "b")]
    assert [ended(child) for child in children] == [0, 0], (tmp_path / "said-b").read_text()
    assert bits(tmp_path / "a") == bits(tmp_path / "b") == reference
    assert_intact(tmp_path / "store")


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(typed, tmp_path, reference):
    def prepare():
        whole, jumps = time.time, iter(range(10**9))
        time.time = lambda: whole() + (3600 if next(jumps) % 2 else -3600)

    assert typed("a", prepare) == (0, "")
    assert bits(tmp_path / "a") == reference


# an outcome that cannot be written ------------------------------------------------------------------------------------


def test_a_status_that_cannot_be_written_is_exit_5(typed):
    assert_refused(typed("a", lambda: from_call(job, "write_status", 0, FULL, True), more=("plan_only=true",)))


@pytest.mark.slow
def test_a_failure_that_cannot_be_written_is_exit_5(typed):
    def prepare():
        from_call(job, "write_status", 1, FULL, True)
        from_call(Path, "write_bytes", 3, FULL, True)

    assert_refused(typed("a", prepare), "disk full")


@pytest.mark.slow
def test_a_stop_that_cannot_be_written_is_still_a_stop(typed):
    def prepare():
        from_call(job, "write_status", 1, FULL, True)
        at_call(torch.optim.AdamW, "step", 3, lambda *_: os.kill(os.getpid(), signal.SIGTERM))

    code, said = typed("a", prepare)
    assert code == 143 and said.startswith("stopped before the end ") and said.count("\n") == 1, said


@pytest.mark.slow
@pytest.mark.parametrize("at", [(publish, "publish_report", 0), (run, "export", 0), (job, "write_status", 1)])
def test_a_run_killed_while_it_writes_its_result_is_finished_by_the_same_command(typed, tmp_path, reference, at):
    """The run is killed after the store has recorded it as finished, and before it has written its result."""

    def prepare():
        at_call(*at, kill)

    assert typed("a", prepare)[0] == -signal.SIGKILL
    assert typed("b") == (0, "")
    done = tmp_path / "b" if (tmp_path / "b/model.safetensors").exists() else tmp_path / "a"
    assert bits(done) == reference and (done / "report.html").exists()


def test_a_half_written_result_is_ignored(typed, tmp_path):
    """A power cut can leave one."""
    more = ("checklist=head_only", "store.snapshot_s=30")
    assert typed("a", more=more) == (0, "")
    (tmp_path / "a/result.json").write_text("{")
    assert typed("b", more=more) == (0, "")
    assert (tmp_path / "b/result.json").exists()


@pytest.mark.slow
def test_a_loader_process_that_dies_is_exit_5(typed, tmp_path, reference):
    def prepare():
        from thaw.data.batches import Views

        whole, parent = Views.__getitem__, os.getpid()

        def dies(self, key):
            if os.getpid() != parent and key.epoch == 0 and len(key.rows) == 32:
                kill()
            return whole(self, key)

        Views.__getitem__ = dies

    assert_refused(typed("a", prepare, more=("data.workers=2",)), "data.workers")
    assert typed("b", more=("data.workers=2",)) == (0, "")
    assert bits(tmp_path / "b") == reference


@pytest.mark.slow
def test_a_signal_ends_the_wait_for_an_artifact_of_another_process(tmp_path):
    def work():
        signals.listen()
        (tmp_path / "kind").mkdir()
        path = Store(tmp_path).place("kind", {})
        path.with_name(f"{path.name}.lock").write_text("elsewhere 1")
        threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGTERM]).start()
        make(Store(tmp_path, wait_s=60), "kind", {}, lambda folder: None)

    assert in_child(work) == 143
