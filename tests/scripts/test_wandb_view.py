"""The saved view of W&B: its outline, its keys, and that wandb-workspaces accepts it (if installed)."""

import json

import pytest
import wandb_view

from thaw.report import tracker, wandb_mode

LISTED = {  # what each section shows
    "Result": ["best/accuracy", "cost/seconds (log)", "lr_factor", "choice.scheduler", "importance"],
    "Learning": ["valid/accuracy over epoch", "valid/loss over epoch", "train/loss over epoch", "valid/f1_macro"],
    "Schedule": ["lr/head (log) over step", "lr/first (log) over step", "image_size over step", "batch_size",
                 "trainable_fraction", "phase_index"],
    "Finder": ["find_head/loss over find_head/rate", "find_full/loss over find_full/rate"],
    "Speed": ["speed/images_per_second over step", "speed/data_wait over step", "speed/gpu_gb over step"],
    "Errors": ["table: confusion", "table: most_wrong", "table: per_class", "images"],
}  # fmt: skip


def test_the_outline_has_every_section_and_panel(capsys, monkeypatch):
    wandb_view.main(["--dry-run"])
    first, table, *rest = capsys.readouterr().out.splitlines()
    assert "best first: best/accuracy" in table
    assert first == "thaw: runs grouped by setting" and "dry run" in rest[-1]
    sections: dict[str, str] = {}
    for line in rest[:-1]:
        if not line.startswith("    "):
            sections[line.strip()] = ""
        else:
            sections[list(sections)[-1]] += line + "\n"
    assert list(sections) == list(LISTED)
    for name, keys in LISTED.items():
        assert [key for key in keys if key not in sections[name]] == []


@pytest.mark.parametrize("missing", [True, False])
def test_a_missing_library_or_login_is_reported(capsys, monkeypatch, missing):
    monkeypatch.setattr(wandb_view, "find_spec", lambda name: None if missing else name)
    monkeypatch.setattr(wandb_mode, "choose_mode", lambda mode: ("offline", "no login; `wandb login` makes one"))
    wandb_view.main([])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("view not built: ") and ("[wandb]" if missing else "wandb login") in last


def test_an_invalid_wandb_variable_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(wandb_view, "find_spec", lambda name: name)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://[::1")
    wandb_view.main([])
    assert capsys.readouterr().out.splitlines()[-1] == "view not built: ValueError: Invalid IPv6 URL"


def test_curves_have_the_axis_they_are_logged_with():
    axes = {key: axis for axis, keys in tracker.AXES.items() for key in keys}
    drawn = [panel for panels in wandb_view.SECTIONS.values() for panel in panels if panel.kind == "line"]
    for panel in drawn:
        if not panel.y[0].startswith("find_"):
            assert axes.get(panel.y[0], axes.get(panel.y[0].split("/")[0] + "/*")) == panel.x


def test_wandb_workspaces_accepts_the_view():
    pytest.importorskip("wandb_workspaces")
    built = json.loads(wandb_view.workspace("someone", "thaw")._to_model().model_dump_json(by_alias=True))
    text = json.dumps(built)
    for panels in wandb_view.SECTIONS.values():
        keys = [key.replace("choice.", "choice.value.") for panel in panels for key in panel.y]
        assert [key for key in keys if key not in text] == []
