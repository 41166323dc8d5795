"""How scripts respond to --help and to unknown words, and what some check before they start; in this process."""

import importlib.util
import re
import sys

import pytest

from thaw.config.paths import ROOT
from thaw.runtime import entry

HEAVY = re.compile(r"^(?:import|from) (?:torch|thaw\.(?:train|model|data))\b", re.M)  # these import torch when loaded
SCRIPTS = [file for file in sorted((ROOT / "scripts").rglob("*.py")) if "__main__" in file.read_text()]
TAKE_SETTINGS = {"rerun.py", "show_batch.py"}  # and flags of Hydra; unknown words are refused as settings
REFUSED = [["--nonsense"], ["nonsense", "--nonsense=1"]]


def module_of(file, monkeypatch):
    """Load a script as a module."""
    monkeypatch.syspath_prepend(str(file.parent))
    spec = importlib.util.spec_from_file_location(f"script_{file.parent.name}_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def main_of(file, monkeypatch):
    return module_of(file, monkeypatch).main


def case(file):
    """Return the parameter of a script; those that load torch are slow."""
    slow = [pytest.mark.slow] if HEAVY.search(file.read_text()) else []
    return pytest.param(file, id=str(file.relative_to(ROOT / "scripts")), marks=slow)


@pytest.mark.parametrize("file", map(case, SCRIPTS))
def test_help_is_printed_and_nonsense_is_refused_in_one_line(file, monkeypatch, capsys):
    monkeypatch.setattr(entry, "TRACES", False)
    monkeypatch.setattr(sys, "argv", [file.name, "--help"])
    main = main_of(file, monkeypatch)
    try:
        code = entry.run(main)
    except SystemExit as left:
        code = left.code
    out, err = capsys.readouterr()
    assert (code, err) == (0, "") and re.match(rf"usage: {file.name} .*\n\n[A-Z].*[.:]", out, re.S)
    for words in REFUSED if file.name not in TAKE_SETTINGS else []:
        monkeypatch.setattr(sys, "argv", [file.name, *words])
        assert entry.run(main) in (2, 6), words
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("out", ["file/x.safetensors", "", "/dev/full", "/proc/x"])
def test_a_file_that_cannot_be_written_is_refused_before_pretraining(out, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(entry, "TRACES", False)
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--out", str(tmp_path / out)])
    assert entry.run(main_of(ROOT / "scripts/pretrain.py", monkeypatch)) == 5
    assert re.fullmatch(r"error: .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("words", [["nosuch"], ["HEAD", "nosuch"]])
def test_same_refuses_an_unknown_commit_before_it_starts(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(entry, "TRACES", False)
    monkeypatch.setattr(sys, "argv", ["same.py", *words, "--work", str(tmp_path / "work")])
    same = module_of(ROOT / "scripts/bench/same.py", monkeypatch)
    assert entry.run(same.main) == 2
    assert capsys.readouterr().err == "error: nosuch: not a commit of this repository\n"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("name", ["task_sources.py"])
def test_a_module_without_a_task_says_who_imports_it(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name])
    module = module_of(ROOT / "scripts/bench" / name, monkeypatch)
    assert module.__doc__.startswith("Imported by scripts/bench/")
    assert entry.run(module.main) == 2
    assert re.fullmatch(
        r"error: imported by scripts/bench/\w+\.py; run that instead; see .*\n", capsys.readouterr().err
    )
