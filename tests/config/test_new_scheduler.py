"""Tests that the scheduler of docs/extending.md works everywhere once it is added."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from docs import extended_checkout
from thaw.config.schedulers import SGDR
from thaw.store import code_hash

LOOK = """
import json, sys
from thaw.config.compose import compose_settings
from thaw.plan.facts import Facts
from thaw.plan.plan import make_plan
from thaw.plan.schedules import curve
from thaw.store.keys import Basis, cycle_parts

settings = compose_settings(sys.argv[1:])
full = make_plan(settings, Facts(train=640)).phases[-1]
at = curve(full.schedule.rate(full.budget), full.ends)
parts = cycle_parts(settings, full, 0, 0.1, 32, Basis("", "", {}))
print(json.dumps({"rates": [at(step) for step in (0, 10, 30)], "cycles": full.cycles, "key": parts["schedule"]}))
"""
REFUSE = """
import json, sys
from thaw.config.compose import compose_settings
from thaw.runtime.errors import UserError

lines = {}
for word in sys.argv[1:]:
    try:
        compose_settings(["scheduler=staircase", word])
    except UserError as error:
        lines[word] = error.line
print(json.dumps(lines))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """Return a copy of the code and conf/ with the extensions of docs/extending.md."""
    return extended_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def ran(checkout):
    """Return a function that runs Python in the checkout and returns its output: ran("src/train.py", ...)."""

    def python(*args: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
        done = subprocess.run([sys.executable, *args], capture_output=True, text=True, env=environment, cwd=checkout)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return python


def test_it_is_composed_planned_drawn_and_keyed(ran):
    typed = ("scheduler=staircase", "scheduler.factor=0.25", "scheduler.cycles=2", "batch_size=64")
    found = json.loads(ran("-c", LOOK, *typed))
    assert found["cycles"] == [1, 2, 4]
    assert found["rates"] == [1.0, 0.25, 0.0625]
    assert found["key"].pop("code") and found["key"] == {"shape": "staircase", "factor": 0.25, "warmup": 0.0}


def test_store_keys_of_other_schedulers_do_not_change(ran):
    there = json.loads(ran("-c", LOOK, "scheduler=sgdr"))["key"]
    assert there == {"shape": "sgdr", "warmup": 100.0, "code": code_hash.definition(SGDR)}


def test_options_of_other_schedulers_are_warned_about(ran, checkout):
    places = (f"store.dir={checkout}/store", f"hydra.sweep.dir={checkout}/sweep")
    options = ("scheduler.factor=0.25", "scheduler.pct=0.3")
    told = ran("src/train.py", "-m", "scheduler=staircase,sgdr", *options, "plan_only=true", *places)
    assert "2 jobs, 2 settings" in told
    assert "scheduler.factor=0.25 has no effect with scheduler=sgdr" in told
    assert "scheduler.pct=0.3 has no effect with scheduler=staircase" in told
    assert "scheduler.factor=0.25 has no effect with scheduler=staircase" not in told


def test_impossible_options_are_refused(ran):
    refused = {
        "scheduler.factor=2": "scheduler.factor=2.0: must be above 0 and at most 1",
        "scheduler.factor=null": "scheduler.factor=null: staircase needs a number",
        "factor=0.1": "factor=0.1: no such key; did you mean scheduler.factor=0.1?",
        "scheduler.factor=x": "scheduler.factor=x: must be a number or null",
    }
    assert json.loads(ran("-c", REFUSE, *refused)) == refused


def test_it_is_in_the_help(ran):
    told = ran("src/train.py", "--help")
    assert "a lower constant rate in each cycle" in told
    assert "scheduler.factor=0.5" in told and "staircase: ratio of each cycle" in told
