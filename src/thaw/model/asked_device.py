"""What `device` and `precision` ask for, and what of it can be refused without torch."""

import subprocess
import sys
from functools import cache

from thaw.config.schema import Settings
from thaw.runtime.errors import UserError
from thaw.runtime.machine import listed_gpus

LOOK = "import sys, torch; sys.exit(not torch.cuda.is_available())"


def parse_device(name: str) -> tuple[str, int]:
    """Return the kind and the index of a named device. Errors: exit 2."""
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not index.isdecimal()):
        raise UserError(2, f"device={name}: must be auto, cpu, cuda, cuda:1 or mps")
    return kind, int(index or 0)


def check_asked(settings: Settings, here: bool) -> None:
    """Errors: no such device, as `check_kind`, exit 2; it is not there, though the job is to run `here`, exit 5."""
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
    """Errors: a precision or a promise that no device of the kind has, exit 2."""
    if kind == "mps" and settings.deterministic:
        raise UserError(2, "deterministic=true: Apple's GPUs do not promise it; use device=cpu")
    if kind in ("cpu", "mps") and settings.precision == "tf32":
        raise no_tf32(kind)


@cache
def torch_has_cuda() -> bool:
    """Return whether torch can use a GPU that nvidia-smi does not list, such as AMD's.

    Asked in another process: one that has asked cannot be forked, as the jobs of a sweep are.
    """
    return subprocess.run([sys.executable, "-c", LOOK], capture_output=True).returncode == 0


def no_cuda(asked: str) -> UserError:
    return UserError(5, f"device={asked}: no CUDA device here; use device=cpu")


def no_such_index(asked: str, there: int) -> UserError:
    are = "is 1 CUDA device" if there == 1 else f"are {there} CUDA devices"
    return UserError(5, f"device={asked}: there {are} here, counted from cuda:0")


def no_apple_gpu(asked: str) -> UserError:
    return UserError(5, f"device={asked}: no Apple GPU here; use device=cpu")


def no_tf32(device: object) -> UserError:
    return UserError(
        2, f"precision=tf32: only a CUDA GPU of capability 8.0 and up has it, not {device}; use precision=float32"
    )
