"""The plan for people: its table, and the data of the timeline."""

from collections.abc import Mapping
from itertools import accumulate
from pathlib import PurePath

from thaw.config.schema import Backbone, Settings
from thaw.plan import schedules
from thaw.plan.finder_steps import finder_length, finder_steps
from thaw.plan.phases import Phase, Plan
from thaw.plan.plan import takes_budget
from thaw.runtime.console import grid, one_line


def or_unknown(value, form: str = "{}") -> str:
    """Return a value as text, or '?' if it is not known yet."""
    return "?" if value is None else form.format(value)


def folded(values) -> str:
    """Return the values in order without repetitions: 112 → 224."""
    out = []
    for value in values:
        if not out or out[-1] != or_unknown(value):
            out.append(or_unknown(value))
    return " → ".join(out)


def rate_of(phase: Phase, found: Mapping[str, float] | None) -> float | None:
    """Return the rate of a phase's last group, or None if it is not found yet; `found`: the rate of each finder."""
    if phase.lr is None and phase.rate_from in (found or {}):
        return found[phase.rate_from] * phase.lr_factor
    return phase.lr


def rates_text(phase: Phase, found: Mapping[str, float] | None = None) -> str:
    """Return the rate of each group, or what it will be computed from."""
    lr, lr_factor = rate_of(phase, found), phase.lr_factor
    if phase.do == "find":
        return "to be found"
    ratios = phase.ratios
    if ratios is None:
        factor = "" if lr_factor == 1 else f" × {lr_factor:g}"
        return f"{f'found{factor}' if lr is None else f'{lr:.3g}'} × decay per layer"
    if lr is not None:
        return " ".join(f"{lr * ratio:.2g}" for ratio in few_ratios(ratios))
    return f"{phase.rate_from} × " + " ".join(f"{lr_factor * ratio:.2g}" for ratio in few_ratios(ratios))


def few_ratios(ratios: tuple[float, ...]) -> tuple[float, ...]:
    """Return at most four ratios: of more, the first three and the last."""
    return ratios if len(ratios) <= 4 else (*ratios[:3], ratios[-1])


def finder_text(settings: Settings, phase: Phase) -> str:
    """Return the length of a finder: up to 6 trials × 4 steps, or a range test."""
    if settings.find.rule != "trials":
        return "range test"
    steps, trials = finder_length(settings, phase)
    return f"up to {trials} trial{'s' * (trials > 1)} × {or_unknown(steps)} steps"


def cycles_text(phase: Phase) -> str:
    """Return the schedule and the epochs of its cycles: sgdr 1+2+4 (up to +8+16)."""
    planned = "+".join(str(n) for n in phase.cycles[: phase.budget])
    beyond = "".join(f"+{n}" for n in phase.cycles[phase.budget :])
    return f"{phase.schedule.shape} {planned}" + (f" (up to {beyond})" if beyond else "")


def network_name(backbone: Backbone) -> str:
    """Return the network's name, with its weights if they are not timm's own: test_resnet (tiny)."""
    if backbone.weights == "pretrained":
        return backbone.name
    return f"{backbone.name} ({'no weights' if backbone.weights == 'none' else PurePath(backbone.weights).stem})"


def sum_text(counts) -> str:
    return or_unknown(None if None in counts else sum(counts), "{:,}")


def plan_table(plan: Plan, settings: Settings, found: Mapping[str, float] | None = None) -> str:
    """Return the whole plan as text: a summary, a table with a row per phase, and notes."""
    head = (
        "phase",
        "does",
        "trains",
        "features",
        "size",
        "batch",
        "rate per group",
        "cycles (epochs)",
        "epochs",
        "steps",
    )
    rows = []
    for i, phase in enumerate(plan.phases):
        planned = phase.epochs[: phase.epochs_budget]
        if phase.do == "find":
            epochs, steps = "", or_unknown(finder_steps(settings, phase), "{:,}")
        else:
            epochs, steps = f"{phase.epochs_budget:,}", or_unknown(phase.steps_budget, "{:,}")
            if len(phase.cycles) > phase.budget:
                epochs += f"–{sum(phase.cycles):,}"
                steps += f"–{sum_text([epoch.steps for epoch in phase.epochs])}"
        rows.append(
            (
                f"{i + 1} {phase.name}",
                phase.do,
                phase.train,
                phase.features + (f" × {phase.views}" if phase.views else ""),
                folded(epoch.size for epoch in planned),
                folded(epoch.batch for epoch in planned),
                rates_text(phase, found),
                finder_text(settings, phase) if phase.do == "find" else cycles_text(phase),
                epochs,
                steps,
            )
        )
    facts = plan.facts
    train, valid, test = (or_unknown(n, "{:,}") for n in (facts.train, facts.valid, facts.test))
    counts = f"{train} training, {valid} validation and {test} test images"
    kinds = f"{or_unknown(facts.classes, '{:,}')} classes, {or_unknown(plan.size)} px"
    lines = [
        f"{network_name(settings.backbone)} on {settings.data.kind}: {counts}, {kinds}",
        "",
        *grid(head, rows),
    ]
    unknown = ["?: not known until the images and the backbone are loaded"] if "?" in "".join(lines) else []
    notes = [*unknown, *(f"note: {note}" for note in (*plan.notes, *uneven_cycles(plan, settings)))]
    return "\n".join(map(one_line, lines + notes)) + "\n"


def uneven_cycles(plan: Plan, settings: Settings) -> list[str]:
    """Return a note for each phase whose last cycle takes what is left of epochs=N."""
    budget, out = settings.budget, []
    if budget.epochs is None or settings.smoke:
        return out
    for phase in plan.phases:
        lengths = schedules.cycle_epochs(phase.budget, budget.cycle_len, budget.cycle_mult)
        planned = list(phase.cycles[: phase.budget])
        own = not takes_budget(settings.checklist[phase.name], phase)
        cut = sum(planned) != budget.epochs  # by the setting minutes
        if own or cut or not phase.schedule.restarts or len(planned) < 2 or planned == lengths:
            continue
        split = f"epochs={budget.epochs} is split into cycles of {'+'.join(map(str, planned))} epochs"
        rule = f"cycle_len={budget.cycle_len} and cycle_mult={budget.cycle_mult} set their lengths"
        out.append(f"{phase.name}: {split}: {rule}, the last one takes the rest")
    return out


def plan_timeline(plan: Plan, settings: Settings, found: Mapping[str, float] | None = None) -> list[dict]:
    """Return what the timeline draws of each phase: first step, rates per group (relative if not yet known), sizes.

    If the number of images is not known, an epoch counts as ten steps. Only planned cycles are drawn.
    """
    out, start = [], 0
    for phase in plan.phases:
        if phase.do == "find":
            steps, size, lr = finder_steps(settings, phase) or 10, [phase.epochs[0].size], None
            points, rates = [0, steps], []
        else:
            planned = phase.epochs[: phase.epochs_budget]
            counts = [epoch.steps or 10 for epoch in planned]
            ends = schedules.cycle_ends(counts, phase.cycles[: phase.budget])
            steps = ends[-1]
            at = schedules.curve(phase.schedule.rate(phase.budget), ends)
            at = schedules.scaled_with_batch(at, counts, [epoch.batch for epoch in planned], phase.rate_batch)
            lr = rate_of(phase, found)
            stride = max(1, steps // 400)
            points = list(range(0, steps, stride))
            ratios = phase.ratios or (1.0,)
            rates = [[(lr or 1.0) * ratio * at(step) for step in points] for ratio in ratios]
            size = [epoch.size for epoch in planned]
            edges = [0, *accumulate(counts)]
        out.append(
            {
                "name": phase.name,
                "do": phase.do,
                "train": phase.train,
                "features": phase.features,
                "start": start,
                "steps": steps,
                "points": points,
                "rates": rates,
                "known": phase.do == "find" or lr is not None,
                "sizes": size,
                "edges": [0, steps] if phase.do == "find" else edges,
            }
        )
        start += steps
    return out
