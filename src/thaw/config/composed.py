"""The dataclasses that Hydra composes into, and the settings picked from them.

If each choice of a group has its own dataclass, the group composes into one with the options of all choices, so that an
option can be typed whichever choice is active.
"""

from dataclasses import field, fields
from typing import Any

from thaw.config.optimizers import OPTIMIZERS
from thaw.config.options import all_options, dataclass_of, option_names
from thaw.config.schedulers import SCHEDULES
from thaw.config.schema import Budget, Settings

# For each such group: the field that names the choice, and all choices.
CHOSEN = {"scheduler": ("shape", SCHEDULES), "optimizer": ("name", OPTIMIZERS)}
BUDGET = {one.name: (one.name, one.type, field(metadata=one.metadata)) for one in fields(Budget)}
EPOCHS = BUDGET.pop("epochs")  # typed without a group; the others are typed as scheduler.cycles and so on


def union(name: str, group: str, *members: tuple) -> type:
    """Return a dataclass with the name of the choice, further members, and every option of every choice of a group."""
    named, choices = CHOSEN[group]
    options = [(option, *rest) for option, rest in all_options(choices.values()).items()]
    return dataclass_of(name, __name__, [(named, str), *members, *options])


SchedulerKeys = union("SchedulerKeys", "scheduler", *BUDGET.values())
OptimizerKeys = union("OptimizerKeys", "optimizer")
TYPED = {"scheduler": ("scheduler", SchedulerKeys), "optimizer": ("optimizer", OptimizerKeys), "budget": EPOCHS}
Composed = dataclass_of("Composed", __name__, [TYPED.get(one.name, (one.name, one.type)) for one in fields(Settings)])


def pick(composed: Composed) -> Settings:
    """Return the settings: each group's active choice with its own options, the budget on its own, bn=auto decided."""
    values = {name: getattr(composed, name) for name in option_names(Settings) if name != "budget"}
    values |= {group: picked(group, composed) for group in CHOSEN}
    if composed.bn == "auto":
        values["bn"] = "train" if composed.backbone.weights == "none" and composed.init is None else "eval"
    budget = {name: getattr(composed.scheduler, name) for name in BUDGET}
    return Settings(**values, budget=Budget(**budget, epochs=composed.epochs))


def picked(group: str, composed: Composed) -> Any:
    """Return the active choice of a group, with its own options only."""
    named, choices = CHOSEN[group]
    given = getattr(composed, group)
    choice = choices[getattr(given, named)]
    return choice(**{name: getattr(given, name) for name in option_names(choice)})
