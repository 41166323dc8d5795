"""Errors of the machine are exit 5 with advice; our own bugs are exit 1."""

import errno
import os
from concurrent.futures.process import BrokenProcessPool

import cv2
import numpy as np
import pytest

from thaw.runtime.failures import machine_failure
from thaw.runtime.job_status import as_user_error


def came_from(error, cause):
    error.__cause__ = cause
    return error


def os_error(number, *names):
    return OSError(number, os.strerror(number), *names)


def raised(call):
    try:
        call()
    except Exception as error:
        return error


MEMORY = "out of memory"
SCARCE = [
    (MemoryError(), MEMORY),
    (raised(lambda: np.empty(1 << 60, np.uint8)), MEMORY),
    (raised(lambda: cv2.resize(np.zeros((9, 9, 3), np.uint8), (1 << 20, 1 << 20))), MEMORY),
    (os_error(errno.ENOMEM), MEMORY),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"), MEMORY),
    (RuntimeError("std::bad_alloc"), MEMORY),
    (ImportError("libtorch_cpu.so: failed to map segment from shared object"), MEMORY),
    (ImportError("/a/_stats.so: failed to map "), MEMORY),
    (ImportError("libx.so: cannot allocate memory in static TLS block"), MEMORY),
    (came_from(ImportError("Error importing numpy"), ImportError("x.so: failed to map segment")), MEMORY),
    (RuntimeError("can't start new thread"), "ulimit -u"),
    (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
    (os_error(errno.ENOENT), "cd to one that exists"),
    (os_error(errno.EMFILE, "/a/b"), "ulimit -n"),
    (ImportError("libx.so: cannot open shared object file: Too many open files"), "ulimit -n"),
    (RuntimeError("unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)"),
     "ulimit -n"),
    (RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed. It is possible"), "data.workers=0"),
    (ModuleNotFoundError("No module named 'fastai'", name="fastai.vision"), "`import fastai.vision` is not installed"),
    (ImportError("libGL.so.1: cannot open shared object file: No such file or directory", name="cv2"), "libGL.so.1"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "says"), SCARCE, ids=lambda value: str(value)[:40])
def test_the_line_names_what_the_machine_lacks(tmp_path, error, says):
    for found in (machine_failure(error), as_user_error(error, tmp_path)):
        assert found.code == 5 and says in found.line and "\n" not in found.line and len(found.line) < 300
    assert not (tmp_path / "train.log").exists(), "it is no bug of ours"


@pytest.mark.parametrize("error", [
    ModuleNotFoundError("No module named 'thaw.gone'", name="thaw.gone"), ImportError("no name x", name="train"),
    ValueError("name='out of memory'"), KeyError("can't start new thread"), BrokenProcessPool("terminated"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
])  # fmt: skip
def test_our_own_bug_is_logged(tmp_path, error):
    assert machine_failure(error) is None
    assert as_user_error(error, tmp_path).code == 1
    assert (tmp_path / "train.log").exists()


def test_the_line_names_the_file(tmp_path):
    for number in (errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EROFS):
        assert machine_failure(os_error(number, str(tmp_path / "x"))) is None
        assert str(tmp_path / "x") in as_user_error(os_error(number, str(tmp_path / "x")), tmp_path).line
