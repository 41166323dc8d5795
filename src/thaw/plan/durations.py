"""How long a phase is: its schedule and cycles, and the size, batch and steps of every epoch. Standard library only."""

from dataclasses import replace

from thaw.config import validate, values
from thaw.config.schema import Scheduler, Settings
from thaw.plan import image_sizes, schedules
from thaw.plan.facts import Facts
from thaw.plan.phases import CYCLE_KEYS, Epoch
from thaw.runtime.errors import UserError


def states_cycles(given: dict) -> bool:
    """Whether a phase says itself which cycles it has."""
    return any(name in given for name in ("cycles", "cycle_len", "cycle_mult"))


def takes_scheduler(given: dict, train: str) -> bool:
    """Whether a phase takes the `scheduler` group, in which it may set cycles of its own."""
    return given["do"] == "fit" and "epochs" not in given and not (train == "head" and states_cycles(given))


def durations(
    name: str, given: dict, train: str, settings: Settings, facts: Facts, size: int | None, lr: float | None
) -> dict:
    """Schedule, cycles and epochs of a phase.

    `epochs` alone is a constant rate. A head phase that states cycles anneals by warm restarts (the checklist's step
    4), whatever the scheduler of the full network is. Anything else takes the `scheduler` group.
    """
    schedule, until = schedule_of(given, train, settings.scheduler), given.get("until")
    restarts = schedule.shape in schedules.RESTARTING
    filled = bool(settings.epochs) and "epochs" not in given and not states_cycles(given) and given["do"] == "fit"
    lengths, budget = cycle_lengths(name, schedule, until, settings.epochs if filled else None)
    most_epochs = validate.RANGES["epochs"][1]
    if sum(lengths) > most_epochs:
        what = f"cycles={schedule.cycles} with cycle_mult={schedule.cycle_mult}"
        raise UserError(2, f"checklist.{name}: {what} takes {sum(lengths):,} epochs, more than {most_epochs:,}")
    return {
        "schedule": schedule,
        "cycles": tuple(lengths),
        "budget": budget,
        "until": until,
        "epochs": (epochs := epochs_of(lengths, restarts, train, settings, facts, size)),
        "rate_batch": min(settings.batch_size, epochs[0].batch) if lr is not None else epochs[0].batch,
    }


def schedule_of(given: dict, train: str, group: Scheduler) -> Scheduler:
    """Return the schedule of a phase: the `scheduler` group, a constant rate, or warm restarts of its own."""
    if takes_scheduler(given, train):
        schedule = replace(group, **{key: given[key] for key in CYCLE_KEYS if key in given})
        if "max_cycles" not in given and states_cycles(given):
            schedule = replace(schedule, max_cycles=None)
        return schedule
    if given["do"] == "find" or "epochs" in given:
        return Scheduler("constant", 1, given.get("epochs", 1), 1, None, warmup=0.0)
    own = [given.get(key, 1) for key in ("cycles", "cycle_len", "cycle_mult")]
    return Scheduler("sgdr", *own, given.get("max_cycles"), 0.0)


def cycle_lengths(name: str, schedule: Scheduler, until: str | None, epochs: int | None) -> tuple[list[int], int]:
    """Return the epochs of each cycle and how many of the cycles are planned; `epochs` is the budget, if that is set.

    Errors: max_cycles below the plan, exit 2.
    """
    if epochs:
        lengths = schedules.fill_budget(epochs, schedule.cycle_len, schedule.cycle_mult)
    else:
        lengths = schedules.cycle_epochs(schedule.cycles, schedule.cycle_len, schedule.cycle_mult)
    budget = len(lengths)
    if schedule.shape not in schedules.RESTARTING:
        return [sum(lengths)], 1
    if until == "overfit":
        # epochs=N asks for N epochs: only a max_cycles that was set goes on past them.
        beyond = 0 if epochs else 2
        most = schedule.max_cycles if schedule.max_cycles is not None else budget + beyond
        if most < budget:
            planned = f"epochs={epochs} ({budget} cycles)" if epochs else f"cycles={budget}"
            raise UserError(2, f"checklist.{name}: max_cycles={most} contradicts {planned}, which is more")
        while len(lengths) < most:
            lengths.append(lengths[-1] * schedule.cycle_mult)
    return lengths, budget


def epochs_of(
    lengths, restarts: bool, train: str, settings: Settings, facts: Facts, size: int | None
) -> tuple[Epoch, ...]:
    """Size, batch and steps of every epoch; only the full network is resized."""
    if size is None or train == "head":
        sizes = [size] * sum(lengths)
    else:
        steps = [values.parse_number(s, "resize.sizes") for s in settings.resize.sizes]
        pixels = image_sizes.pixel_sizes(steps, size, facts.multiple or 1)
        if pixels[-1] != size or pixels != sorted(pixels):
            raise UserError(
                2, f"resize.sizes={settings.resize.sizes}: must grow and end at the final size (1.0, or {size})"
            )
        smallest = validate.RANGES["size"][0]
        if pixels[0] < smallest:
            raise UserError(2, f"resize.sizes={settings.resize.sizes}: begins at {pixels[0]} px, below {smallest}")
        sizes = image_sizes.epoch_sizes(pixels, lengths, restarts)
    epochs = []
    for pixels in sizes:
        batch = (
            settings.batch_size
            if pixels is None
            else image_sizes.batch_size_at(pixels, size, settings.batch_size, facts.train)
        )
        if facts.train is not None:
            batch = min(batch, facts.train)
        epochs.append(
            Epoch(pixels, batch, None if facts.train is None else image_sizes.steps_per_epoch(facts.train, batch))
        )
    return tuple(epochs)
