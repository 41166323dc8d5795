"""A temporary cache of the images that the scan decoded, so that storing their pixels need not decode them again."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np

from thaw.data.resize import shrink

SHARE = 0.25  # of the free disk space


class DecodeCache:
    """Images by content, shrunk to a shorter side of at most `side` pixels, as `pixels` keeps them.

    They are in an unnamed file in `folder`, so that nothing is left behind however the process ends. The cache holds at
    most `budget` bytes and never raises: images that do not fit are decoded again.
    """

    def __init__(self, folder: Path, side: int, budget: float):
        self.folder, self.side, self.budget = folder, side, budget
        self.file, self.end, self.at, self.lock = None, 0, {}, Lock()

    def keep(self, content: str, image: np.ndarray) -> None:
        """Keep a decoded image; threads may call this."""
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
        """Return the image if it was kept for that side, else None; threads may call this."""
        if side != self.side or content not in self.at:
            return None
        start, shape = self.at[content]
        with suppress(OSError, ValueError):  # the disk failed to read it
            return np.frombuffer(os.pread(self.file.fileno(), int(np.prod(shape)), start), np.uint8).reshape(shape)
        return None
