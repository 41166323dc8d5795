"""Snapshots of work in progress, from which a run continues after its process was killed.

A snapshot file contains the SHA-256 of the rest, the length of a JSON text, the text, and tensors as safetensors. It is
written under a temporary name, synced and renamed; the snapshot before it is kept as `previous`. Training is
deterministic, so continuing from the older one ends in the same bits.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from thaw.runtime.failures import machine_error
from thaw.runtime.files import sync
from thaw.runtime.machine import process_id

NAMES = ("snapshot", "previous")


def write(folder: Path, state: dict, tensors: dict[str, Tensor]) -> None:
    """Write a state as the newest snapshot, durably. Raise UserError (exit 5) if the disk is full or read-only."""
    text = json.dumps(state).encode()
    body = len(text).to_bytes(8, "big") + text + save({name: tensor.contiguous() for name, tensor in tensors.items()})
    newest, previous = (folder / name for name in NAMES)
    temporary = folder / f"snapshot.tmp.{process_id('.')}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.replace(newest, previous)
        os.replace(temporary, newest)
        sync(folder)
    except FileNotFoundError:
        pass  # another process finished the cycle and removed the folder
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise machine_error(error, newest) from error


def read(folder: Path) -> tuple[dict, dict[str, Tensor]] | None:
    """Return the newest snapshot that is whole, or None."""
    for name in NAMES:
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError, RecursionError, SafetensorError):
            content = (folder / name).read_bytes()
            digest, body = content[:32], content[32:]
            if hashlib.sha256(body).digest() == digest:
                length = int.from_bytes(body[:8], "big")
                state = json.loads(body[8 : 8 + length])
                return (state if isinstance(state, dict) else {}), load(body[8 + length :])
    return None


def remove(folder: Path) -> None:
    """Remove the snapshots of finished work, but not what another process is writing there."""
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
