"""The store: artifacts addressed by what they were made from.

`DIR/<kind>/<key>/` holds an artifact's files and, written last, DONE.json with their sizes, their SHA-256 and the parts
of the key. An artifact is built in a private temporary directory and published by one rename. So a builder killed at
any point leaves nothing that a reader can see, and two builders of the same artifact need no lock: the second drops its
own. An artifact that grows with the images is a directory of immutable shards, each built like an artifact.
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

Fault = Callable[[Path], str | None]  # returns why an artifact cannot be used, or None


def key_of(parts: Mapping) -> str:
    """Return the address of an artifact: 32 hex digits of the SHA-256 of its parts as canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass
class Entry:
    """An artifact's place in the store: its `path` and, if it is missing, a `folder` to fill."""

    path: Path
    folder: Path | None = None

    @property
    def missing(self) -> bool:
        return self.folder is not None


class Store:
    """The artifacts below one directory, which processes and machines may share.

    `code(kind)` is the part of every key that covers the code of a kind. Artifacts of the kinds in `anew` are made
    again if they are older than `since`, by the file system's clock. `waits` is called with the name of an artifact
    that another process is making, and with None when the wait is over.
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
        self.since = since  # seconds since the epoch
        self.code = code
        self.verified: set[Path] = set()
        self.used: set[Path] = set()
        self.made: set[Path] = set()  # by this process
        self.added = 0  # bytes that this process published
        self.waited = 0.0  # seconds spent waiting for other processes
        self.marked_at = time.monotonic()  # when all of `used` was last marked

    def key(self, kind: str, parts: Mapping) -> str:
        return key_of({**parts, "code": self.code(kind)})

    def place(self, kind: str, parts: Mapping, rows: Sequence | None = None) -> Path:
        """Return the path of the artifact made from `parts`, or of its shard that holds `rows`."""
        path = self.root / kind / self.key(kind, parts)
        return path if rows is None else path / key_of({"rows": rows})

    def usable(self, path: Path, fault: Fault = lambda path: None) -> Path | None:
        """Return `path` if it is an artifact that is whole and has no fault, else None.

        Compare sizes each time. When this process first opens the artifact, also compare contents and ask `fault` why
        they cannot be used. Move a damaged artifact aside and warn. Raise UserError (exit 5) if it cannot be read.
        """
        kind, first = path.relative_to(self.root).parts[0], path not in self.verified
        try:
            done = (path / DONE).read_text(errors="replace")
            why = damage(kind, path, done, first) or (fault(path) if first else None)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if not lacks_done(path):  # it does not exist, or was published just now
                return None
            why = f"it has no {DONE}"
        except OSError as error:
            raise machine_error(error, path, "read") from error
        if why:
            return self.move_aside(path, why)
        self.verified.add(path)
        return path

    def move_aside(self, path: Path, why: str) -> None:
        """Rename a damaged artifact, so that it is made again, and warn."""
        for n in range(1000):
            aside = path.with_name(f"{path.name}.bad.{n}")
            if not aside.exists():
                with contextlib.suppress(FileNotFoundError):  # another process moved or pruned it
                    path.rename(aside)
                    self.warn(f"warning: store: {self.short(path)} is damaged ({why}): moved aside, to be made again")
                break

    def short(self, path: Path) -> str:
        """Return the short name of an artifact, such as activations/1a2b3c4d."""
        kind, key, *_ = path.relative_to(self.root).parts
        return f"{kind}/{key[:8]}"

    @contextlib.contextmanager
    def entry(
        self, kind: str, parts: Mapping, rows: Sequence | None = None, fault: Fault = lambda path: None
    ) -> Iterator[Entry]:
        """Enter the artifact made from `parts`, or its shard that holds `rows`.

        It is missing if it does not exist or if `fault` returns why it cannot be used.

        `with store.entry(kind, parts) as entry: if entry.missing: ...` fills `entry.folder`, which is published when
        the block ends without an error. If another process is making the artifact, wait up to `wait_s`, then make a
        private copy: the lock saves double work, but correctness never depends on it. Raise UserError (exit 5) if the
        disk is full or read-only.
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
        """Return whether an artifact exists, has no fault and need not be made again."""
        return not self.stale(kind, path) and self.usable(path, fault) is not None

    def is_current(self, kind: str, path: Path) -> bool:
        """Return whether an artifact was published and need not be made again, without looking at its files."""
        return (path / DONE).exists() and not self.stale(kind, path)

    def claim_folder(self, kind: str, path: Path, temporary: Path, held: contextlib.ExitStack) -> Path | None:
        """Return an empty folder to fill, its lock `held`; None if another process has made the artifact meanwhile."""
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
        """Return whether the artifact at a path, if any, has to be made again."""
        try:
            return kind in self.anew and path.stat().st_mtime < self.since
        except FileNotFoundError:
            return False

    def use(self, path: Path) -> None:
        """Mark an artifact as used now, so that it is pruned last; every USE_SECONDS, mark all that are in use."""
        self.verified.add(path)
        self.used.add(path)
        now, due = time.monotonic(), {path}
        if now - self.marked_at > USE_SECONDS:
            self.marked_at, due = now, self.used
        for one in due:
            mark_used(one)

    def shards(self, kind: str, parts: Mapping, rows: Collection, fault: Fault = lambda path: None) -> list[Path]:
        """Return the shards of the artifact made from `parts` that hold any of `rows` and have no fault."""
        wanted, there = frozenset(rows), sorted(self.place(kind, parts).glob(f"*/{DONE}"))
        found = [self.usable(done.parent, fault) for done in there if is_published(done) and holds_any(done, wanted)]
        paths = [path for path in found if path is not None]
        for path in paths:
            self.use(path)
        return paths

    def remember(self, name: str, facts: Mapping) -> None:
        """Keep small facts under a name, replacing earlier ones. Correctness never depends on them."""
        path = self.root / "facts" / f"{name}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json_text(facts))
        except OSError as error:
            raise machine_error(error, path) from error

    def recall(self, name: str, **kinds: type | UnionType) -> dict:
        """Return the facts kept under a name; none unless each of `kinds` exists with a value of its type.

        The types are checked because anyone who can write to the store may have changed the file.
        """
        facts = read_json(self.root / "facts" / f"{name}.json")
        return facts if all(isinstance(facts.get(key), kind) for key, kind in kinds.items()) else {}


def is_published(done: Path) -> bool:
    """Return whether a DONE.json belongs to a published artifact, not to one being built or moved aside."""
    return "." not in done.parent.name


def holds_any(done: Path, wanted: frozenset) -> bool:
    """Return whether a shard has any of the rows; True if its DONE.json cannot be read, and `usable` then warns."""
    try:
        return not wanted.isdisjoint(read_json(done)["parts"]["rows"])
    except (LookupError, TypeError):
        return True
