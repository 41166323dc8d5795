"""A cheap fingerprint ("stamp") of a command, by which a finished run is recognised without loading anything.

The exact identity of a run (`keys.run_parts`) needs the network and the images to be loaded. But the same settings lead
to the same identity until files, code, libraries or the machine change, and those are quick to check.
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
    """Return a key of the settings and what they refer to: files (by size and time), code, libraries, machine."""
    related = {name: value for name, value in vars(settings).items() if name not in UNRELATED}
    return key_of(
        {
            # repr keeps the order of phases and transforms, and the class of schedulers with equal options.
            "settings": repr(related),
            "files": named_files(settings),
            "code": code_digest() if settings.store.code == "check" else None,
            "versions": machine.library_versions(),
            "machine": [host_id(), cores(), visible_gpus(settings.deterministic), *map(os.environ.get, ENVIRONMENT)],
        }
    )


@cache
def code_digest() -> str:
    """Return a hash of all source files; which of them a run depends on is known only once it is set up."""
    return sha256(b"".join(file.read_bytes() for file in sorted(code_hash.PACKAGES.rglob("*.py")))).hexdigest()
