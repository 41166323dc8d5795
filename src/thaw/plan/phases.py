"""The parts of a plan, and the check of one phase of the checklist."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from thaw.config.options import Range, ranges
from thaw.config.schedule import Schedule
from thaw.config.schema import Budget
from thaw.plan import schedules
from thaw.plan.facts import Facts
from thaw.runtime.errors import UserError, nearest

CYCLE_KEYS = ("cycles", "cycle_len", "cycle_mult", "max_cycles")  # options of the scheduler that a phase may set itself
LENGTHS = {**ranges(Budget), "views": Range(1, 1000)}
PHASE_KEYS = ("do", "train", "features", "views", "epochs", "anneal", *CYCLE_KEYS, "until", "lr", "lr_factor")


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images: image size in pixels, batch size, optimizer steps."""

    size: int | None
    batch: int
    steps: int | None


@dataclass(frozen=True)
class Phase:
    """One phase with every setting spelled out; only `rate_from` refers to another phase."""

    name: str
    do: str  # find | fit
    train: str  # head | all
    features: str  # precomputed | live
    views: int | None  # number of augmented passes that are stored and used in turn; None: plain images
    lr: float | None  # of the last group; None: the rate of `rate_from` times `lr_factor`
    rate_from: str | None  # the find phase whose rate it uses
    lr_factor: float  # the setting lr_factor times that of the phase; not applied to a typed rate
    ratios: tuple[float, ...] | None  # of each group, earliest layers first; None: layer_decay, layers not yet known
    split: str
    smoothing: float  # label smoothing of its training loss; a finder has none, so that its losses tell what was learnt
    schedule: Schedule
    cycles: tuple[int, ...]  # epochs of each cycle, including those beyond the budget
    budget: int  # number of planned cycles; the rest are trained only while they help
    epochs: tuple[Epoch, ...]
    until: str | None  # overfit: decide at each cycle end
    rate_batch: int  # the batch size that its rates are for: batch_size

    @property
    def ends(self) -> list[int]:
        """The step at which each cycle ends."""
        return schedules.cycle_ends([epoch.steps for epoch in self.epochs], self.cycles)

    def epoch_numbers(self, cycle: int) -> range:
        """Return the indices of a cycle's epochs in `epochs`."""
        first = sum(self.cycles[:cycle])
        return range(first, first + self.cycles[cycle])

    def epochs_of(self, cycle: int) -> tuple[Epoch, ...]:
        """Return the epochs of a cycle."""
        return tuple(self.epochs[number] for number in self.epoch_numbers(cycle))

    @property
    def epochs_budget(self) -> int:
        return sum(self.cycles[: self.budget])

    @property
    def steps_budget(self) -> int | None:
        steps = [epoch.steps for epoch in self.epochs[: self.epochs_budget]]
        return None if None in steps else sum(steps)


@dataclass(frozen=True)
class Plan:
    """The phases in order, and notes for the user."""

    phases: tuple[Phase, ...]
    notes: tuple[str, ...]
    facts: Facts
    size: int | None  # the final image size: of validation, stored activations and the head phases

    @property
    def batch_size(self) -> int:
        """The batch size at the final image size."""
        return self.phases[0].rate_batch


def check_phase(name: str, given) -> dict:
    """Return a phase as the checklist states it, without nulls. Raise UserError (exit 2) if it is not valid."""
    where = f"checklist.{name}"
    if not re.fullmatch(r"[\w-]+", str(name)):
        raise UserError(2, f"{where}: the name of a phase may only have letters, digits, _ and -")
    if not isinstance(given, Mapping):
        raise UserError(2, f"{where}={given}: must be a phase such as {{do: fit, epochs: 3}}")
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if key not in PHASE_KEYS:
            raise UserError(2, f"{where}.{key}: a phase has no such key; {nearest(key, PHASE_KEYS)}")
    for key, choices in (
        ("do", ("find", "fit")),
        ("train", ("head", "all")),
        ("features", ("precomputed", "live")),
        ("until", ("overfit",)),
    ):
        if key == "do" and key not in given:
            raise UserError(2, f"{where}.do is missing: must be find or fit")
        if key in given and given[key] not in choices:
            raise UserError(2, f"{where}.{key}={given[key]}: must be {' or '.join(choices)}")
    for key in ("views", "epochs", *CYCLE_KEYS):
        value = given.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(2, f"{where}.{key}={value}: must be a whole number >= 1")
        if value not in LENGTHS[key]:
            raise UserError(2, f"{where}.{key}={value}: must be {LENGTHS[key]}")
    if not isinstance(given.get("anneal", True), bool):
        raise UserError(2, f"{where}.anneal={given['anneal']}: must be true or false")
    if "anneal" in given and "epochs" not in given:
        raise UserError(2, f"{where}.anneal: only a phase with epochs has it; cycles always anneal")
    if "epochs" in given:
        for key in CYCLE_KEYS:
            if key in given:
                raise UserError(
                    2, f"{where}: epochs={given['epochs']} contradicts {key}={given[key]}; keep one of the two"
                )
    if given["do"] == "find":
        for key in ("epochs", "anneal", *CYCLE_KEYS, "until", "lr", "lr_factor"):
            if key in given:
                raise UserError(2, f"{where}.{key}: a find phase has no such key; find.* sets its length")
    return given
