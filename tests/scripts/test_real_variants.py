"""The table of the bench of variants, and that each of them composes."""

import pytest
import real_variants
from test_real_table import line

from thaw.config.compose import compose_settings


@pytest.mark.parametrize("name", real_variants.VARIANTS)
def test_every_variant_composes_and_changes_something(name):
    base = ["data.root=.", "backbone=lite0", "size=96"]
    changed = compose_settings([*base, *real_variants.VARIANTS[name]])
    assert (changed == compose_settings(base)) == (name == real_variants.DEFAULT)


def test_the_table_compares_each_variant_with_the_default_on_the_same_seeds():
    def row(name, seed, hits):
        return line(name, seed, hits=hits, task="signs", cost=20.0 + seed)

    lines = [row("default", seed, (1, 1, 1, 0)) for seed in (0, 1)] + [row("mixup", 0, (1, 1, 1, 1))]
    shown = real_variants.table(lines).splitlines()
    assert "| default |  |  |  | 75.0 / 0.75 (2) |  |  |" in shown
    assert "| mixup |  |  |  | 100.0 / 0.75 (1) | +25.0 ± 25.0 | +0.00 ± 0.00 |" in shown
    assert "| tenths |  |  |  |  |  |  |" in shown


def test_the_share_of_each_phase_is_a_median_over_runs():
    def row(seed, full):
        phases = {"head/seconds": 1.0, "full/seconds": full, "full/lr": 0.1}
        return line("default", seed, hits=(1, 0), task="signs", cost=20.0) | {"phases": phases}

    shown = real_variants.seconds([row(0, 10.0), row(1, 12.0), row(2, 18.0)]).splitlines()
    assert "| signs (3) | 20 | head: 5.0% | full: 60.0% |" in shown
