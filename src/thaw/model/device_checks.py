"""Check the settings `device` and `precision` as far as that is possible without torch."""

import subprocess
import sys
from functools import cache

from thaw.config.schema import Settings
from thaw.runtime.errors import UserError
from thaw.runtime.machine import listed_gpus

HAS_CUDA = "import sys, torch; sys.exit(not torch.cuda.is_available())"


def parse_device(name: str) -> tuple[str, int]:
    """Return the kind and index of a named device. Raise UserError (exit 2) if the name is not valid."""
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not index.isdecimal()):
        raise UserError(2, f"device={name}: must be auto, cpu, cuda, cuda:1 or mps")
    return kind, int(index or 0)


def check_asked(settings: Settings, here: bool) -> None:
    """Check the settings of a job that is to run `here` or elsewhere.

    Raise UserError: exit 2 as `parse_device` and `check_kind`, exit 5 if the device does not exist `here`.
    """
    asked = settings.device
    kind, index = ("auto", 0) if asked == "auto" else parse_device(asked)
    if here and kind == "mps" and sys.platform != "darwin":
        raise no_apple_gpu(asked)
    needs_cuda = kind == "cuda" or (kind == "auto" and settings.precision == "tf32")
    if here and needs_cuda and not (listed := listed_gpus()) and not torch_has_cuda():
        raise no_cuda(asked) if kind == "cuda" else no_tf32("cpu")
    if here and needs_cuda and listed and index >= len(listed):
        raise no_such_index(asked, len(listed))
    check_kind(kind, settings)


def check_kind(kind: str, settings: Settings) -> None:
    """Raise UserError (exit 2) for a precision or a guarantee that no device of the kind has."""
    if kind == "mps" and settings.deterministic:
        raise UserError(2, "deterministic=true: Apple GPUs do not guarantee it; use device=cpu")
    if kind in ("cpu", "mps") and settings.precision == "tf32":
        raise no_tf32(kind)


@cache
def torch_has_cuda() -> bool:
    """Return whether torch can use a GPU that nvidia-smi does not list, such as AMD's.

    Ask in another process: one that has asked cannot be forked any more, and a sweep forks its jobs.
    """
    return subprocess.run([sys.executable, "-c", HAS_CUDA], capture_output=True).returncode == 0


def no_cuda(asked: str) -> UserError:
    return UserError(5, f"device={asked}: no CUDA device here; use device=cpu")


def no_such_index(asked: str, count: int) -> UserError:
    names = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
    return UserError(5, f"device={asked}: this machine has {count} CUDA device{'s' * (count > 1)}; use {names}")


def no_apple_gpu(asked: str) -> UserError:
    return UserError(5, f"device={asked}: no Apple GPU here; use device=cpu")


def no_tf32(device: object) -> UserError:
    return UserError(
        2, f"precision=tf32: needs a CUDA GPU of capability 8.0 or higher, not {device}; use precision=float32"
    )
