"""The state of a job before anything heavy is loaded."""

from __future__ import annotations

from dataclasses import dataclass
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


NOTHING_YET = Start()
