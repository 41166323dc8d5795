"""Derive the classes that Hydra composes into, by the names that are typed, and pick the settings from them.

A group of which every choice has a dataclass of its own composes into one that has the options of all of them, so that
an option of one choice can be typed beside any. Standard library only.
"""

from dataclasses import field, fields
from typing import Any

from thaw.config.optimizers import OPTIMIZERS
from thaw.config.options import all_options, dataclass_of, option_names
from thaw.config.schedulers import SCHEDULES
from thaw.config.schema import Budget, Settings

# Of each such group what names the choice, and all choices.
CHOSEN = {"scheduler": ("shape", SCHEDULES), "optimizer": ("name", OPTIMIZERS)}
BUDGET = {one.name: (one.name, one.type, field(metadata=one.metadata)) for one in fields(Budget)}
EPOCHS = BUDGET.pop("epochs")  # beside the groups; the rest is typed as scheduler.cycles and so on


def union(name: str, group: str, *members: tuple) -> type:
    """Return a dataclass of what names the choice of a group, further members, and every option of every choice."""
    named, choices = CHOSEN[group]
    options = [(option, *rest) for option, rest in all_options(choices.values()).items()]
    return dataclass_of(name, __name__, [(named, str), *members, *options])


SchedulerKeys = union("SchedulerKeys", "scheduler", *BUDGET.values())
OptimizerKeys = union("OptimizerKeys", "optimizer")
TYPED = {"scheduler": ("scheduler", SchedulerKeys), "optimizer": ("optimizer", OptimizerKeys), "budget": EPOCHS}
Composed = dataclass_of("Composed", __name__, [TYPED.get(one.name, (one.name, one.type)) for one in fields(Settings)])


def pick(composed: Composed) -> Settings:
    """Return the settings: of each group the chosen one with its own options, and the budget apart from them."""
    values = {name: getattr(composed, name) for name in option_names(Settings) if name != "budget"}
    values |= {group: picked(group, composed) for group in CHOSEN}
    budget = {name: getattr(composed.scheduler, name) for name in BUDGET}
    return Settings(**values, budget=Budget(**budget, epochs=composed.epochs))


def picked(group: str, composed: Composed) -> Any:
    """Return the chosen one of a group, with its own options."""
    named, choices = CHOSEN[group]
    given = getattr(composed, group)
    choice = choices[getattr(given, named)]
    return choice(**{name: getattr(given, name) for name in option_names(choice)})
