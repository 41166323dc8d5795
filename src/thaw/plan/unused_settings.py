"""Find typed settings that have no effect, because the choices made do not read them."""

from collections.abc import Sequence

from thaw.config.composed import CHOSEN
from thaw.config.options import all_options, option_names
from thaw.config.overrides import split_overrides
from thaw.config.run_names import is_within
from thaw.config.schema import Settings
from thaw.config.sources import readers_of_options
from thaw.plan.durations import takes_scheduler
from thaw.plan.phases import Phase


def no_effect(overrides: list[str], settings: Settings, phases: Sequence[Phase]) -> list[str]:
    """Return a line for each typed setting that neither the choices made nor the planned phases read."""
    split_, lr = settings.rates.split, settings.lr
    many = isinstance(lr, (list, tuple))
    why = unused_options(settings)
    if settings.head.kind == "linear":
        why |= dict.fromkeys(("head.hidden", "head.drop"), "head=linear")
    if split_ == "layer_decay":
        why["rates.ratios"] = "rates.split=layer_decay"
    else:
        why["rates.decay"] = f"rates.split={split_}"
    if many:
        why |= dict.fromkeys(("rates.ratios", "rates.decay"), f"lr=[{','.join(map(str, lr))}]")
    kind, fold = settings.data.kind, settings.data.fold
    why |= {f"data.{option}": f"data={kind}" for option, kinds in readers_of_options().items() if kind not in kinds}
    if fold is not None:
        why["data.valid"] = f"data.fold={fold}"
    if settings.augment.crop == "whole":
        why["augment.scale"] = "augment.crop=whole"
        if not settings.augment.transforms:
            why["evaluate.tta"] = "augment=none"
    trials, sweep = ("trials", "trial_steps", "stored_steps"), ("steps", "smooth", "diverge")
    unread = sweep if settings.find.rule == "trials" else trials
    why |= dict.fromkeys((f"find.{name}" for name in unread), f"find.rule={settings.find.rule}")
    if settings.evaluate.ensemble == 1:
        why["evaluate.ensemble"] = "an ensemble takes at least two cycle ends"
    if lr is not None:
        why["lr_factor"] = f"lr=[{','.join(map(str, lr))}]" if many else f"lr={lr}"
    if all(phase.do == "fit" for phase in phases):
        why["find"] = "no phase finds a rate"
    why |= unused_by_phases(settings, [phase for phase in phases if phase.do == "fit"])
    typed = [parts for parts in split_overrides(overrides) if parts[0] != "~" and parts[2] != "null"]
    out = []
    for _, key, value in typed:
        nearest = max((name for name in why if is_within(key, (name,))), key=len, default=None)
        if nearest:
            reason = why[nearest]  # a setting or a clause
            out.append(f"{key}={value} has no effect" + (f" with {reason}" if "=" in reason else f": {reason}"))
    return out


def unused_options(settings: Settings) -> dict[str, str]:
    """Return the options that only other choices of a group have, and why they are not read."""
    why = {}
    for group, (named, choices) in CHOSEN.items():
        chosen = getattr(settings, group)
        others = all_options(choices.values()).keys() - set(option_names(type(chosen)))
        why |= dict.fromkeys((f"{group}.{option}" for option in others), f"{group}={getattr(chosen, named)}")
    return why


def unused_by_phases(settings: Settings, fits: Sequence[Phase]) -> dict[str, str]:
    """Return the settings, or whole groups, that no fit reads, and why."""
    why, scheduler, epochs = {}, settings.scheduler, settings.budget.epochs
    stated = [given for given in settings.checklist.values() if given and "cycles" not in given]
    if epochs is not None and not any("cycle_len" in given or "cycle_mult" in given for given in stated):
        why["scheduler.cycles"] = f"epochs={epochs}"
    if not any(takes_scheduler(settings.checklist[fit.name], fit.train) for fit in fits):
        why["scheduler"] = "every phase states its own duration"
    if not scheduler.restarts:
        why["scheduler.max_cycles"] = f"scheduler={scheduler.shape}"
        if epochs is not None:
            names = ("scheduler.cycle_len", "scheduler.cycle_mult")
            why |= dict.fromkeys(names, f"epochs={epochs} and scheduler={scheduler.shape}")
    elif not any(fit.until for fit in fits):
        why["scheduler.max_cycles"] = "no phase trains until over-fitting"
    if all(len(fit.cycles) < 2 for fit in fits):
        why["evaluate.ensemble"] = "an ensemble takes two cycle ends, and every phase has one"
    if all(fit.schedule.momentum() for fit in fits):
        why["optimizer.momentum"] = f"scheduler={scheduler.shape}, which sets it"
    if all(fit.train == "head" for fit in fits):
        names = ("resize", "rates", "bn", "loss.smoothing", "backbone.drop", "backbone.drop_path")
        why |= dict.fromkeys(names, "no phase trains the full network")
    if all(fit.features == "live" for fit in fits):
        why["stored_batch"] = "no phase trains on stored activations"
    if all(fit.features == "precomputed" for fit in fits):
        names = ("augment.mixup", "augment.cutmix")
        plain = not settings.evaluate.tta and not any(fit.views for fit in fits)
        why |= dict.fromkeys(("augment",) if plain else names, "every phase trains on stored activations")
    return why


def unused_valid_share(overrides: list[str], valid_from: str) -> list[str]:
    """Return a warning if data.valid was typed but `valid_from`, such as val/, holds the validation images."""
    typed = [value for _, key, value in split_overrides(overrides) if key == "data.valid"]
    what = f"has no effect: the validation images come from {valid_from}"
    return [f"warning: data.valid={typed[-1]} {what}"] if typed and valid_from else []
