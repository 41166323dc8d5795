"""The device and how it computes: precision, threads, and seeds of random draws."""

import os
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from thaw.config.schema import Settings
from thaw.config.values import parse_count
from thaw.model.device_checks import check_kind, no_apple_gpu, no_cuda, no_such_index, no_tf32, parse_device
from thaw.runtime import machine
from thaw.runtime.console import say_notes
from thaw.runtime.errors import UserError
from thaw.runtime.machine import cores, listed_gpus

ONE_PIXEL_LEFT = 16
TENSOR_CORES = (8, 0)  # the lowest CUDA capability that multiplies bfloat16 and TF32 in hardware
MOST_THREADS = 16
SMALL_WORK = 50e6  # multiply-adds per image


@dataclass(frozen=True)
class Device:
    """A torch device and the rules that go with it."""

    device: torch.device
    dtype: torch.dtype  # of the backbone: float32, or bfloat16 under autocast
    threads: int  # CPU threads
    tf32: bool = False  # float32 products with the ten mantissa bits of TF32
    gpu: str | None = None  # model of the CUDA GPU, and the CUDA version torch was built for
    deterministic: bool = False

    def autocast(self, size: int):
        """Return the context in which the backbone runs on images of `size` pixels; its weights stay float32."""
        # oneDNN's bfloat16 weight gradient of a strided convolution over one pixel reads uninitialised memory
        # (torch 2.14, AVX-512: not finite, different each time), and 16 pixels are one after four halvings.
        if self.dtype == torch.float32 or (self.device.type == "cpu" and size <= ONE_PIXEL_LEFT):
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor on the device; the copy to a CUDA GPU is asynchronous."""
        cuda = self.device.type == "cuda"
        if cuda and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        # On other devices, the source may be freed before the copy is done (MPS: pytorch/pytorch#139550).
        return tensor.to(self.device, non_blocking=cuda)

    def seed(self, seed: int) -> None:
        """Seed the generators of the CPU and of the device.

        torch.manual_seed seeds every kind of device. For each kind that does not exist it stores a stack trace, which
        takes longer than a step on stored activations.
        """
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)

    @property
    def precision(self) -> str:
        return "tf32" if self.tf32 else str(self.dtype).removeprefix("torch.")

    @property
    def computed(self) -> dict:
        """The properties of the device that the bits of a result depend on, for keys.

        On the CPU they depend on the number of threads. On a GPU they are reproducible only with `deterministic`, and
        only on the same GPU model with the same CUDA version. Without it, the GPU model is recorded but is in no key.
        """
        on_cpu = {"threads": self.threads} if self.device.type == "cpu" else {}
        exact = {"gpu": self.gpu, "deterministic": True} if self.deterministic else {}
        return machine.numerics(self.device.type, self.precision, **on_cpu, **exact)

    def __str__(self) -> str:
        about = self.gpu or (f"{self.threads} thread{'s' * (self.threads > 1)}" if self.device.type == "cpu" else None)
        return f"{self.device}{f' ({about})' if about else ''}, {self.precision}"


def choose_device(settings: Settings) -> Device:
    """Return the device that the settings ask for, and set up this process for it with one CPU thread.

    `device=auto` is the first CUDA GPU, else Apple's, else the CPU. `precision=auto` is bfloat16 if the hardware
    multiplies it (CUDA capability 8.0 or higher, x86 with the AVX-512 that oneDNN needs), else float32, because
    emulated bfloat16 is several times slower (scripts/bench/precision.py). Raise UserError (exit 5) if the device does
    not exist.
    """
    kind, index = (default_device(), 0) if settings.device == "auto" else parse_device(settings.device)
    device = cuda_device(settings.device, index) if kind == "cuda" else torch.device(kind)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise no_apple_gpu(settings.device)
    check_kind(kind, settings)
    if settings.device == "auto" and kind == "cpu" and (listed := listed_gpus()):
        say_notes([f"warning: the CPU is used: {unusable(len(listed))}"])
    asked, dtype = settings.precision, torch.float32
    if asked == "bfloat16" or (asked == "auto" and multiplies_bfloat16(device)):
        dtype = torch.bfloat16
    if asked == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < TENSOR_CORES):
        raise no_tf32(device)
    gpu = None
    if device.type == "cuda":
        torch.cuda.set_device(device)  # so that `seed` seeds this device's generator
        gpu = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
        for products in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):  # their defaults differ
            products.fp32_precision = "tf32" if asked == "tf32" else "ieee"
        if settings.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
        torch.use_deterministic_algorithms(settings.deterministic)
    torch.set_num_threads(1)
    return Device(device, dtype, 1, asked == "tf32", gpu, settings.deterministic and gpu is not None)


def cuda_device(asked: str, index: int) -> torch.device:
    """Return a CUDA device with its index, for torch.cuda.set_device. Raise UserError (exit 5) if it does not exist."""
    if not has_cuda():
        listed = listed_gpus()
        raise UserError(5, f"device={asked}: {unusable(len(listed))}; use device=cpu") if listed else no_cuda(asked)
    if index >= (count := torch.cuda.device_count()):
        raise no_such_index(asked, count)
    return torch.device("cuda", index)


def has_cuda() -> bool:
    """Return whether torch can use a CUDA GPU, without torch's warning if it cannot; `unusable` says why."""
    with warnings.catch_warnings(action="ignore"):
        return torch.cuda.is_available()


def unusable(listed: int) -> str:
    """Say that torch cannot use the listed GPUs and, if torch says it, why."""
    what = "GPU" if listed == 1 else f"{listed} GPUs"
    try:
        torch.cuda.init()
        why = ""
    except (RuntimeError, AssertionError) as error:  # built without CUDA: an AssertionError
        why = " (" + " ".join(str(error).split()).partition(". ")[0][:160] + ")"
    return f"torch {torch.__version__} cannot use this machine's {what}{why}"


def with_threads(device: Device, settings: Settings, work: float) -> Device:
    """Set the CPU threads for a network of `work` multiply-adds per image, and return the device with them.

    `threads=auto` is one thread below SMALL_WORK, where a step is over before a second thread has woken up
    (scripts/bench/busy.py). Above, it is a thread per core, at most 16.
    """
    threads = parse_count(settings.threads, "threads", 1)
    if threads is None:
        threads = 1 if work < SMALL_WORK else min(cores(), MOST_THREADS)
    elif threads > cores():
        say_notes([f"warning: threads={threads} on {cores()} cores is slower than threads=auto"])
    torch.set_num_threads(threads)
    return replace(device, threads=threads)


def default_device() -> str:
    """Return the kind of device that `device=auto` chooses."""
    if has_cuda():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 faster than float32, judging by its capability."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= TENSOR_CORES
    return device.type == "cpu" and "AVX512" in torch.backends.cpu.get_cpu_capability()
