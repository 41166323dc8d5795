"""Where and how the numbers are computed: device, precision, memory format, threads, and the seed of every draw."""

import json
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import blake2b

import torch

from thaw.checks import whole_or_auto
from thaw.errors import UserError
from thaw.keys import cores
from thaw.progress import notes
from thaw.settings import Settings

ONE_PIXEL_LEFT = 16


@dataclass(frozen=True)
class Device:
    """A torch device and the rules that go with it."""

    device: torch.device
    dtype: torch.dtype  # what the body is computed in: float32, or bfloat16 under autocast
    threads: int

    def autocast(self, size: int):
        """The context in which the body runs on pictures of `size` pixels; its weights stay float32."""
        # oneDNN's bfloat16 weight gradient of a strided convolution over one pixel reads memory that nobody wrote
        # (torch 2.14, AVX-512: not finite, different each time), and one pixel is left of 16 after four halvings.
        if self.dtype == torch.float32 or (self.device.type == "cpu" and size <= ONE_PIXEL_LEFT):
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the device; the copy to a CUDA GPU does not wait."""
        cuda = self.device.type == "cuda"
        if cuda and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        # Elsewhere the source may be gone before the copy is done (MPS: pytorch/pytorch#139550).
        return tensor.to(self.device, non_blocking=cuda)

    def seed(self, seed: int) -> None:
        """Seed the draws of the CPU and of the device.

        torch.manual_seed does so for every kind of device there might be: for those that are not there it keeps a stack
        trace each time, which is slower than a step on stored activations.
        """
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else f"{self.threads} threads"
        return f"{self.device} ({name}), {str(self.dtype).removeprefix('torch.')}"


def choose(settings: Settings) -> Device:
    """The device the settings ask for, this process set up for it.

    `precision=auto` is bfloat16 where the hardware multiplies it (CUDA capability 8.0 and up, x86 with AVX-512 as
    oneDNN wants it), else float32: emulated, it is several times slower (scripts/bench/precision.py).
    Errors: a device that is not there, exit 5.
    """
    device = torch.device(default_device() if settings.device == "auto" else parse(settings.device))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(5, f"device={settings.device}: no CUDA device here; device=cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(5, f"device={settings.device}: there are {torch.cuda.device_count()} CUDA devices here")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(5, f"device={settings.device}: no Apple GPU here; device=cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # whose generator `seed` then seeds
    dtype = torch.float32
    if settings.precision == "bfloat16" or (settings.precision == "auto" and multiplies_bfloat16(device)):
        dtype = torch.bfloat16
    threads = whole_or_auto(settings.threads, "threads", 1) or min(cores(), 16)
    if threads > cores():
        notes([f"warning: threads={threads} on {cores()} cores is slower than threads=auto"])
    torch.set_num_threads(threads)
    return Device(device, dtype, threads)


def parse(name: str) -> str:
    """A device name as torch takes it. Errors: exit 2."""
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdecimal()):
        raise UserError(2, f"device={name}: must be auto, cpu, cuda, cuda:1 or mps")
    return name


def default_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there, by the hardware's capability."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and "AVX512" in torch.backends.cpu.get_cpu_capability()


def mix(*key) -> int:
    """A seed in [0, 2^63) from any key of strings and numbers, the same on every machine and in every process."""
    return int.from_bytes(blake2b(json.dumps(key).encode(), digest_size=8).digest(), "big") >> 1
