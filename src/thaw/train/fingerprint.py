"""Whether the same command was given before, told from what costs nothing to look at. Standard library only.

A run is known by what it depends on (`keys.run_parts`), which takes the network and the images to be loaded. Until
something changes on disk, in the code, the libraries or the machine, the same settings lead to the same parts: that is
what a stamp stands for, so that a finished run is recognised in the time it takes to read a folder.
"""

import os
from functools import cache
from hashlib import sha256

from thaw.config.schema import Settings
from thaw.data.file_state import named_files
from thaw.runtime import machine
from thaw.runtime.machine import ENVIRONMENT, cores, host_id, visible_gpus
from thaw.store import code_hash
from thaw.store.store import key_of

UNRELATED = ("store", "wandb", "name", "tags", "notes", "fresh", "monitor")
UNRELATED += ("log_every", "verbose", "plan_only", "stop_after")


def fingerprint(settings: Settings) -> str:
    """A key of the settings and of all that they name: files by size and time, code, libraries, machine."""
    related = {name: value for name, value in vars(settings).items() if name not in UNRELATED}
    return key_of(
        {
            # In the order of the phases and of the transforms; two schedulers of equal options differ by their class.
            "settings": repr(related),
            "files": named_files(settings),
            "code": code_digest() if settings.store.code == "check" else None,
            "versions": machine.library_versions(),
            "machine": [host_id(), cores(), visible_gpus(settings.deterministic), *map(os.environ.get, ENVIRONMENT)],
        }
    )


@cache
def code_digest() -> str:
    """A hash of every module here, to the byte: which of them a run depends on is asked once it is set up."""
    return sha256(b"".join(file.read_bytes() for file in sorted(code_hash.ROOMS.rglob("*.py")))).hexdigest()
