"""The state of a job before anything heavy is loaded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thaw.plan.phases import Plan

if TYPE_CHECKING:
    from thaw.data.decode_cache import DecodeCache
    from thaw.data.table import Table


@dataclass(frozen=True)
class Start:
    """What a job has before anything heavy is loaded."""

    plan: Plan | None = None
    table: Table | None = None  # the user's own images
    decode_cache: DecodeCache | None = None  # images the scan decoded
    began: float = field(default_factory=time.perf_counter)  # when the job began


NOTHING_YET = Start()
