"""Turn the checklist, whose phases state only what they change, into a plan that spells out every phase.

`make_plan` is a pure function of settings and facts. It imports only the standard library, so that a plan takes a
second.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from thaw.config import validate, values
from thaw.config.schema import Settings
from thaw.plan import image_sizes
from thaw.plan.durations import durations
from thaw.plan.facts import Facts
from thaw.plan.finder_steps import SMOKE_STEPS
from thaw.plan.phases import Phase, Plan, check_phase
from thaw.plan.shapes import check_shapes
from thaw.runtime.errors import UserError

FEW_STEPS = 3  # of an epoch, below which a smaller batch is suggested


def make_plan(settings: Settings, facts: Facts) -> Plan:
    """Spell out every phase of the checklist.

    Only `train`, `features` and the found rate carry over from phase to phase; durations never do. A find phase whose
    rate no fit uses is left out. Raise UserError (exit 2) for unknown keys or values, contradictions and impossible
    sizes.
    """
    if settings.data.kind == "shapes" and settings.data.limit is None:
        raise UserError(2, "data.limit=null: data=shapes needs the number of images to draw; set data.limit=1000")
    notes = []
    size = final_size(settings, facts)
    phases = resolve_finders(spell_out(settings, facts, size), notes)
    epochs = settings.budget.epochs
    if epochs is not None and not any(takes_budget(settings.checklist[p.name], p) for p in phases):
        notes.append(f"epochs={epochs} has no effect: every phase of the checklist states its own duration")
    for phase in phases:
        check_shapes(phase)
        warn_of_sizes(phase, settings, size, notes)
    warn_of_steps([phase for phase in phases if phase.do == "fit"][-1], facts, notes)
    if settings.minutes is not None and not settings.smoke and any(phase.features == "live" for phase in phases):
        notes.append(
            f"minutes={settings.minutes:g}: phases on images are cut to what fits, once their speed is measured"
        )
    if settings.smoke:
        phases = [smoke_phase(phase) for phase in phases]
        notes.append("smoke=true runs only two steps of every phase: its rates and accuracies mean nothing")
    return Plan(tuple(phases), tuple(notes), facts, size)


def spell_out(settings: Settings, facts: Facts, size: int | None) -> list[Phase]:
    """Return every phase of the checklist, with what it states and what carries over from earlier phases."""
    lr, ratios = values.peak_rate_and_ratios(settings)
    ratios_of_all = group_ratios(settings, ratios, facts)
    # lr=[a, b, c] sets the number of groups, which rates=layer_decay leaves to the model
    split = "equal" if ratios is not None and settings.rates.split == "layer_decay" else settings.rates.split
    phases, train, features, finder = [], "all", "live", None
    for name, given in settings.checklist.items():
        if given is None:  # a yaml removes a phase by null, since it cannot use ~
            continue
        given = check_phase(name, given)
        train = given.get("train", train)
        # Stored activations come from a frozen backbone: training the full network always needs images.
        features = given.get("features", "live" if train == "all" else features)
        check_features(f"checklist.{name}", train, features, given.get("views"))
        own = given.get("lr")
        rate = values.parse_rate(own, f"checklist.{name}.lr") if own is not None else lr
        if given["do"] == "find":
            finder = name
        phases.append(
            Phase(
                name=name,
                do=given["do"],
                train=train,
                features=features,
                views=given.get("views"),
                lr=rate if given["do"] == "fit" else None,
                rate_from=None if given["do"] == "find" or rate is not None else finder,
                lr_factor=settings.lr_factor * own_factor(name, given),
                ratios=ratios_of_all if train == "all" else (1.0,),
                split=split if train == "all" else "head",
                smoothing=settings.loss.smoothing if train == "all" and given["do"] == "fit" else 0.0,
                **durations(name, given, train, features, settings, facts, size),
            )
        )
    return phases


def own_factor(name: str, given: Mapping) -> float:
    """Return the lr_factor of a phase, 1 if it states none. Raise UserError (exit 2) for one the setting refuses."""
    key, typed, allowed = f"checklist.{name}.lr_factor", given.get("lr_factor", 1), validate.RANGES["lr_factor"]
    if (factor := values.parse_number(typed, key)) not in allowed:
        raise UserError(2, f"{key}={typed}: must be {allowed}")
    return factor


def check_features(where: str, train: str, features: str, views: int | None) -> None:
    """Raise UserError (exit 2) for stored activations of a trained backbone, or stored views with features=live."""
    if train == "all" and features == "precomputed":
        raise UserError(2, f"{where}: features=precomputed contradicts train=all (stored for a frozen backbone)")
    if views is not None and features == "live":
        both = "train=head and features=precomputed" if train == "all" else "features=precomputed"
        raise UserError(2, f"{where}: views={views} needs stored activations: also set {both} in {where}")


def takes_budget(given: Mapping, phase: Phase) -> bool:
    """Return whether the scheduler's budget sets a phase's length, not the phase itself.

    `takes_scheduler` asks another question: a phase with cycles of its own may still use the scheduler's curve.
    """
    return phase.do == "fit" and not any(given.get(key) for key in ("epochs", "cycles", "cycle_len", "cycle_mult"))


def final_size(settings: Settings, facts: Facts) -> int | None:
    """Return the image size of validation and of the head phases: `size`, or the backbone's native size."""
    size = settings.size or facts.native_size
    if size is None or facts.multiple is None:
        return size
    snapped = image_sizes.snap(size, facts.multiple)
    if settings.size and snapped != size:
        low = max(1, size // facts.multiple) * facts.multiple
        raise UserError(
            2,
            f"size={size}: {settings.backbone.name} needs a multiple of {facts.multiple} "
            f"({low} or {low + facts.multiple})",
        )
    return snapped


def group_ratios(settings: Settings, ratios: list[float] | None, facts: Facts) -> tuple[float, ...] | None:
    """Return the ratio of every layer group of the network. Raise UserError (exit 2) if there are too many groups."""
    if ratios is None:  # layer_decay: one group per layer id
        if facts.layers is None:
            return None
        return tuple(settings.rates.decay ** (facts.layers - 1 - i) for i in range(facts.layers))
    typed = "lr" if isinstance(settings.lr, (list, tuple)) else "rates.ratios"
    if settings.rates.split == "fastai" and len(ratios) != 3:
        raise UserError(2, f"rates.split=fastai: needs three groups, {typed} has {len(ratios)}")
    if facts.layers is not None and len(ratios) > facts.layers:
        name = settings.backbone.name
        raise UserError(
            2, f"{typed} has {len(ratios)} items, {name} has {facts.layers} layers: at most {facts.layers} groups"
        )
    return tuple(ratios)


def resolve_finders(phases: list[Phase], notes: list[str]) -> list[Phase]:
    """Give every find phase the first epochs of the first fit that uses its rate; leave it out if no fit does.

    Raise UserError (exit 2) if a fit has no rate and no find phase before it.
    """
    used = {phase.rate_from for phase in phases if phase.do == "fit"}
    kept = []
    for i, phase in enumerate(phases):
        if phase.do == "fit":
            if phase.lr is None and phase.rate_from is None:
                raise UserError(
                    2,
                    f"checklist.{phase.name}: no find phase before it and lr=null; set lr=0.01 or "
                    f"checklist.{phase.name}.lr",
                )
            kept.append(phase)
        elif phase.name in used:
            fits = [p for p in phases[i:] if p.do == "fit" and p.rate_from == phase.name]
            for fit in fits:
                if fit.train != phase.train:
                    raise UserError(
                        2,
                        f"checklist.{phase.name}: it trains {phase.train}, but {fit.name}, which uses its rate, trains "
                        f"{fit.train}; set checklist.{fit.name}.lr, or put a find phase with train={fit.train} "
                        "before it",
                    )
            kept.append(replace(phase, epochs=fits[0].epochs_of(0)))
        else:
            notes.append(f"{phase.name} is left out of the plan: no phase uses the rate it would find")
    if not any(phase.do == "fit" for phase in kept):
        raise UserError(2, "checklist: no phase trains anything; add one with do: fit")
    return kept


def warn_of_sizes(phase: Phase, settings: Settings, size: int | None, notes: list[str]) -> None:
    """Note if the planned cycles end before the resize schedule."""
    if phase.do == "fit" and phase.epochs[: phase.epochs_budget][-1].size != size:
        notes.append(
            f"{phase.name} ends its {phase.budget} planned cycles before the final size {size}: "
            f"resize.sizes has {len(settings.resize.sizes)} entries, one per cycle"
        )


def warn_of_steps(last: Phase, facts: Facts, notes: list[str]) -> None:
    """Note a batch so large for a small training set that an epoch has only a few steps."""
    steps, smaller = last.epochs[-1].steps, 2 ** int(math.log2((facts.train or 1) / FEW_STEPS))
    if steps is not None and steps < FEW_STEPS and smaller >= 4:
        takes = image_sizes.steps_per_epoch(facts.train, smaller)
        few = f"{last.name} has only {steps} step{'s' * (steps > 1)} per epoch"
        notes.append(f"{few}; with batch_size={smaller} it would have {takes}")


def smoke_phase(phase: Phase) -> Phase:
    """Return the phase cut to two optimizer steps and otherwise unchanged."""
    first = phase.epochs[0]
    steps = None if first.steps is None else min(SMOKE_STEPS, first.steps)
    return replace(phase, cycles=(1,), budget=1, epochs=(replace(first, steps=steps),))
