"""The length of a phase: its schedule and cycles, and the size, batch size and steps of every epoch."""

from dataclasses import replace

from thaw.config import validate, values
from thaw.config.schedule import Schedule
from thaw.config.schedulers import SGDR, Constant, Linear
from thaw.config.schema import Budget, Settings
from thaw.plan import image_sizes, schedules
from thaw.plan.facts import Facts
from thaw.plan.phases import CYCLE_KEYS, Epoch
from thaw.runtime.errors import UserError


def states_cycles(given: dict) -> bool:
    """Return whether a phase states its own cycles."""
    return any(name in given for name in ("cycles", "cycle_len", "cycle_mult"))


def takes_scheduler(given: dict, train: str) -> bool:
    """Return whether a phase uses the `scheduler` group, perhaps with cycles of its own."""
    return given["do"] == "fit" and "epochs" not in given and not (train == "head" and states_cycles(given))


def durations(
    name: str, given: dict, train: str, features: str, settings: Settings, facts: Facts, size: int | None
) -> dict:
    """Return the schedule, cycles and epochs of a phase.

    A phase that states `epochs` anneals in a straight line, or with `anneal: false` has a constant rate. A head phase
    that states cycles anneals with warm restarts (step 4 of the checklist), independent of the `scheduler` group. All
    others use the `scheduler` group.
    """
    schedule, budget = schedule_and_budget(given, train, settings)
    until = given.get("until")
    lengths, planned = cycle_lengths(name, schedule.restarts, until, budget)
    most_epochs = validate.RANGES["epochs"].high
    if sum(lengths) > most_epochs:
        what = f"cycles={budget.cycles} with cycle_mult={budget.cycle_mult}"
        raise UserError(2, f"checklist.{name}: {what} needs {sum(lengths):,} epochs, more than {most_epochs:,}")
    return {
        "schedule": schedule,
        "cycles": tuple(lengths),
        "budget": planned,
        "until": until,
        "epochs": (
            stored_epochs(sum(lengths), settings, facts, size)
            if features == "precomputed"
            else epochs_of(lengths, schedule.restarts, train, settings, facts, size)
        ),
        "rate_batch": image_sizes.batch_size(settings.batch_size, facts),
    }


def schedule_and_budget(given: dict, train: str, settings: Settings) -> tuple[Schedule, Budget]:
    """Return a phase's schedule and length: the `scheduler` group, a line, a constant rate, or warm restarts."""
    if takes_scheduler(given, train):
        own = {key: given[key] for key in CYCLE_KEYS if key in given}
        if states_cycles(given):
            own = {"max_cycles": None, "epochs": None} | own
        return settings.scheduler, replace(settings.budget, **own)
    if given["do"] == "find" or "epochs" in given:
        kind = Linear if given.get("anneal", True) else Constant
        return kind(warmup=0.0), Budget(1, given.get("epochs", 1), 1, max_cycles=None, epochs=None)
    own = [given.get(key, 1) for key in ("cycles", "cycle_len", "cycle_mult")]
    return SGDR(warmup=0.0), Budget(*own, max_cycles=given.get("max_cycles"), epochs=None)


def cycle_lengths(name: str, restarts: bool, until: str | None, budget: Budget) -> tuple[list[int], int]:
    """Return the epochs of each cycle and how many of the cycles are planned.

    Raise UserError (exit 2) if max_cycles is below the plan.
    """
    if budget.epochs:
        lengths = schedules.fill_budget(budget.epochs, budget.cycle_len, budget.cycle_mult)
    else:
        lengths = schedules.cycle_epochs(budget.cycles, budget.cycle_len, budget.cycle_mult)
    planned = len(lengths)
    if not restarts:
        return [sum(lengths)], 1
    if until == "overfit":
        # epochs=N asks for N epochs: only if max_cycles is set may there be more.
        beyond = 0 if budget.epochs else 1
        most = budget.max_cycles if budget.max_cycles is not None else planned + beyond
        if most < planned:
            asked = f"epochs={budget.epochs} ({planned} cycles)" if budget.epochs else f"cycles={planned}"
            raise UserError(2, f"checklist.{name}: max_cycles={most} is less than {asked}")
        while len(lengths) < most:
            lengths.append(lengths[-1] * budget.cycle_mult)
    return lengths, planned


def stored_epochs(n: int, settings: Settings, facts: Facts, size: int | None) -> tuple[Epoch, ...]:
    """Return n epochs on stored activations, whose batches are small enough for many steps in an epoch."""
    batch = image_sizes.stored_batch(settings, facts)
    return (Epoch(size, batch, None if facts.train is None else image_sizes.steps_per_epoch(facts.train, batch)),) * n


def epochs_of(
    lengths, restarts: bool, train: str, settings: Settings, facts: Facts, size: int | None
) -> tuple[Epoch, ...]:
    """Return the size, batch size and steps of every epoch; only the full network is resized.

    Raise UserError (exit 2) if the sizes are impossible.
    """
    if size is None or train == "head":
        sizes = [size] * sum(lengths)
    else:
        steps = [values.parse_number(s, "resize.sizes") for s in settings.resize.sizes]
        pixels = image_sizes.pixel_sizes(steps, size, facts.multiple or 1)
        if pixels[-1] != size or pixels != sorted(pixels):
            raise UserError(
                2, f"resize.sizes={settings.resize.sizes}: must grow and end at the final size (1.0, or {size})"
            )
        smallest = validate.RANGES["size"].low
        if pixels[0] < smallest:
            raise UserError(2, f"resize.sizes={settings.resize.sizes}: starts at {pixels[0]} px, below {smallest}")
        sizes = image_sizes.epoch_sizes(pixels, lengths, restarts)
    own, epochs = image_sizes.batch_size(settings.batch_size, facts), []
    for pixels in sizes:
        batch = own if pixels is None else image_sizes.batch_size_at(pixels, size, own, facts.train)
        epochs.append(
            Epoch(pixels, batch, None if facts.train is None else image_sizes.steps_per_epoch(facts.train, batch))
        )
    return tuple(epochs)
