"""What is done stays done: artifacts addressed by what they were made from. Standard library only.

`DIR/<kind>/<key>/` holds files and, written last, DONE.json with their sizes and SHA-256 and the parts of the key. An
artifact is built in a private temporary directory and published by one rename, so that a builder killed at any point
leaves nothing that a reader can see, and two builders of the same thing need no lock: the second drops its own.
Of what grows with the images `<key>/` holds immutable shards, each such a directory.
"""

import contextlib
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import UnionType

from thaw.runtime.failures import machine_error
from thaw.runtime.files import json_text, read_json, write_atomically
from thaw.runtime.machine import process_id
from thaw.store.kinds import damage, lacks_done
from thaw.store.lock import DONE, USE_SECONDS, claim, mark_used, marked
from thaw.store.publish import machine_errors, publish

Fault = Callable[[Path], str | None]  # says why an artifact cannot be used


def key_of(parts: Mapping) -> str:
    """The address of what is made from these parts: SHA-256 of their canonical JSON, 32 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass
class Entry:
    """A place in the store: `path` with the artifact, or where that is missing a `folder` to be filled."""

    path: Path
    folder: Path | None = None

    @property
    def missing(self) -> bool:
        return self.folder is not None


class Store:
    """Artifacts below one directory, which may be shared between processes and machines.

    `code(kind)` is the part of every key that says which code makes a kind; of the kinds in `anew` what was made
    before `since` is made again, by the clock of the file system. `waits` is told the name of an artifact that another
    process is making, and None when the waiting is over.
    """

    def __init__(
        self,
        root: Path,
        warn: Callable[[str], None] = lambda line: None,
        wait_s: float = 0.0,
        anew: tuple = (),
        since: float = math.inf,
        code: Callable[[str], Sequence] = lambda kind: [],
        waits: Callable[[str | None], None] | None = None,
    ):
        self.root = root
        self.warn = warn
        self.waits = waits or (lambda name: None)
        self.wait_s = wait_s
        self.anew = anew
        self.since = since
        self.code = code
        self.verified: set[Path] = set()
        self.used: set[Path] = set()
        self.made: set[Path] = set()  # by this process
        self.added = 0  # bytes that this process published
        self.waited = 0.0  # seconds, for what other processes were making
        self.marked_at = time.monotonic()  # all that is used

    def key(self, kind: str, parts: Mapping) -> str:
        return key_of({**parts, "code": self.code(kind)})

    def place(self, kind: str, parts: Mapping, rows: Sequence | None = None) -> Path:
        """Where the artifact of a kind made from `parts` lies, or of it the shard that holds `rows`."""
        path = self.root / kind / self.key(kind, parts)
        return path if rows is None else path / key_of({"rows": rows})

    def find(self, path: Path, fault: Fault = lambda path: None) -> Path | None:
        """The directory of an artifact that is there, whole and without fault, else None.

        Sizes are compared always, contents when this process first opens it, and then what it holds must be what is
        read here: `fault` says why it is not. What is damaged is moved aside with a line of warning.
        Errors: it cannot be read, exit 5.
        """
        kind, first = path.relative_to(self.root).parts[0], path not in self.verified
        try:
            done = (path / DONE).read_text(errors="replace")
            why = damage(kind, path, done, first) or (fault(path) if first else None)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if not lacks_done(path):  # nothing is there, or it was published this moment
                return None
            why = f"it has no {DONE}"
        except OSError as error:
            raise machine_error(error, path, "read") from error
        if why:
            return self.move_aside(path, why)
        self.verified.add(path)
        return path

    def move_aside(self, path: Path, why: str) -> None:
        for n in range(1000):
            aside = path.with_name(f"{path.name}.bad.{n}")
            if not aside.exists():
                with contextlib.suppress(FileNotFoundError):  # another process did it, or pruned it
                    path.rename(aside)
                    self.warn(f"store: {self.short(path)} is damaged ({why}): moved aside, made again when needed")
                break

    def short(self, path: Path) -> str:
        """activations/1a2b3c4d of a path."""
        kind, key, *_ = path.relative_to(self.root).parts
        return f"{kind}/{key[:8]}"

    @contextlib.contextmanager
    def entry(
        self, kind: str, parts: Mapping, rows: Sequence | None = None, fault: Fault = lambda path: None
    ) -> Iterator[Entry]:
        """Enter the artifact made from `parts`, with `rows` the shard of it that holds them: it is there, or missing.

        One that has a `fault`, which says why it cannot be used, is missing too.

        `with store.entry(kind, parts) as entry: if entry.missing: ...` fills `entry.folder`, which is published when
        the block ends without an error. Where another process is making it, wait for that up to `wait_s`, then make a
        private copy: correctness never depends on the lock, only double work does. Errors: no room, a read-only disk,
        exit 5.
        """
        path = self.place(kind, parts, rows)
        temporary = path.with_name(f"{path.name}.tmp.{process_id('.')}")
        entry = Entry(path)
        with contextlib.ExitStack() as held:
            if not self.has(kind, path, fault):
                with machine_errors(path):
                    entry.folder = self.claim_folder(kind, path, temporary, held)
            if not entry.missing:
                held.close()
                self.use(path)
                yield entry
                return
            with machine_errors(path):
                yield entry
                about = {**parts, "code": self.code(kind)} | ({} if rows is None else {"rows": rows})
                self.added += publish(temporary, path, about, replace=kind in self.anew)
                self.made.add(path)
        self.use(path)

    def has(self, kind: str, path: Path, fault: Fault = lambda path: None) -> bool:
        """Return whether an artifact is there, without fault and not to be made anew."""
        return not self.stale(kind, path) and self.find(path, fault) is not None

    def is_current(self, kind: str, path: Path) -> bool:
        """Return whether an artifact was published and is not to be made anew; its files are not looked at."""
        return (path / DONE).exists() and not self.stale(kind, path)

    def claim_folder(self, kind: str, path: Path, temporary: Path, held: contextlib.ExitStack) -> Path | None:
        """Return an empty folder to fill, its lock `held`; None where another process made the artifact meanwhile."""
        path.parent.mkdir(parents=True, exist_ok=True)
        asked = time.monotonic()
        there = partial(self.is_current, kind, path)
        lock = held.enter_context(claim(path, self.short(path), there, self.wait_s, self.warn, self.waits))
        held.enter_context(marked((lock, temporary), self.used))
        self.waited += time.monotonic() - asked
        if self.has(kind, path):
            return None
        shutil.rmtree(temporary, ignore_errors=True)
        held.callback(shutil.rmtree, temporary, ignore_errors=True)
        temporary.mkdir()
        return temporary

    def stale(self, kind: str, path: Path) -> bool:
        """Whether what lies at a path, if anything does, is to be made anew."""
        try:
            return kind in self.anew and path.stat().st_mtime < self.since
        except FileNotFoundError:
            return False

    def use(self, path: Path) -> None:
        """Mark an artifact as used now: what was not used for longest is pruned first; now and then all that is."""
        self.verified.add(path)
        self.used.add(path)
        now, due = time.monotonic(), {path}
        if now - self.marked_at > USE_SECONDS:
            self.marked_at, due = now, self.used
        for one in due:
            mark_used(one)

    def shards(self, kind: str, parts: Mapping, rows: Collection, fault: Fault = lambda path: None) -> list[Path]:
        """The shards of the artifact made from `parts` that hold any of `rows`, as far as they are without fault."""
        wanted, there = frozenset(rows), sorted(self.place(kind, parts).glob(f"*/{DONE}"))
        found = [self.find(done.parent, fault) for done in there if is_published(done) and holds_any(done, wanted)]
        paths = [path for path in found if path is not None]
        for path in paths:
            self.use(path)
        return paths

    def remember(self, name: str, facts: Mapping) -> None:
        """Keep small facts under a name, the last ones win. They only ever inform; nothing correct depends on them."""
        path = self.root / "facts" / f"{name}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json_text(facts))
        except OSError as error:
            raise machine_error(error, path) from error

    def recall(self, name: str, **kinds: type | UnionType) -> dict:
        """The facts kept under a name; none unless each of `kinds` is there with a value of its type.

        Whoever can write to the store can write what is no fact.
        """
        facts = read_json(self.root / "facts" / f"{name}.json")
        return facts if all(isinstance(facts.get(key), kind) for key, kind in kinds.items()) else {}


def is_published(done: Path) -> bool:
    """Whether a DONE.json is that of an artifact, neither being built nor moved aside."""
    return "." not in done.parent.name


def holds_any(done: Path, wanted: frozenset) -> bool:
    """Whether a shard has any of the rows; also where its DONE.json cannot be read, of which `find` then warns."""
    try:
        return not wanted.isdisjoint(read_json(done)["parts"]["rows"])
    except (LookupError, TypeError):
        return True
