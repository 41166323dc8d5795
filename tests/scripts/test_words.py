"""What every script answers to its words, in this process: help, and a line for what it does not know."""

import importlib.util
import re
import sys

import pytest

from thaw.config.paths import ROOT
from thaw.runtime import entry

HEAVY = re.compile(r"^(?:import|from) (?:torch|thaw\.(?:train|model|data))\b", re.M)  # load torch's friends at once
SCRIPTS = [file for file in sorted((ROOT / "scripts").rglob("*.py")) if "__main__" in file.read_text()]
TAKE_SETTINGS = {"rerun.py", "show_batch.py"}  # flags of Hydra too, and refuse them by the names of their settings
REFUSED = [["--nonsense"], ["nonsense", "--nonsense=1"]]


def main_of(file, monkeypatch):
    monkeypatch.syspath_prepend(str(file.parent))
    spec = importlib.util.spec_from_file_location(f"script_{file.parent.name}_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module.main


def case(file):
    slow = [pytest.mark.slow] if HEAVY.search(file.read_text()) else []
    return pytest.param(file, id=str(file.relative_to(ROOT / "scripts")), marks=slow)


@pytest.mark.parametrize("file", map(case, SCRIPTS))
def test_help_is_help_and_nonsense_a_line(file, monkeypatch, capsys):
    monkeypatch.setattr(entry, "TRACES", False)
    monkeypatch.setattr(sys, "argv", [file.name, "--help"])
    main = main_of(file, monkeypatch)
    try:
        code = entry.run(main)
    except SystemExit as left:
        code = left.code
    out, err = capsys.readouterr()
    assert (code, err) == (0, "") and re.search(r"^usage|python scripts/", out, re.M)
    for words in REFUSED if file.name not in TAKE_SETTINGS else []:
        monkeypatch.setattr(sys, "argv", [file.name, *words])
        assert entry.run(main) in (2, 6), words
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("out", ["file/x.safetensors", "", "/dev/full", "/proc/x"])
def test_a_place_that_takes_no_file_is_a_line_before_the_work(out, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(entry, "TRACES", False)
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--out", str(tmp_path / out)])
    assert entry.run(main_of(ROOT / "scripts/pretrain.py", monkeypatch)) == 5
    assert re.fullmatch(r"error: .*\n", capsys.readouterr().err)
