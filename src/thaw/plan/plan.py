"""The checklist as data: named phases, each stating only what it changes, spelled out before anything runs.

`make_plan` is pure: settings and plain facts in, a tuple of complete phases out. Standard library only, so that a plan
can be read in a second on a machine that has nothing else installed.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from thaw.config import values
from thaw.config.schema import Settings
from thaw.plan import image_sizes
from thaw.plan.durations import durations
from thaw.plan.facts import Facts
from thaw.plan.finder_steps import SMOKE_STEPS
from thaw.plan.phases import Phase, Plan, check_phase
from thaw.plan.shapes import check_shapes
from thaw.runtime.errors import UserError

FEW_STEPS = 3  # in an epoch


def make_plan(settings: Settings, facts: Facts) -> Plan:
    """Spell out every phase of the checklist.

    Only `train`, `features` and the found rate carry over from phase to phase; durations never do. A find that no fit
    uses is struck. Errors: unknown keys or values, contradictions, impossible sizes, exit 2.
    """
    if settings.data.kind == "shapes" and settings.data.limit is None:
        raise UserError(2, "data.limit=null: data=shapes needs to know how many images to draw")
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
    if settings.smoke:
        phases = [smoke_phase(phase) for phase in phases]
        notes.append("smoke=true shows that every phase runs, two steps of each: its rates and accuracies mean nothing")
    return Plan(tuple(phases), tuple(notes), facts, size)


def spell_out(settings: Settings, facts: Facts, size: int | None) -> list[Phase]:
    """Return every phase of the checklist with what it states and what carries over from those before it."""
    lr, ratios = values.peak_rate_and_ratios(settings)
    ratios_of_all = group_ratios(settings, ratios, facts)
    # lr=[a, b, c] says how many groups there are, which rates=layer_decay leaves to the model
    split = "equal" if ratios is not None and settings.rates.split == "layer_decay" else settings.rates.split
    phases, train, features, finder = [], "all", "live", None
    for name, given in settings.checklist.items():
        if given is None:  # left out, where a yaml cannot say ~
            continue
        given = check_phase(name, given)
        train = given.get("train", train)
        # Stored activations are those of a frozen body: training all of it always sees images.
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
                ratios=ratios_of_all if train == "all" else (1.0,),
                split=split if train == "all" else "head",
                **durations(name, given, train, settings, facts, size, rate),
            )
        )
    return phases


def check_features(where: str, train: str, features: str, views: int | None) -> None:
    """Errors: stored activations of a body that is trained, stored views that are not asked for as such, exit 2."""
    if train == "all" and features == "precomputed":
        raise UserError(2, f"{where}: features=precomputed contradicts train=all (stored ones are of a frozen body)")
    if views is not None and features == "live":
        raise UserError(2, f"{where}: views={views} are stored ones; set {where}.features=precomputed as well")


def takes_budget(given: Mapping, phase: Phase) -> bool:
    """Whether the phase's length is the scheduler's budget rather than its own."""
    return phase.do == "fit" and not any(given.get(key) for key in ("epochs", "cycles", "cycle_len", "cycle_mult"))


def final_size(settings: Settings, facts: Facts) -> int | None:
    """The size of validation, features and the heads: `size`, or the backbone's own; one the model takes."""
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
    """The ratio of every layer group of the whole network. Errors: more groups than layers, exit 2."""
    if ratios is None:  # layer_decay: one group a layer id
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
    """Give every find the batches of the first fit that uses its rate, which then belongs to these in all of its fits;
    strike the finds that nobody uses.

    Errors: a fit with no rate and no find before it, exit 2.
    """
    used = {phase.rate_from for phase in phases if phase.do == "fit"}
    served, batches = [], {}
    for i, phase in enumerate(phases):
        if phase.do == "fit":
            if phase.lr is None and phase.rate_from is None:
                raise UserError(
                    2,
                    f"checklist.{phase.name}: no find before it and lr=null; set lr=0.01 or checklist.{phase.name}.lr",
                )
            served.append(replace(phase, rate_batch=batches.get(phase.rate_from, phase.rate_batch)))
        elif phase.name in used:
            fits = [p for p in phases[i:] if p.do == "fit" and p.rate_from == phase.name]
            for fit in fits:
                if fit.train != phase.train:
                    raise UserError(
                        2,
                        f"checklist.{phase.name}: it trains {phase.train}, but {fit.name}, which uses its rate, trains "
                        f"{fit.train}; set checklist.{fit.name}.lr, or put a find with train={fit.train} before it",
                    )
            served.append(replace(phase, epochs=fits[0].epochs[:1]))
            batches[phase.name] = fits[0].epochs[0].batch
        else:
            notes.append(f"{phase.name} is struck from the plan: no phase uses the rate it would find")
    if not any(phase.do == "fit" for phase in served):
        raise UserError(2, "checklist: it has no phase that fits anything (do: fit)")
    return served


def warn_of_sizes(phase: Phase, settings: Settings, size: int | None, notes: list[str]) -> None:
    """Note a resize schedule that the planned cycles do not finish."""
    if phase.do == "fit" and phase.epochs[: phase.epochs_budget][-1].size != size:
        notes.append(
            f"{phase.name} ends its {phase.budget} planned cycles before the final size {size}: "
            f"resize.sizes has {len(settings.resize.sizes)} entries, one a cycle"
        )


def warn_of_steps(last: Phase, facts: Facts, notes: list[str]) -> None:
    """Note a batch so large for a small training set that an epoch has only a few steps."""
    steps, smaller = last.epochs[-1].steps, 2 ** int(math.log2((facts.train or 1) / FEW_STEPS))
    if steps is not None and steps < FEW_STEPS and smaller >= 4:
        takes = image_sizes.steps_per_epoch(facts.train, smaller)
        few = f"{last.name} has only {steps} step{'s' * (steps > 1)} per epoch"
        notes.append(f"{few}; with batch_size={smaller} it would have {takes}")


def smoke_phase(phase: Phase) -> Phase:
    """The phase with two optimizer steps, everything else as it is."""
    first = phase.epochs[0]
    steps = None if first.steps is None else min(SMOKE_STEPS, first.steps)
    return replace(phase, cycles=(1,), budget=1, epochs=(replace(first, steps=steps),))
