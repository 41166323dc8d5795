"""The reports of runs, drawn from the files in their folders when they are wanted."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thaw.config.compose import compose_settings
from thaw.data.augment import view
from thaw.data.dataset import load_dataset
from thaw.data.pixels import on_the_fly
from thaw.report.run_page import draw_run
from thaw.runtime.console import say
from thaw.runtime.errors import UserError, first_line
from thaw.runtime.files import as_number
from thaw.sweep.jobs import JobRecord

LARGEST = 10_000  # pixels of an image
ReadImage = Callable[[str], np.ndarray | None]


def draw_reports(jobs: Iterable[JobRecord]) -> int:
    """Draw the pictures and report.html of finished jobs into their folders; return how many could be drawn.

    A file that is damaged costs only the report of its job.
    """
    images, drawn = Images(), 0
    for job in jobs:
        try:
            image = images.of(job)
        except UserError as error:
            say(f"note: job {job.name}: the report shows no images ({error.line})")
            image = no_image
        try:
            draw_run(job.folder, image)
        except OSError:  # for example a full disk
            raise
        except Exception as error:  # a damaged file may hold anything
            why = f"{type(error).__name__}: {first_line(error)}"
            say(f"note: job {job.name}: no report could be drawn; is one of its files damaged? ({why})")
        else:
            drawn += 1
    return drawn


def no_image(path: str) -> None:
    """Return None: the image cannot be read."""


@dataclass
class Images:
    """The images of runs, read from their sources again. Runs with the same data share one scan."""

    scanned: dict = field(default_factory=dict)

    def of(self, job: JobRecord) -> ReadImage:
        """Return a function that returns the view of a path that the job has validated, None if its file is gone.

        Raise UserError if the settings of the job do not compose any more, or its images cannot be scanned.
        """
        words = [*job.overrides, "hydra.mode=RUN"]  # an experiment may start a sweep
        settings, size = compose_settings(words), as_number(job.result.get("size"))
        if not 1 <= size <= LARGEST:
            raise UserError(6, "result.json has no valid size")
        size, crop_pct = int(size), settings.data.crop_pct
        side, scans = round(size / crop_pct), Path(settings.store.dir) / "scan"
        key = repr((settings.data, side))
        if key not in self.scanned:
            images = load_dataset(settings.data, side, scans)
            rows = {path: row for row, path in enumerate(images.table.paths)}
            self.scanned[key] = on_the_fly(images, side), rows
        pixels, rows = self.scanned[key]

        def image(path: str) -> np.ndarray | None:
            with suppress(UserError):
                return view(size, crop_pct)(pixels[rows[path]], None) if path in rows else None
            return None

        return image
