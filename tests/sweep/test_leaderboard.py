"""The leaderboard of a sweep: ranking, uncertainty, effects, the state of jobs, all forms of output."""

import csv
import json
import math
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import sweeps

from thaw.config import run_names
from thaw.report import run_files
from thaw.runtime import console
from thaw.runtime.errors import UserError
from thaw.sweep import compare, jobs, page, rank, status, text, words
from thaw.sweep.board import Board, after_audition, leaderboard, sync_line
from thaw.sweep.text import markdown, terminal


def settings_of(root):
    return {setting.name: setting for setting in leaderboard(root).settings}


def difference(root, name):
    board = leaderboard(root)
    return next(d for s, d in zip(board.settings, board.differences, strict=True) if s.name == name)


def test_settings_are_ranked_by_their_mean_over_seeds(tmp_path):
    for number, (scheduler, seed, accuracy) in enumerate(
        [("sgdr", 0, 0.90), ("sgdr", 1, 0.94), ("one_cycle", 0, 0.93), ("one_cycle", 1, 0.95), ("flat", 0, math.nan)]
    ):
        sweeps.make_job(tmp_path / str(number), f"scheduler={scheduler}", f"seed={seed}", accuracy=accuracy)
    settings = leaderboard(tmp_path).settings
    assert [setting.name for setting in settings] == ["one_cycle", "sgdr", "flat"]
    assert settings[0].mean == pytest.approx(0.94)
    assert settings[1].deviation == pytest.approx(0.02 * math.sqrt(2))
    assert math.isnan(settings[2].mean) and math.isnan(settings[2].deviation)
    assert [setting.name for setting in leaderboard(tmp_path, "valid/loss").settings][:2] == ["one_cycle", "sgdr"]


def test_one_seed_of_nan_is_not_outvoted(tmp_path):
    for seed, accuracy in enumerate([0.99, math.nan]):
        sweeps.make_job(tmp_path / str(seed), "lr=9", f"seed={seed}", accuracy=accuracy)
    sweeps.make_job(tmp_path / "2", "lr=0.1", "seed=0", accuracy=0.5)
    board = leaderboard(tmp_path)
    assert [setting.name for setting in board.settings] == ["lr 0.1", "lr 9"]
    assert any("nan for a seed of lr 9:" in note for note in words.notes(board))
    assert words.difference_of(board, 1) == ""


def test_equal_values_are_ranked_by_loss_then_by_seconds(tmp_path):
    for number, (accuracy, loss, seconds) in enumerate([(0.9, 0.4, 1), (0.9, 0.3, 9), (0.8, 0.3, 2), (0.9, 0.3, 5)]):
        result = {"best/loss": loss}
        sweeps.make_job(tmp_path / str(number), f"lr={number}", accuracy=accuracy, seconds=seconds, result=result)
    assert [setting.name for setting in leaderboard(tmp_path).settings] == ["lr 3", "lr 1", "lr 0", "lr 2"]
    by_loss = leaderboard(tmp_path, "valid/loss").settings
    assert [setting.name for setting in by_loss] == ["lr 3", "lr 1", "lr 2", "lr 0"], "of equal losses by accuracy"


def test_the_error_of_sampling_stands_beside_the_deviation_over_seeds(tmp_path):
    for seed, test in enumerate((0.88, 0.9, 0.92)):
        result = {"n_valid": 100, "test/accuracy": test}
        sweeps.make_job(tmp_path / str(seed), f"seed={seed}", accuracy=0.9, result=result)
    notes = words.notes(leaderboard(tmp_path))
    assert "with 100 validation images, 90.00% has a standard error of 3.00, for any seed" in notes  # sqrt(.9 .1 / 100)
    assert "test accuracy of the best setting: 90.00% ± 2.00 (not used for the ranking)" in notes


def test_a_setting_that_lacks_a_job_comes_after_complete_settings(tmp_path):
    for seed, accuracy in ((0, 0.9), (1, 0.8)):
        sweeps.make_job(tmp_path / str(seed), "lr=1", f"seed={seed}", accuracy=accuracy)
    sweeps.make_job(tmp_path / "2", "lr=2", "seed=0", accuracy=0.9)
    sweeps.status(tmp_path / "3", state="failed", code=5, line="killed", overrides=["lr=2", "seed=1"])
    board = leaderboard(tmp_path)
    assert [setting.choices for setting in board.settings] == [("lr=1",), ("lr=2",)]
    assert "ranked after the complete settings because a job is missing: lr 2" in words.notes(board)
    assert [board.settings[i].choices for i in board.front] == [("lr=1",)]


def test_a_difference_is_paired_by_image_and_seed(tmp_path):
    """Only one run is right on four of forty images: the difference is 4/40, with the error of 36 zeros and 4 ones."""
    sweeps.make_job(tmp_path / "0", "scheduler=a", "seed=0", accuracy=1.0)
    sweeps.make_job(tmp_path / "1", "scheduler=b", "seed=0", accuracy=0.9, wrong={0, 1, 2, 3})
    found = difference(tmp_path, "b")
    assert (found.mean, found.images, found.seeds) == (pytest.approx(-0.1), 40, 1)
    assert found.error == pytest.approx(math.sqrt(0.1 * 0.9 / 39))
    assert not found.tie


def test_a_difference_within_two_standard_errors_is_a_tie(tmp_path):
    sweeps.make_job(tmp_path / "0", "scheduler=a", "seed=0", accuracy=1.0, wrong={5})
    sweeps.make_job(tmp_path / "1", "scheduler=b", "seed=0", accuracy=0.9, wrong={1, 2})
    sweeps.make_job(tmp_path / "2", "scheduler=c", "seed=0", accuracy=0.8, wrong={5})
    assert difference(tmp_path, "b").tie
    assert difference(tmp_path, "c").tie and difference(tmp_path, "c").mean == 0, "the same predictions"


def test_seeds_that_disagree_widen_the_error(tmp_path):
    """With one seed b is wrong on 12 more images, with the other on 4 fewer: over images alone it would be no tie."""
    for seed, (a, b) in enumerate([(set(), set(range(12))), (set(range(12, 16)), set())]):
        sweeps.make_job(tmp_path / f"{2 * seed}", "scheduler=a", f"seed={seed}", accuracy=0.95, wrong=a)
        sweeps.make_job(tmp_path / f"{2 * seed + 1}", "scheduler=b", f"seed={seed}", accuracy=0.85, wrong=b)
    found = difference(tmp_path, "b")
    assert found.mean == pytest.approx((-12 + 4) / 80)
    assert found.error == pytest.approx(16 / 40 / 2) and found.tie


def test_a_loss_is_compared_by_the_loss_of_each_image(tmp_path):
    sweeps.make_job(tmp_path / "0", "scheduler=a", "seed=0")
    sweeps.make_job(tmp_path / "1", "scheduler=b", "seed=0", accuracy=0.8, wrong={0, 1})
    found = leaderboard(tmp_path, "valid/loss").differences[1]
    assert found.mean == pytest.approx(2 / 40 * math.log(0.8 / 0.2), rel=1e-5)


def test_a_missing_difference_states_its_reason(tmp_path):
    sweeps.make_job(tmp_path / "0", "scheduler=a", "seed=0", accuracy=0.9)
    sweeps.make_job(tmp_path / "1", "scheduler=b", "seed=1", accuracy=0.8)
    sweeps.make_job(tmp_path / "2", "scheduler=c", "seed=0", accuracy=0.7, images=39)
    (sweeps.make_job(tmp_path / "3", "scheduler=d", "seed=0", accuracy=0.6) / "valid_predictions.csv").unlink()
    board = leaderboard(tmp_path)
    cells = [words.difference_of(board, i) for i in range(4)]
    assert cells == ["best", "no seed in common", "different images", "no predictions"]
    text.markdown(board)


def test_settings_that_keep_the_same_model_are_named(tmp_path):
    for number, (shape, key, full) in enumerate([("a", "k", 0.65), ("b", "k", 0.775), ("c", "other", 0.7)]):
        kept = {"key": key, "best/phase": "head", "phase/full/accuracy": full}
        sweeps.make_job(tmp_path / str(number), f"scheduler={shape}", "seed=0", result=kept)
    found = [note for note in words.notes(leaderboard(tmp_path)) if "the same model" in note]
    assert found == ["a, b kept the same model, from phase head: phase full did not improve on it (65.00%, 77.50%)"]


def test_folds_belong_to_one_setting(tmp_path):
    for fold in (0, 1):
        sweeps.make_job(tmp_path / f"{fold}", "scheduler=a", f"data.fold={fold}", "seed=0")
        sweeps.make_job(tmp_path / f"{fold + 2}", "scheduler=b", f"data.fold={fold}", "seed=0", accuracy=0.8)
    assert {name: len(setting.jobs) for name, setting in settings_of(tmp_path).items()} == {"a": 2, "b": 2}


def test_names_contain_only_what_differs_and_are_unique(tmp_path):
    typed = ["backbone.weights=/a/x.safetensors", "backbone.weights=/b/x.safetensors"]
    assert run_names.setting_names([("size=32", one) for one in typed]) == typed
    assert run_names.setting_names([("size=32", "scheduler=sgdr"), ("size=32", "scheduler=flat_cos")]) == [
        "sgdr",
        "flat_cos",
    ]
    assert run_names.setting_names([("size=32",)]) == ["size 32"] and run_names.setting_names([()]) == ["default"]
    assert run_names.setting_names([("size=32", "lr=1"), (), ("size=32", "lr=2")]) == ["lr 1", "default", "lr 2"]
    job = sweeps.make_job(tmp_path / "0", "store.dir=/x", "name=n", "lr=0.1", "seed=0", "data.fold=1")
    assert jobs.read_job(job).choices == ("lr=0.1",)


# effects and the front ------------------------------------------------------------------------------------------------


def effects_of(root) -> dict[tuple[str, str], rank.Effect]:
    return {(effect.key, effect.value): effect for effect in leaderboard(root).effects}


def test_the_effect_of_a_key_is_averaged_over_the_other_keys(tmp_path):
    accuracies = {("a", "x"): 0.8, ("a", "y"): 0.6, ("b", "x"): 0.9, ("b", "y"): 0.8}
    for number, ((p, q), accuracy) in enumerate(accuracies.items()):
        sweeps.make_job(tmp_path / str(number), f"scheduler={p}", f"rates={q}", "seed=0", accuracy=accuracy)
    found = effects_of(tmp_path)
    assert found["scheduler", "a"].mean == pytest.approx(0.7) and found["scheduler", "b"].mean == pytest.approx(0.85)
    # b - a is 0.1 in one block and 0.2 in the other; each value deviates by half of it from the block's mean
    assert found["scheduler", "a"].error == pytest.approx(0.025) and found["scheduler", "a"].n == 2


def test_a_failed_job_biases_no_effect(tmp_path):
    """b lost its job with the hard rates: a plain mean would make it look better than it is."""
    for number, (p, q, accuracy) in enumerate([("a", "easy", 0.9), ("a", "hard", 0.5), ("b", "easy", 0.9)]):
        sweeps.make_job(tmp_path / str(number), f"scheduler={p}", f"rates={q}", "seed=0", accuracy=accuracy)
    sweeps.status(tmp_path / "3", state="failed", code=4, line="x", overrides=["scheduler=b", "rates=hard", "seed=0"])
    found = effects_of(tmp_path)
    assert found["scheduler", "a"].mean == found["scheduler", "b"].mean == pytest.approx(0.9)
    assert math.isnan(found["scheduler", "a"].error), "one block with one seed gives no error"


def test_with_one_swept_key_the_seeds_are_blocks_and_no_effects_repeat_the_ranking(tmp_path):
    for number, (p, seed, accuracy) in enumerate([("a", 0, 0.8), ("a", 1, 0.6), ("b", 0, 0.9), ("b", 1, 0.7)]):
        sweeps.make_job(tmp_path / str(number), f"scheduler={p}", f"seed={seed}", accuracy=accuracy)
    board = leaderboard(tmp_path)
    found = {effect.value: effect for effect in rank.effects(board.settings, "scheduler", ["scheduler"])}
    assert found["b"].mean == pytest.approx(0.8)
    assert found["b"].error == pytest.approx(0), "with both seeds it is 0.1 better"
    assert board.effects == [] and "averaged over" not in markdown(board) + "\n".join(terminal(board))


def test_the_error_of_an_effect_is_the_larger_of_that_over_blocks_and_that_over_seeds(tmp_path):
    """The blocks agree but the seeds do not: b is better by 0 with one seed and by 0.1 with the other."""
    cells = [(p, q, s, 0.8 + 0.1 * (p == "b" and s)) for p in "ab" for q in "cd" for s in (0, 1)]
    for number, (p, q, seed, accuracy) in enumerate(cells):
        sweeps.make_job(tmp_path / str(number), f"scheduler={p}", f"rates={q}", f"seed={seed}", accuracy=accuracy)
    errors = {(e.key, e.value): e.error for e in leaderboard(tmp_path).effects}
    assert errors["scheduler", "b"] == pytest.approx(0.025)  # deviations 0 and 0.05: sd 0.035 / sqrt(2)
    assert errors["rates", "c"] == 0


def test_without_a_complete_block_means_are_plain_and_a_search_has_no_effects(tmp_path):
    for number in range(14):
        net = f"backbone=net{number % 2}"
        sweeps.make_job(tmp_path / str(number), f"lr_factor=0.{number + 1}1", net, "seed=0", accuracy=number / 20)
    found = leaderboard(tmp_path).effects
    assert [(effect.key, effect.balanced, effect.n) for effect in found] == [("backbone", False, 7)] * 2


def test_the_front_holds_the_settings_that_no_other_beats_in_value_and_seconds(tmp_path):
    for number, (accuracy, seconds) in enumerate([(0.9, 100), (0.8, 10), (0.85, 120), (0.7, 20), (0.9, 110)]):
        sweeps.make_job(tmp_path / str(number), f"lr={number}", "seed=0", accuracy=accuracy, seconds=seconds)
    board = leaderboard(tmp_path)
    assert [board.settings[i].name for i in board.front] == ["lr 1", "lr 0"]


# the state of jobs, read from their folders ---------------------------------------------------------------------------


def test_states_of_jobs(tmp_path):
    sweeps.make_job(tmp_path / "0", "lr=1")
    sweeps.status(tmp_path / "1", state="failed", code=4, line="loss is nan", overrides=["lr=2"])
    sweeps.status(tmp_path / "2", state="running", pid=os.getppid(), overrides=["lr=3"])
    sweeps.status(tmp_path / "3", state="running", pid=2**22 + 1, overrides=["lr=4"])
    sweeps.status(tmp_path / "4", state="running", pid=2**22 + 1, host="elsewhere", overrides=["lr=5"])
    (tmp_path / "10/.hydra").mkdir(parents=True)
    # Hydra writes long values on two lines.
    text = "- lr=6\n- 'data.root=''/a b\n  c'''\n- lr_factor=1e-3\n- wandb=off\n"
    (tmp_path / "10/.hydra/overrides.yaml").write_text(text)
    (tmp_path / "notes").mkdir()
    found = jobs.read_jobs(tmp_path)
    assert [job.name for job in found] == ["0", "1", "2", "3", "4", "10"]
    assert [job.state for job in found] == ["done", "failed", "running", "dead", "running", "waiting"]
    assert [job.code for job in found] == [0, 4, 0, 5, 0, 0]
    assert found[-1].overrides == ("lr=6", "data.root='/a b c'", "lr_factor=1e-3", "wandb=off")
    with pytest.raises(UserError, match="no sweep and no run") as refused:
        jobs.read_jobs(tmp_path / "notes")
    assert refused.value.code == 6
    with pytest.raises(UserError, match="nope: no such folder"):
        jobs.read_jobs(tmp_path / "nope")


def test_a_process_id_that_was_reused_does_not_count_as_running(tmp_path):
    sweeps.status(tmp_path / "0", state="running", pid=os.getppid(), overrides=[])
    assert jobs.read_job(tmp_path / "0").state == "running"
    os.utime(tmp_path / "0/status.json", (1e9, 1e9))
    assert jobs.read_job(tmp_path / "0").state == ("dead" if Path("/proc/stat").exists() else "running")


def test_the_monitor_is_read_from_the_composed_config(tmp_path):
    job = sweeps.make_job(tmp_path / "0", "lr=1")
    assert jobs.monitor_of(jobs.read_jobs(tmp_path)) == "valid/accuracy"
    (job / ".hydra").mkdir()
    (job / ".hydra/config.yaml").write_text("data:\n  monitor: no\nmonitor: valid/f1_macro\n")
    assert jobs.monitor_of(jobs.read_jobs(tmp_path)) == "valid/f1_macro"


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("sgdr", 1), ("a,b,c", 3), ("a, a,b", 2), ("choice(1,2)", 2), ("range(0,3)", 3), ("range(1,10,4)", 3), ("", 1),
        ("[1e-4,1e-3],[1,2]", 2), ("[1,2]", 1), ("'a,b',c", 2), ("glob(*)", 0), ("range(0.1,0.5,0.1)", 0),
    ],
)  # fmt: skip
def test_number_of_values_of_a_sweep(value, count):
    assert len(jobs.values_in(value)) == count


def test_number_of_planned_jobs(tmp_path):
    head = "hydra:\n  sweeper:\n    _target_: x.BasicSweeper\n    max_batch_size: null\n    params: null\n"
    task = (
        "  overrides:\n    hydra:\n    - hydra.mode=MULTIRUN\n    task:\n    - seed=0,1\n    - 'lr=[1,2],[3,4],[5,6]'\n"
    )
    (tmp_path / "multirun.yaml").write_text(head + task + "    - size=32\n  job:\n    name: train\n")
    assert jobs.planned_jobs(tmp_path) == 6
    recipe = head.replace("params: null", "params:\n      scheduler: sgdr,flat\n      rates: uniform,thirds")
    (tmp_path / "multirun.yaml").write_text(recipe + "  overrides:\n    hydra: []\n    task: []\n")
    assert jobs.planned_jobs(tmp_path) == 4
    narrowed = recipe + "  overrides:\n    hydra: []\n    task:\n    - rates=tenths\n    - seed=0,1,2\n"
    (tmp_path / "multirun.yaml").write_text(narrowed)
    assert jobs.planned_jobs(tmp_path) == 6 and jobs.keys_swept_in(tmp_path) == {"scheduler", "seed"}
    (tmp_path / "multirun.yaml").write_text(head.replace("Basic", "Optuna") + task)
    assert jobs.planned_jobs(tmp_path) is None
    assert jobs.planned_jobs(tmp_path / "nowhere") is None


MARKDOWN = [
    ("a|b", r"a\|b"), ("<script>", r"\<script\>"), ("lr_factor=2", "lr_factor=2"), ("__x_", r"\_\_x\_"), ("#1", r"\#1"),
    ("a\nb\x1b", r"a\\nb\\x1b"), ("[a](b)", r"\[a\](b)"), ("&lt;", r"\&lt;"), ("``` ~~~", r"\`\`\` \~\~\~"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "cell"), MARKDOWN)
def test_names_are_escaped_in_markdown(name, cell):
    assert text.markdown_cell(name) == cell


def test_no_text_closes_the_fence_around_it():
    assert text.code_block("a") == "```\na\n```"
    assert text.code_block("a\n````\n<b>") == "`````\na\n````\n<b>\n`````"


def test_reports_of_folders_with_any_name_are_found(tmp_path):
    for name in ("a#b", "100%", 'it\'s "x"', "javascript:alert(1)"):
        (sweeps.make_job(tmp_path / name, f"name={name}") / "report.html").touch()
    pages = page.reports(leaderboard(tmp_path))
    assert sorted(pages.values()) == [
        "100%25/report.html", "a%23b/report.html", "it%27s%20%22x%22/report.html",
        "javascript%3Aalert%281%29/report.html",
    ]  # fmt: skip


# forms of output ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Make a sweep of 18 jobs: twelve done, one failed, one dead, one with a folder only, three without a folder."""
    root = sweeps.make_sweep(tmp_path_factory.mktemp("sweep") / "a sweep", images=80)
    line = "loss is nan in phase full at step 812 (lr 0.31)"
    sweeps.status(root / "12", state="failed", code=4, line=line, overrides=["size=32", "scheduler=flat", "seed=0"])
    sweeps.status(root / "13", state="running", pid=2**22 + 1, overrides=["size=32", "scheduler=flat", "seed=1"])
    (root / "14/.hydra").mkdir(parents=True)
    (root / "14/.hydra/overrides.yaml").write_text("- size=32\n- scheduler=flat\n- seed=2\n")
    (root / "multirun.yaml").write_text(
        "hydra:\n  sweeper:\n    _target_: x.BasicSweeper\n    params: null\n"
        "  overrides:\n    task:\n    - scheduler=sgdr,one_cycle,flat\n    - seed=range(0,6)\n"
    )
    result = json.loads((root / "3/result.json").read_text())
    result |= {"store/code": "ignore", "wandb_offline": str(root / "wandb" / "offline run-1"), "test/accuracy": 0.5}
    (root / "3/result.json").write_text(json.dumps(result))
    return root


def test_many_offline_runs_are_uploaded_from_a_list(tmp_path):
    for number in range(9):
        run = tmp_path / f"wandb/it's run {number}"
        sweeps.make_job(tmp_path / str(number), f"seed={number}", result={"wandb_offline": str(run)})
    board = leaderboard(tmp_path)
    page.write_sweep_report(board)
    line = sync_line(board)
    assert line == f"xargs wandb sync < {tmp_path}/wandb_runs.txt"
    shown = subprocess.run(line.replace("wandb sync", "printf '%s\\n'"), shell=True, capture_output=True, text=True)
    assert shown.stdout.splitlines() == [str(tmp_path / f"wandb/it's run {number}") for number in range(9)]


def test_the_last_lines_of_a_sweep(mixed):
    lines = terminal(leaderboard(mixed))
    text = "\n".join(lines)
    assert "sweep: 12/18 jobs done" in text and lines[-1] == "  3 more jobs never started"
    reason = "loss is nan in phase full at step 812 (lr 0.31) (exit 4)"
    assert f"  job 12 (flat · s0) failed: {reason}; see {mixed}/12/status.json" in lines
    assert "job 13 (flat · s1) died: killed" in text and "  job 14 (flat · s2) never started" in lines
    assert "): python src/train.py size=32 scheduler=one_cycle" in text and "best job (" in text
    assert "store.code=ignore in job 3" in text
    assert "wandb sync '" in text and text.count("wandb sync") == 1
    assert "in every job: size 32" in text
    assert ", tie" in text and "error:" not in text


def test_the_headings_name_what_a_plus_minus_means(mixed):
    lines = [" ".join(line.split()) for line in terminal(leaderboard(mixed))]
    assert "setting valid/accuracy ± sd jobs vs best ± se epochs seconds seconds spent Pareto" in lines
    assert "averaged over the other keys, ± standard error" in lines
    assert any(
        line.startswith("note: sd: standard deviation over jobs; se: standard error; vs best:") for line in lines
    )
    assert "2 combinations of the other keys" in markdown(leaderboard(mixed))


def test_what_ranks_equal_settings_is_said(tmp_path):
    for number, loss in enumerate((0.25, 0.125)):
        sweeps.make_job(tmp_path / str(number), f"lr={number}", accuracy=1.0, result={"best/loss": loss})
    line = "2 settings have 100.00%: ranked by validation loss, lower first (0.125, 0.25), then by seconds"
    assert line in words.notes(leaderboard(tmp_path))
    sweeps.make_job(tmp_path / "2", "lr=2", accuracy=0.9)
    sweeps.make_job(tmp_path / "one/0", "lr=1", accuracy=0.9)
    assert line in words.notes(leaderboard(tmp_path)) and "settings have" not in "".join(
        words.notes(leaderboard(tmp_path / "one"))
    )


def test_leaderboard_md_has_all_sections(mixed):
    text = markdown(leaderboard(mixed))
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.count("|") - line.count("\\|") >= 5 for line in tables)
    titles = ["Effect of each key, averaged over the other keys", "Pareto front: no other setting is both better and"]
    titles += ["Run the best job again", "Jobs that are not done", "All finished jobs", "Upload to W&B"]
    for title in titles:
        assert f"## {title}" in text
    assert "over-fitting: +0.1 ± 0.02" in text and "| 2 combinations of the other keys |" in text


def test_leaderboard_csv_has_numbers_as_they_are(mixed):
    head, *rows = text.csv_rows(leaderboard(mixed))
    assert len(rows) == 4 and len(set(head)) == len(head)
    best = dict(zip(head, rows[0], strict=True))
    assert best["rank"] == 1 and best["scheduler"] == "one_cycle" and best["n"] == 3 and best["difference"] == ""
    worst = dict(zip(head, rows[-1], strict=True))
    assert worst["scheduler"] == "sgdr" and worst["difference"] < 0 and worst["tie"] is False and worst["pairs"] == 80


def test_columns_are_aligned_with_characters_of_any_width():
    lines = console.grid(("name", "n"), [("猫と犬", "1"), ("e\u0301te\u0301", "2"), ("cat", "3")])
    assert [console.text_width(line) for line in lines] == [9, 9, 9, 9, 9]


def test_a_sweep_without_a_result(tmp_path):
    sweeps.status(tmp_path / "0", state="failed", code=5, line="no CUDA device", overrides=["device=cuda"])
    lines = text.terminal(leaderboard(tmp_path))
    assert lines[1] == f"sweep: 0/1 jobs done, in {tmp_path}" and "no CUDA device (exit 5)" in lines[2]
    text.markdown(leaderboard(tmp_path))


# running sweeps -------------------------------------------------------------------------------------------------------


def running(folder: Path, rows: list[dict], ago: float) -> None:
    """Make the folder of a job that started `ago` seconds before now and has logged these rows of metrics."""
    sweeps.make_job(folder, "lr=1", "seed=1", metrics=rows)
    (folder / "result.json").unlink()
    sweeps.status(folder, state="running", pid=os.getppid(), overrides=["lr=1", "seed=1"])
    then = (folder / "status.json").stat().st_mtime - ago
    os.utime(folder / "status.json", (then, then))


def test_progress_of_a_running_job(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    row = {"step": 20, "epoch": 2, "phase": "head", "valid/accuracy": 0.7}
    running(tmp_path / "0", [row, {"find_full/rate": 1e-5, "find_full/loss": 2.0}], 30)
    job = jobs.read_job(tmp_path / "0")
    now = (tmp_path / "0/status.json").stat().st_mtime + 30
    found = status.job_progress(job, "valid/accuracy", now)
    assert (found.phase, found.share, found.value) == ("find_full", 20 / 80, 0.7), "2 × 10 + 3 × 20 steps are planned"
    assert found.seconds == pytest.approx(30)
    text = "\n".join(status.status_lines(leaderboard(tmp_path), now))
    assert "25%" in text and "70.00%" in text and "time or reason" in text
    assert "expected to end in at least 1 min 30 s, not before" in text and "until over-fitting" in text
    sweeps.status(tmp_path / "0", state="running", pid=os.getppid(), overrides=["lr=1"], waits_for="finds/12345678")
    text = "\n".join(status.status_lines(leaderboard(tmp_path), now))
    assert "waiting for finds/12345678 from another job" in text


@pytest.mark.parametrize("columns", [80, 120, 300])
def test_the_status_fits_the_terminal(tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    name = "backbone=" + "a_very_long_name_" * 8
    for number, lr in enumerate(("0.1", "0.2")):
        sweeps.make_job(tmp_path / str(number), f"{name}{lr}", "seed=0", accuracy=0.9)
    sweeps.status(tmp_path / "2", state="failed", code=4, line="loss is nan; " * 30, overrides=[f"{name}0.3", "seed=0"])
    lines = status.status_lines(leaderboard(tmp_path), 0.0)
    assert max(len(line) for line in lines if not line.startswith(str(tmp_path))) <= columns
    assert len({line.split()[1] for line in lines[2:5]}) == 3, "the ends of the names, which differ, are kept"
    assert "(exit 4)" in lines[4] and sum(" a_very_" in line for line in lines[6:]) == 2, "two settings so far"


def test_of_many_jobs_the_status_lists_those_that_are_not_done_and_the_best_settings(tmp_path):
    for number in range(24):
        sweeps.make_job(tmp_path / str(number), f"lr=0.{number + 10}", "seed=0", accuracy=0.5 + number / 100)
    for number in range(24, 46):
        sweeps.status(tmp_path / str(number), state="failed", code=4, line="nan", overrides=[f"lr=0.{number + 10}"])
    lines = status.status_lines(leaderboard(tmp_path), 0.0)
    rows = [line for line in lines if " failed  " in line]
    assert [row.split()[0] for row in rows] == [str(number) for number in range(24, 44)]
    assert "... 2 more jobs are not done" in lines and "... 14 more settings" in lines
    best = [line.split() for line in lines[lines.index("... 2 more jobs are not done") :] if line[:1].isdigit()]
    assert [row[:4] for row in best] == [[str(i + 1), "lr", f"0.{33 - i}", f"{73 - i}.00%"] for i in range(10)]


def test_a_long_reason_keeps_its_start_and_its_exit_code():
    reason = "stopped in full after 139 steps; run the same command again to continue (exit 130)"
    assert status.shorten_reason(reason, 44) == "stopped in full after 139 steps… (exit 130)"
    assert status.shorten_reason("for 24.2 s", 8) == "for 24.…"


def test_the_end_is_a_lower_bound_while_cycles_may_be_added(tmp_path):
    board = leaderboard_of([])
    for share, may_grow, line in (
        (0.5, False, "expected to end in about 50.0 s, at "),
        (0.5, True, "expected to end in at least 50.0 s, not before "),
        (1.2, True, "the end is unknown: cycles are added to the plan until over-fitting"),
    ):
        one = status.JobProgress("full", share, 50.0, 0.9, may_grow)
        assert status.end_line(board, [one], 0, 0.0).startswith(line)
    sweeps.make_job(tmp_path / "0", "seed=0")
    os.utime(tmp_path / "0/status.json", (1e9, 1e9))
    (tmp_path / "0/.hydra").mkdir()
    (tmp_path / "0/.hydra/overrides.yaml").write_text("- seed=0")
    os.utime(tmp_path / "0/.hydra/overrides.yaml", (1e9 - 100, 1e9 - 100))
    one = status.JobProgress("full", 0.5, 50.0, 0.9, True)
    assert "in about 50.0 s" in status.end_line(leaderboard(tmp_path), [one], 0, 0.0), (
        "a finished job has all its cycles"
    )


def test_swept_keys_are_named_before_all_their_values_have_begun(tmp_path):
    (tmp_path / "multirun.yaml").write_text(
        "hydra:\n  sweeper:\n    _target_: x.BasicSweeper\n    params: null\n"
        "  overrides:\n    task:\n    - scheduler=sgdr,one_cycle\n    - lr_factor=0.5,1\n    - size=32\n"
    )
    for number, factor in enumerate(("0.5", "1")):
        sweeps.make_job(tmp_path / str(number), "scheduler=sgdr", f"lr_factor={factor}", "size=32", accuracy=0.9)
    text = "\n".join(status.status_lines(leaderboard(tmp_path), 0.0))
    assert "in every job: size 32\n" in text and "\n1  sgdr · lr×0.5 " in text


def test_a_table_that_fits_is_not_shortened():
    head, rows = ("job", "setting", "state", ""), [["0", "a" * 50, "failed", "b" * 20]]
    whole = max(map(len, console.grid(head, rows)))
    assert status.fitted(head, rows, whole) == (head, rows)
    assert max(map(len, console.grid(*status.fitted(head, rows, whole - 1)))) == whole - 1


def test_finished_jobs_whose_start_hydra_overwrote_predict_no_time(tmp_path):
    sweeps.make_job(tmp_path / "0", "seed=0")
    (tmp_path / "0/.hydra").mkdir(exist_ok=True)
    (tmp_path / "0/.hydra/overrides.yaml").write_text("- seed=0")
    later = (tmp_path / "0/status.json").stat().st_mtime + 100
    os.utime(tmp_path / "0/.hydra/overrides.yaml", (later, later))
    one = status.JobProgress("full", 0.5, 50.0, 0.9)
    assert status.seconds_left(status.seconds_taken(leaderboard(tmp_path)), [one], 0) == pytest.approx(50)


def test_seconds_left_of_a_sweep():
    took = status.seconds_taken(leaderboard_of([]))
    one = status.JobProgress("full", 0.5, 50.0, 0.9)
    assert status.seconds_left(took, [one], 0) == pytest.approx(50)
    assert status.seconds_left(took, [one, one], 3) == pytest.approx((100 + 300) / 2)
    assert math.isnan(status.seconds_left(took, [status.JobProgress("", 0.0, 1.0, math.nan)], 3))
    assert math.isnan(status.seconds_left(took, [], 3))


def leaderboard_of(found):
    return Board(Path(), "valid/accuracy", found, len(found), [], [], [], [], ())


def test_status_of_a_new_job_and_of_one_with_damaged_files(tmp_path):
    (tmp_path / "0/.hydra").mkdir(parents=True)
    sweeps.status(tmp_path / "1", state="running", pid=os.getppid(), overrides=[])
    (tmp_path / "1/metrics.jsonl").write_text('{"step": 1, "tr')
    (tmp_path / "1/run.json").write_text("{")
    text = "\n".join(status.status_lines(leaderboard(tmp_path), 0.0))
    assert "starting" in text and "0 done, 1 running, 1 waiting of 2" in text


def test_predictions_of_a_class_called_path(tmp_path):
    with (tmp_path / "valid_predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "truth", "prediction", "path", "b"], ["x", "path", "b", "0.0", "1.0"]])
    assert rank.scores(tmp_path, "valid/accuracy") == {"x": ("path", 0.0)}
    assert rank.scores(tmp_path, "valid/loss") == {"x": ("path", pytest.approx(-math.log(1e-6)))}


def test_values_of_an_effect_are_in_the_order_typed(tmp_path):
    for number, accuracy in enumerate([0.7, 0.9, 0.8, 0.6, 0.8, 0.7]):
        typed = (f"lr_factor={number % 3 + 1}", f"bn={('train', 'eval')[number // 3]}", "seed=0")
        sweeps.make_job(tmp_path / str(number), *typed, accuracy=accuracy)
    assert [effect.value for effect in leaderboard(tmp_path).effects] == ["1", "2", "3", "train", "eval"]


def test_an_audition_ends_with_the_command_for_the_winner(tmp_path):
    for number, (backbone, accuracy) in enumerate([("resnet18", 0.8), ("vit_small", 0.9)]):
        typed = (f"backbone={backbone}", "experiment=audition", "data.root=/my photos")
        sweeps.make_job(tmp_path / str(number), *typed, accuracy=accuracy)
    board = leaderboard(tmp_path)
    line = "python src/train.py backbone=vit_small 'data.root=/my photos'"
    assert after_audition(board) == line
    assert any(printed.endswith(line) for printed in text.terminal(board)) and line in text.markdown(board)
    sweeps.make_job(tmp_path / "other" / "0", "backbone=resnet18")
    assert after_audition(leaderboard(tmp_path / "other")) == ""


def test_typed_values_replace_those_of_an_experiment(tmp_path):
    (tmp_path / "multirun.yaml").write_text(
        "hydra:\n  sweeper:\n    _target_: hydra._internal.core_plugins.basic_sweeper.BasicSweeper\n"
        "    max_batch_size: null\n    params:\n      backbone: a,b,c\n      lr: 1,2\n"
        "  overrides:\n    hydra: []\n    task:\n    - experiment=audition\n    - backbone=d,e\n"
    )
    assert jobs.planned_jobs(tmp_path) == 4


def test_the_same_job_twice_counts_once(tmp_path):
    for number in range(3):
        sweeps.make_job(tmp_path / str(number), "lr=1" if number else "lr=2", accuracy=0.9)
    assert sorted(len(setting.jobs) for setting in leaderboard(tmp_path).settings) == [1, 1]


def test_a_search_has_no_main_effect_of_values_it_tried_once(tmp_path):
    for number, (factor, rates) in enumerate([("0.31", "thirds"), ("0.7", "uniform"), ("2.2", "thirds")]):
        sweeps.make_job(tmp_path / str(number), f"lr_factor={factor}", f"rates={rates}")
    assert {key for key, _ in effects_of(tmp_path)} == {"rates"}


# damaged job folders --------------------------------------------------------------------------------------------------

WRONG = [None, [], {}, "x", -1.5, [1, 2], {"a": 1}, 10**400]
CUT = ["", "{", "[]", "3", "path,truth\nx\n", "path,truth,prediction,cat,dog\nx,bird,cat,1,0\ny,cat\n", "x" * 200_000]


def damaged(root):
    """Damage the files of a job one after the other, and yield after each change."""
    job = sweeps.make_job(root / "0", "without=nothing", "seed=0", result={"wandb_offline": "x"})
    sweeps.make_job(root / "1", "without=finder", "seed=0", accuracy=0.8, wrong={1, 2})
    for name in ("status.json", "result.json", "run.json", "metrics.jsonl", "valid_predictions.csv"):
        whole = (job / name).read_text()
        for cut in CUT:
            (job / name).write_text(cut)
            yield
        for key in json.loads(whole) if name in ("status.json", "result.json", "run.json") else ():
            for wrong in WRONG:
                (job / name).write_text(json.dumps(json.loads(whole) | {key: wrong}))
                yield
        (job / name).unlink()
        (job / name).mkdir()
        yield
        (job / name).rmdir()
        (job / name).write_text(whole)
    sweeps.status(job, state="running", pid=10**30, overrides=["without=nothing"])
    for wrong in WRONG:
        fit = {"do": "fit", "epochs": wrong, "cycles": [1], "budget": 1}
        for phases in (wrong, {"head": wrong}, {"head": fit}, {"head": fit | {"epochs": [wrong], "cycles": wrong}}):
            (job / "run.json").write_text(json.dumps({"parts": {"phases": phases}}))
            yield
    for multirun in ("hydra: 3", "hydra: {overrides: {task: [3, null, 'a=range(1,2,0)', 'b=range(0,1000000000)']}}"):
        (root / "multirun.yaml").write_text(multirun)
        yield


@pytest.mark.slow
def test_damaged_job_folders_are_shown_or_refused(tmp_path):
    for _ in damaged(tmp_path):
        board = leaderboard(tmp_path)
        assert [*status.status_lines(board, 0.0), *terminal(board), markdown(board), *text.csv_rows(board)]
        with suppress(UserError):
            runs = compare.runs_of([tmp_path])
            assert compare.parts_table(runs) and compare.phases_table(runs) and compare.compare_images(*runs)
        run_files.headline(run_files.read_run(tmp_path / "0"))


@pytest.mark.parametrize(("a", "b"), [("True", "true"), ("1e-3", "0.001"), ("null", "NULL"), (None, None)])
def test_another_spelling_of_a_value_is_no_difference(a, b):
    assert compare.meaning(a) == compare.meaning(b)
    assert compare.meaning("x") != compare.meaning("X") and compare.meaning("1") != compare.meaning(None)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ([[32, 64, 10], [32, 64, 10], [40, 64, 10]], "2 × 32/64/10, 40/64/10"), ([0.1, 1 / 3, 1.0], "0.1, 0.3333, 1"),
        ([["Affine", {"rotate": [-10, 10], "p": 1.0}]], "Affine rotate=-10/10 p=1"), (None, "none"), (True, "true"),
        ([], "none"), ("0123456789abcdef0123", "01234567"), ("x" * 50, "x" * 39 + "…"),
    ],
)  # fmt: skip
def test_recorded_values_are_shown_without_python_syntax(value, cell):
    assert compare.short_value(value) == cell


def test_reasons_why_runs_cannot_be_compared(tmp_path):
    a, b = sweeps.make_job(tmp_path / "a", "lr=1"), sweeps.make_job(tmp_path / "b", "lr=2")
    with pytest.raises(UserError, match="the same run was given more than once"):
        compare.runs_of([a, a])
    with pytest.raises(UserError, match="a: only one finished run"):
        compare.runs_of([a])
    table = (b / "valid_predictions.csv").read_text(encoding="utf-8")
    swapped = table.replace("cat", "?").replace("dog", "cat").replace("?", "dog")
    (b / "valid_predictions.csv").write_text(swapped, encoding="utf-8")
    with pytest.raises(UserError, match="have different classes for the same images"):
        compare.compare_images(*compare.runs_of([a, b]))
