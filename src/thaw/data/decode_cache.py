"""What the scan decoded, shrunk, until the store has it: so that a file that is judged and kept is decoded once."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np

from thaw.data.resize import shrink

SHARE = 0.25  # of the free disk


class DecodeCache:
    """Images by content, the shorter side at most `side` long, as `pixels` keeps them.

    A file without a name in `folder`, so that nothing of it is left however the process ends. It holds at most `budget`
    bytes and never fails: what it has no room for is decoded again.
    """

    def __init__(self, folder: Path, side: int, budget: float):
        self.folder, self.side, self.budget = folder, side, budget
        self.file, self.end, self.at, self.lock = None, 0, {}, Lock()

    def keep(self, content: str, image: np.ndarray) -> None:
        """Keep an image as it was decoded; from any thread."""
        small = shrink(image, self.side)
        with suppress(OSError):
            with self.lock:
                if self.file is None:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    self.budget = min(self.budget, SHARE * shutil.disk_usage(self.folder).free)
                    self.file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115  (open until the process ends)
                if content in self.at or self.end + small.nbytes > self.budget:
                    return
                start, self.end = self.end, self.end + small.nbytes
            if os.pwrite(self.file.fileno(), small, start) == small.nbytes:
                self.at[content] = start, small.shape

    def get(self, content: str, side: int) -> np.ndarray | None:
        """The image kept for that side, if it is here; from any thread."""
        if side != self.side or content not in self.at:
            return None
        start, shape = self.at[content]
        with suppress(OSError, ValueError):  # a disk that fails on reading
            return np.frombuffer(os.pread(self.file.fileno(), int(np.prod(shape)), start), np.uint8).reshape(shape)
        return None
