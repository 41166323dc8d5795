"""Every module that helps to make an artifact is in the key of its kind; traced runs show which ones do."""

import sys
import threading
from contextlib import contextmanager
from importlib import import_module

import pytest
from brief import FIND, skip_plots, trained
from images import tree

from thaw.store import code_hash
from thaw.store.code_hash import PACKAGES
from thaw.store.store import Store
from thaw.train import run

# Modules that run while an artifact is made without changing it, each with the reason.
EXEMPT = {
    "config/run_names.py": "names runs",
    "config/schedulers.py": "draws the rates; the code of the chosen schedule is in the key",
    "config/transforms.py": "parses transforms; names and arguments, in order, are in the key",
    "config/values.py": "parses typed values; the numbers are in the key",
    "data/contact_sheet.py": "draws images for people",
    "data/listing.py": "lists file names in notes",
    "data/table.py": "holds paths, labels and splits; contents and labels are in the key",
    "plan/finder_steps.py": "counts the finder's steps and rates, which are in the key",
    "plan/phases.py": "holds the plan, whose values are in the key",
    "plan/show.py": "writes plan.txt",
    "train/time_limit.py": "may end a cycle early, which is in the key then",
    "report/tracker.py": "writes metrics.jsonl",
    "runtime/console.py": "shows progress",
    "runtime/files.py": "syncs files to disk",
    "runtime/fonts.py": "finds fonts for plots",
    "runtime/machine.py": "counts cores, which does not change results; names versions, which are in the key",
    "runtime/signals.py": "asks whether to stop",
    "store/code_hash.py": "names artifacts",
    "store/estimates.py": "records costs",
    "store/keys.py": "names artifacts",
    "store/lock.py": "waits for other processes",
    "store/publish.py": "publishes artifacts",
    "store/snapshot.py": "returns the bits that it was given, checked by SHA-256, or nothing",
    "store/kinds.py": "checks stored files",
    "store/store.py": "publishes artifacts",
    "train/context.py": "holds the objects that phases work with",
    "train/fit.py": "reports the progress that a snapshot holds",
    "train/progress.py": "shows steps and epochs while a cycle runs",
}

RUNS = [  # together they use every branch of the listed modules that makes artifacts
    ("shapes", "head=fastai", "augment.mixup=0.2", "optimizer=sgd", "+checklist.head_augmented.views=2",
     "checklist.head_augmented.features=precomputed"),
    ("folder", "backbone=lite0", "augment=standard", "augment.cutmix=1", "rates=layer_decay", "resize=double",
     "find.rule=edge", "find.steps=10", "loss.balance=sampler"),
]  # fmt: skip


@pytest.fixture
def executed(monkeypatch):
    """Return, per kind of artifact, the modules relative to src/thaw whose functions ran while it was made."""
    found: dict[str, set[str]] = {}
    kinds: list[str] = []
    entry = Store.entry

    @contextmanager
    def traced(self, kind, parts, *which, **how):
        with entry(self, kind, parts, *which, **how) as one:
            kinds.extend([kind] * one.missing)
            try:
                yield one
            finally:
                del kinds[len(kinds) - one.missing :]

    def note(frame, event, arg):
        if event == "call" and kinds and frame.f_code.co_filename.startswith(f"{PACKAGES}/"):
            for kind in kinds:
                found.setdefault(kind, set()).add(frame.f_code.co_filename.removeprefix(f"{PACKAGES}/"))

    def result(context, log, run_plan=run.run_plan):
        kinds.append("results")
        try:
            return run_plan(context, log)
        finally:
            kinds.pop()

    for file in sorted(PACKAGES.rglob("*.py")):  # so that no import runs during the traced work
        import_module("thaw." + ".".join(file.relative_to(PACKAGES).with_suffix("").parts).removesuffix(".__init__"))
    monkeypatch.setattr(Store, "entry", traced)
    monkeypatch.setattr(run, "run_plan", result)
    threading.setprofile(note)
    sys.setprofile(note)
    yield found
    sys.setprofile(None)
    threading.setprofile(None)


def test_every_module_that_makes_an_artifact_is_in_its_key(compose, tmp_path, monkeypatch, executed):
    skip_plots(monkeypatch)
    photos = tree(tmp_path / "photos", cat=8, dog=8)
    for number, (kind, *overrides) in enumerate(RUNS):
        own = [f"data.root={photos}"] if kind == "folder" else ["data=shapes", "data.limit=40"]
        settings = compose("smoke=true", "size=32", "batch_size=8", "data.workers=0", *own, *FIND, *overrides)
        trained(settings, tmp_path / f"run-{number}")
    assert executed.keys() == code_hash.CODE.keys()
    forgotten = {kind: modules - set(code_hash.CODE[kind]) - EXEMPT.keys() for kind, modules in executed.items()}
    assert {kind: modules for kind, modules in forgotten.items() if modules} == {}, "add them to code_hash or to EXEMPT"
    assert EXEMPT.keys() <= set().union(*executed.values()), "no longer executed: remove it from EXEMPT"
