"""What the README and docs/ say works: commands compose, links and paths exist, extensions run."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from images import tree

from docs import PAGES, commands, extended_checkout
from thaw.config.command_line import normalise
from thaw.config.compose import settings_of
from thaw.config.paths import CONF, ROOT

LINES = [(page.name, line) for page in PAGES for line in commands(page, "src/train.py")]


@pytest.mark.parametrize(("page", "line"), LINES)
def test_every_command_composes(page, line):
    """Of a sweep, the first job; what starts jobs or chooses them is Hydra's own."""
    words = shlex.split(line)
    typed = normalise(words, CONF)
    if typed.multirun and not any("sweeper=" in word for word in words):
        own = [word for word in typed.argv if not word.startswith(("-", "hydra"))]
        jobs = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(own), max_batch_size=None)[0]
        words = list(jobs[0])
    if "--help" not in words and not any("sweeper=" in word for word in words):
        settings_of(normalise(words, CONF))


def test_the_pages_are_read():
    assert len(LINES) > 35 and len(PAGES) == 9
    assert len((ROOT / "README.md").read_text().splitlines()) <= 110


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_scripts_and_paths_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"\b(?:src|scripts|conf|docs|tests)/[\w/]*\w\.(?:py|sh|md|yaml)\b", text):
        made = path in re.findall(r"^\+\+\+ b/(.*)$", text, re.M)
        assert made or (ROOT / path).exists(), path


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_exist(page):
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]*)\)", page.read_text()):
        assert anchor in anchors(page.parent / target if target else page), anchor


def test_every_function_is_where_the_architecture_says():
    text = (ROOT / "docs" / "architecture.md").read_text()
    pairs = re.findall(r"`([\w.]+)`\s+in\s+`(src/[\w/]+\.py)`", text)
    assert len(pairs) >= 14
    for name, path in pairs:
        body = ast.parse((ROOT / path).read_text()).body
        for part in name.split("."):
            found = next((node for node in body if getattr(node, "name", None) == part), None)
            assert found, f"{name} in {path}"
            body = found.body
    for path in re.findall(r"^\| .* \|.*$", text, re.M):
        for file in re.findall(r"`([\w/]+\.py)`", path):
            assert (ROOT / "src" / "thaw" / file).exists(), file


def test_the_extensions_train_together(tmp_path):
    """A JSON file of images, the staircase and the phase of docs/extending.md, in one run."""
    checkout = extended_checkout(tmp_path / "checkout")
    photos = tree(tmp_path / "photos", cat=12, dog=12)
    paths = sorted(file.relative_to(tmp_path) for file in Path(photos).rglob("*.png"))
    (tmp_path / "labels.json").write_text(json.dumps({str(path): path.parts[-2] for path in paths}))
    choices = ("experiment=long", "checklist=polish", "scheduler=staircase", "augment=light", "backbone=tiny")
    quick = ("smoke=true", "size=32", "threads=1", "data.workers=0", "wandb=disabled")
    places = (f"data.root={tmp_path}/labels.json", f"store.dir={tmp_path}/store", f"hydra.run.dir={tmp_path}/run")
    command = [sys.executable, "src/train.py", *choices, *quick, *places]
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["n_train"], result["n_valid"], result["n_classes"]) == (20, 4, 2)
    assert result["phase/polish/lr"] == 1e-5
    assert "staircase" in done.stdout and "data.root implies data=json" in done.stdout
