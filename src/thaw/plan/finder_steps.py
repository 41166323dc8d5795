"""The length of a learning rate finder: the steps of a trial, or of the range test, and the number of trials."""

from thaw.config.schema import Settings
from thaw.plan.phases import Phase

SMOKE_STEPS, SMOKE_TRIALS = 2, 2  # with smoke=true
MOST_STEPS = 50  # of a trial on images, whose batches are all kept in memory
STORED_TRIALS = 12  # on stored activations, where a trial costs little


def finder_length(settings: Settings, phase: Phase) -> tuple[int | None, int]:
    """Return the steps of a trial and the largest number of trials; for a range test, its steps and 1.

    All trials on images together take at most an epoch, or `trial_steps` if that is more. A trial on stored activations
    is as long as the first cycle of the fit, but at most `stored_steps`. None: the number of images is not known yet.
    """
    find, epochs = settings.find, [epoch.steps for epoch in phase.epochs]
    if find.rule != "trials":
        return (SMOKE_STEPS if settings.smoke else find.steps), 1
    if settings.smoke:
        return SMOKE_STEPS, SMOKE_TRIALS
    if None in epochs:
        return None, STORED_TRIALS if phase.features == "precomputed" else find.trials
    if phase.features == "precomputed":
        return min(find.stored_steps, sum(epochs)), STORED_TRIALS
    return min(MOST_STEPS, max(2, max(find.trial_steps, epochs[0]) // find.trials)), find.trials


def finder_steps(settings: Settings, phase: Phase) -> int | None:
    """Return the largest number of steps of a finder; it ends early once it has what it looks for."""
    steps, trials = finder_length(settings, phase)
    return None if steps is None else steps * trials
