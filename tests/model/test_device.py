"""The choice of the device, tested with a fake torch.cuda, and the number of threads of a network."""

import math
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import timm
import torch
from brief import CONFIG

import train
from thaw.config.job_request import JobRequest
from thaw.model import device, network
from thaw.model.device import Device
from thaw.runtime import failures, job_status, machine
from thaw.runtime.errors import UserError
from thaw.store.open import open_store
from thaw.train import job, memory
from thaw.train.setup import set_up

CPU = Device(torch.device("cpu"), torch.float32, 1)


@pytest.fixture
def cuda(monkeypatch):
    """Return cuda(devices=1, capability=(9, 0), why="") -> the indices passed to the fake torch.cuda.set_device.

    It fakes a machine with such GPUs, which torch cannot use if `why` is given. Like the real one, the fake set_device
    requires a device with an index.
    """
    set_to = []

    def faked(devices=1, capability=(9, 0), why="", mps=False):
        def init():
            if why or not devices:
                raise RuntimeError(why or "No CUDA GPUs are available")

        def set_device(which):
            index = torch.cuda._utils._get_device_index(which)
            assert index < devices
            set_to.append(index)

        usable = 0 if why else devices
        fakes = {
            "init": init,
            "is_available": lambda: usable > 0,
            "device_count": lambda: usable,
            "get_device_capability": lambda which: capability,
            "get_device_name": lambda which: f"Fake {which.index}",
            "set_device": set_device,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(device, "listed_gpus", lambda: [str(i) for i in range(devices)])
        return set_to

    products = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [one.fp32_precision for one in products]
    yield faked
    for one, was in zip(products, before, strict=True):
        one.fp32_precision = was
    torch.use_deterministic_algorithms(False)


def refusal(settings) -> UserError:
    with pytest.raises(UserError) as caught:
        device.choose_device(settings)
    return caught.value


CHOICES = [  # device=, number of GPUs, capability, has an Apple GPU; the device chosen, its precision
    ("auto", 0, None, False, "cpu", None),
    ("auto", 1, (9, 0), False, "cuda:0", "bfloat16"),
    ("auto", 4, (8, 0), False, "cuda:0", "bfloat16"),
    ("auto", 1, (7, 5), False, "cuda:0", "float32"),  # T4: bfloat16 would be emulated
    ("cuda", 1, (9, 0), False, "cuda:0", "bfloat16"),
    ("cuda:1", 2, (9, 0), False, "cuda:1", "bfloat16"),
    ("cuda:01", 2, (9, 0), False, "cuda:1", "bfloat16"),
    ("cpu", 2, (9, 0), False, "cpu", None),
    ("auto", 0, None, True, "mps:0", "float32"),
    ("mps", 0, None, True, "mps:0", "float32"),
]


@pytest.mark.parametrize(("asked", "devices", "capability", "mps", "taken", "precision"), CHOICES)
def test_the_device_that_is_chosen(compose, cuda, asked, devices, capability, mps, taken, precision):
    set_to = cuda(devices, capability, mps=mps)
    chosen = device.choose_device(compose(f"device={asked}"))
    assert str(chosen.device).removesuffix(":0") == taken.removesuffix(":0")
    assert precision is None or chosen.precision == precision
    if taken.startswith("cuda"):
        assert chosen.device.index == int(taken[-1]) and set_to == [chosen.device.index]
        assert str(chosen) == f"{taken} (Fake {taken[-1]}, CUDA 13.0), {precision}"
    else:
        assert set_to == []


REFUSED = [  # device=, number of GPUs, why torch cannot use them; the exit code, and a part of the message
    ("cuda", 0, "", 5, "device=cuda: no CUDA device here; use device=cpu"),
    ("cuda:7", 2, "", 5, "device=cuda:7: this machine has 2 CUDA devices; use cuda:0 to cuda:1"),
    ("cuda:1", 1, "", 5, "device=cuda:1: this machine has 1 CUDA device; use cuda:0"),
    ("cuda", 2, "The NVIDIA driver on your system is too old (found version 11040). Update", 5,
     f"torch {torch.__version__} cannot use this machine's 2 GPUs (The NVIDIA driver on your system is too old "
     "(found version 11040))"),
    ("mps", 0, "", 5, "device=mps: no Apple GPU here; use device=cpu"),
    ("gpu", 1, "", 2, "device=gpu: must be auto, cpu, cuda, cuda:1 or mps"),
    ("cuda:x", 1, "", 2, "device=cuda:x: must be auto"),
    ("cuda:", 1, "", 2, "device=cuda:: must be auto"),
    ("cuda:256", 1, "", 5, "device=cuda:256: this machine has 1 CUDA device;"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "devices", "why", "code", "says"), REFUSED)
def test_a_device_that_does_not_exist_is_refused(compose, cuda, asked, devices, why, code, says):
    cuda(devices, why=why)
    settings = compose()
    settings.device = asked
    error = refusal(settings)
    assert error.code == code and says in error.line


def test_a_warning_if_torch_cannot_use_the_gpus(compose, cuda, capsys):
    cuda(1, why="The NVIDIA driver on your system is too old")
    assert device.choose_device(compose("device=auto")).device.type == "cpu"
    said = capsys.readouterr().out
    assert said.startswith(f"warning: the CPU is used: torch {torch.__version__} cannot use this machine's GPU (")
    assert "too old" in said
    device.choose_device(compose("device=cpu"))
    cuda(0)
    device.choose_device(compose("device=auto"))
    assert capsys.readouterr().out == "", "no warning if the CPU was asked for, or there is no GPU"


@pytest.mark.parametrize(
    ("asked", "set_to"), [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee"), ("auto", "ieee")]
)
def test_the_precision_of_float32_products_is_set_on_a_gpu(compose, cuda, asked, set_to):
    cuda(1)
    chosen = device.choose_device(compose("device=cuda", f"precision={asked}"))
    assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == set_to
    assert chosen.precision == {"auto": "bfloat16"}.get(asked, asked)
    assert chosen.dtype == (torch.bfloat16 if asked in ("auto", "bfloat16") else torch.float32)


@pytest.mark.parametrize(("devices", "capability"), [(0, None), (1, (7, 5))])
def test_tf32_is_refused_on_hardware_without_it(compose, cuda, devices, capability):
    cuda(devices, capability)
    assert refusal(compose("precision=tf32")).code == 2


def test_which_properties_of_a_device_are_in_keys(compose, cuda, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # put back after the test
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    cuda(1)
    plain, exact = (device.choose_device(compose("device=cuda", f"deterministic={on}")) for on in ("false", "true"))
    one, four = (device.with_threads(plain, compose("device=cuda", f"threads={n}"), 1e9) for n in (1, 4))
    assert one.computed == four.computed, "the number of CPU threads does not matter on a GPU"
    assert plain.computed.keys() == {"device", "dtype", "versions"}
    assert exact.computed == plain.computed | {"gpu": "Fake 0, CUDA 13.0", "deterministic": True}
    assert torch.are_deterministic_algorithms_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    on_cpu = device.choose_device(compose("device=cpu", "deterministic=true"))
    assert on_cpu.computed.keys() == {"device", "dtype", "threads", "versions"}


def test_the_choice_of_gpu_is_in_the_stamp_only_with_deterministic(monkeypatch):
    marks = {}
    for named in ("0", "1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        marks[named] = machine.visible_gpus(False), machine.visible_gpus(True)
    assert marks == {"0": (1, ["0"]), "1": (1, ["1"])}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")
    assert machine.visible_gpus(False) == 0


def test_deterministic_is_refused_on_an_apple_gpu(compose, cuda):
    cuda(0, mps=True)
    assert refusal(compose("deterministic=true")).code == 2


# several processes, and failures of an accelerator --------------------------------------------------------------------


STARTED = [  # the environment, and whether a job started in it is refused
    ({}, False),
    ({"WORLD_SIZE": "1", "RANK": "0"}, False),
    ({"WORLD_SIZE": "2", "RANK": "1"}, True),
    ({"SLURM_NTASKS": "8"}, False),  # an allocation in which only one process was started
    ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"}, False),
    ({"SLURM_STEP_NUM_TASKS": "8"}, True),
]


@pytest.mark.parametrize(("environment", "refused"), STARTED)
def test_a_job_of_several_processes_is_refused(monkeypatch, environment, refused):
    for name in ("WORLD_SIZE", "RANK", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    error = machine.several_processes()
    assert (error is not None) == refused
    assert machine.is_first_process() == (environment.get("RANK", "0") == "0")
    assert error is None or (error.code == 2 and "a job is one process on one device" in error.line)


@pytest.mark.parametrize(
    ("printed", "listed"),
    [("GPU 0: H200 (UUID: a)\n  MIG 1g: (UUID: b)\nGPU 1: H200 (UUID: c)\n", ["0", "1"]), ("No devices were found", []),
     (subprocess.TimeoutExpired("nvidia-smi", 60), []), (OSError("no such file"), [])],
)  # fmt: skip
def test_gpus_are_counted_without_cuda(monkeypatch, printed, listed):
    def run(*args, **kwargs):
        if isinstance(printed, Exception):
            raise printed
        return SimpleNamespace(stdout=printed)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(machine.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(machine.subprocess, "run", run)
    assert machine.listed_gpus() == listed


ENDED = [  # an exception, and the exit code of a job that raises it
    (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), 5),
    (RuntimeError("CUDA error: no kernel image is available for execution on the device"), 5),
    (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), 5),
    (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), 5),
    (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), 5),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 5),
    (RuntimeError("GET was unable to find an engine to execute this computation"), 5),
    (NotImplementedError("The operator 'aten::x' is not currently implemented for the MPS device."), 5),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 1),
    (ValueError("CUDA error: said by no device"), 1),
]


@pytest.mark.parametrize(("error", "code"), ENDED)
def test_a_failure_of_the_accelerator_is_not_reported_as_a_bug(tmp_path, error, code):
    assert job_status.as_user_error(error, tmp_path).code == code
    assert (tmp_path / "train.log").exists() != failures.is_out_of_memory(error), (
        "the traceback is kept, unless memory ran out"
    )


@pytest.mark.parametrize("rank", ["0", "1"])
def test_train_py_refuses_to_be_one_of_several_processes(tmp_path, rank):
    environment = os.environ | {"WORLD_SIZE": "2", "RANK": rank}
    command = [sys.executable, train.__file__, f"hydra.run.dir={tmp_path}/run"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert done.stderr.splitlines() == (
        ["error: WORLD_SIZE=2: a job is one process on one device; start it without torchrun"] if rank == "0" else []
    )


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_job_that_slurm_starts_as_several_processes_is_refused_once(tmp_path, monkeypatch, capsys, rank):
    """The job checks it itself too, because Slurm's launcher does not start it through train.py."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", rank)
    monkeypatch.setattr(job, "job_request", lambda cfg: JobRequest(tmp_path, [], {}, CONFIG, CONFIG, 0))
    job.Task()(None)
    said, status = capsys.readouterr().err, job_status.read_status(tmp_path)
    assert (said.count("error: "), status.get("code")) == ((1, 2) if rank == "0" else (0, None))


PROBED = [  # what a step raises, and what the probe then raises
    (RuntimeError("CUDA error: no kernel image is available"), RuntimeError, "no kernel image"),
    (RuntimeError("x does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(Tr"),
     UserError, "deterministic=true: head=linear on test_resnet uses an operation that has no deterministic"),
    (RuntimeError("Kernel size can't be greater than actual input size"), UserError, "size=32: test_resnet does not a"),
    (torch.OutOfMemoryError("CUDA out of memory"), UserError, "does not fit into the memory of cpu"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), UserError, "does not fit into the memory of cpu"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "raised", "says"), PROBED)
def test_the_probe_tells_an_impossible_size_from_a_broken_gpu(compose, tmp_path, monkeypatch, error, raised, says):
    settings = compose("data.limit=60", "size=32", "batch_size=32")

    def fail(*args):
        raise error

    monkeypatch.setattr(network.Network, "forward", fail)
    with pytest.raises(raised, match=re.escape(says)):
        set_up(settings, tmp_path, open_store(settings, print))


@pytest.mark.parametrize(("most", "batch"), [(16, 16), (8, 8), (3, 2), (1, 1), (0, None)])
def test_batch_size_auto_is_halved_until_it_fits_into_memory(compose, tmp_path, monkeypatch, capsys, most, batch):
    settings, forward = compose("data.limit=60", "size=32"), network.Network.forward

    def limited(self, images):
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    # As on a GPU, try a whole batch; the probe itself takes two images on a CPU.
    monkeypatch.setattr(memory, "tried_images", lambda batch, device: batch)
    monkeypatch.setattr(network.Network, "forward", limited)
    if batch is None:
        with pytest.raises(UserError, match="batch_size=1 at 32 px does not fit"):
            set_up(settings, tmp_path, open_store(settings, print))
        return
    planned = set_up(settings, tmp_path, open_store(settings, print)).plan
    assert planned.batch_size == batch and {epoch.batch for epoch in planned.phases[-1].epochs} == {batch}
    said = [line for line in capsys.readouterr().out.splitlines() if "does not fit" in line]
    assert len(said) == {16: 0, 8: 1, 2: 3, 1: 4}[batch]
    if batch == 8:
        assert re.fullmatch(
            r"note: batch_size=16 at 32 px does not fit .* of cpu.*; batch_size=auto becomes 8", said[0]
        )


# threads --------------------------------------------------------------------------------------------------------------


WORK = [  # multiply-adds per image, from timm's tables (in1k results, GMACs) if they have the size
    ("resnet18", 224, 1.82e9),
    ("resnet50", 224, 4.11e9),
    ("tf_efficientnet_lite0", 224, 0.40e9),
    ("vit_small_patch16_224", 224, 4.61e9),
]


@pytest.mark.parametrize(("name", "size", "gmacs"), WORK)
def test_multiply_adds_agree_with_timms_tables(name, size, gmacs):
    with torch.device("meta"):
        net = timm.create_model(name)
    assert network.multiply_adds(net, size) == pytest.approx(gmacs, rel=0.06)


def test_counting_leaves_the_network_as_it_was():
    net = timm.create_model("test_resnet", num_classes=5)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert network.multiply_adds(net, 32) < 1e7 < network.multiply_adds(net, 128)
    assert net.training and all(p.requires_grad and p.device.type == "cpu" for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert network.multiply_adds(timm.create_model("test_vit"), 77) == math.inf, "the network does not take this size"


@pytest.mark.parametrize(
    ("name", "size", "cores", "threads"),
    [("test_resnet", 40, 2, 1), ("test_resnet", 40, 64, 1), ("tf_efficientnet_lite0", 128, 2, 2),
     ("tf_efficientnet_lite0", 128, 8, 8), ("resnet18", 224, 64, 16), ("resnet18", 224, 1, 1)],
)  # fmt: skip
def test_threads_follow_from_network_and_size(compose, monkeypatch, name, size, cores, threads):
    monkeypatch.setattr(device, "cores", lambda: cores)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    with torch.device("meta"):
        work = network.multiply_adds(timm.create_model(name), size)
    assert device.with_threads(CPU, compose("threads=auto"), work).threads == threads
    assert device.with_threads(CPU, compose("threads=3"), work).threads == 3, "as typed"


@pytest.mark.parametrize("named", [None, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_threads_wait_asleep_unless_the_environment_says_otherwise(monkeypatch, named):
    environment = {named: "1"} if named else {}
    monkeypatch.setattr(machine.os, "environ", environment)
    machine.wait_passively()
    assert environment == ({named: "1"} if named else {"OMP_WAIT_POLICY": "passive"})
