"""The eight steps on real digits: they learn, write what they should, and give the same bits every time."""

import csv
import hashlib
import json
import re
from shutil import rmtree
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from brief import FIND, skip_plots, trained
from safetensors.torch import load_file

from thaw.config import paths
from thaw.data import batches
from thaw.data.augment import view
from thaw.model import network
from thaw.plan import plan
from thaw.plan.facts import Facts
from thaw.report.run_page import draw_run
from thaw.runtime import console
from thaw.runtime.errors import UserError
from thaw.runtime.seeds import seed_for
from thaw.store.open import open_store
from thaw.store.store import Store
from thaw.sweep.jobs import JobRecord
from thaw.sweep.reports import draw_reports, no_image
from thaw.train import loop, memory, tta
from thaw.train.cycle_state import LoadedWeights
from thaw.train.inputs import Inputs
from thaw.train.predictions import Predictions, predict
from thaw.train.run import warn_no_better, warn_nothing_gained
from thaw.train.run_folders import done_before, remember_done
from thaw.train.setup import set_up
from thaw.train.time_limit import TimeLimit

SHORT = ("data.limit=300", "size=32", "scheduler.cycles=2", "scheduler.max_cycles=2", *FIND, "wandb=disabled")


@pytest.fixture
def run(compose, tmp_path, monkeypatch, capsys):
    """Return run("lr=0.1", ...) -> (folder, result), which runs a job as train.py does, in its own folder."""
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)

    def ran(*overrides, name="a", in_unnamed_folder=True, drawn=False):
        folder = tmp_path / "runs" / name
        with monkeypatch.context() as patch:
            if not drawn:
                skip_plots(patch)
            return folder, trained(compose(*overrides), folder, *overrides, in_unnamed_folder=in_unnamed_folder)

    return ran


def rows_of(folder, key):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if key in row]


def sha(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_the_eight_steps_learn_and_write_all_files(run, capsys):
    folder, result = run(*SHORT, drawn=True)
    assert result["best/accuracy"] > 0.93
    assert result["test/accuracy"] > 0.9
    validations = rows_of(folder, "valid/loss")
    assert [row["phase"] for row in validations] == ["head_precomputed"] * 2 + ["head_augmented"] * 3 + ["full"] * 3
    assert [row["epoch"] for row in validations] == list(range(1, 9))
    ends = [row for row in validations if row["epoch"] in (2, 3, 4, 5, 6, 8)]
    assert result["best/accuracy"] == max(row["valid/accuracy"] for row in ends)
    kept = min(row["valid/loss"] for row in ends if row["valid/accuracy"] == result["best/accuracy"])
    assert result[f"phase/{result['best/phase']}/loss"] == kept
    last = validations[-1]
    assert last["lr/group_0"] < last["lr/group_1"] < last["lr/group_2"] == last["lr/head"]
    assert last["lr/first"] * 9 == pytest.approx(last["lr/head"])
    assert 3 <= len(rows_of(folder, "find_head/loss")) <= 12 and 2 <= len(rows_of(folder, "find_full/loss")) <= 3
    left = "plan.txt plan.png find_head.json find_head.png find_full.png report.html report.png result.json config.json"
    for name in (*left.split(), "batch_32px.png"):
        assert (folder / name).stat().st_size > 100, name
    assert json.loads((folder / "result.json").read_text())["phase/full/stopped_because"]
    said = capsys.readouterr().out
    assert "find_full × 0.11 0.33 1" in said and "group 2: layer4" in said and "predict.py" in said
    ends = re.search(r"^full: .*\(best: epoch (\d) of 3, epoch (\d) of the run; lr ", said, re.M)
    assert int(ends[2]) == 5 + int(ends[1]), "the phases before have 5 epochs"
    assert f", epoch {result['best/epoch']} of the run; lr " in said
    told = f"temperature {result['best/temperature']:.2f}\n"
    assert told in said and result["best/loss"] != kept
    for split, key in (("valid", "best"), ("test", "test")):
        with (folder / f"{split}_predictions.csv").open() as file:
            table = list(csv.reader(file))
        assert table[0] == ["path", "truth", "prediction", *"0123456789"]
        right = sum(row[1] == row[2] for row in table[1:])
        assert right / (len(table) - 1) == pytest.approx(result[f"{key}/accuracy"])
        loss = -np.mean([np.log(max(1e-6, float(row[3 + int(row[1])]))) for row in table[1:]])
        assert loss == pytest.approx(result[f"{key}/loss"], abs=1e-3), "of the calibrated network"
        assert all(sum(map(float, row[3:])) == pytest.approx(1, abs=1e-4) for row in table[1:])


def test_a_cycle_has_one_loader_for_all_its_epochs(run, monkeypatch):
    own, training = batches.loader, []

    def loader(views, keys, workers):
        training.extend([len(keys)] if views.augment else [])
        return own(views, keys, workers)

    monkeypatch.setattr(batches, "loader", loader)
    short = ("data.limit=60", "size=16", "batch_size=16", "checklist=from_scratch", "lr=0.01", "wandb=disabled")
    run(*short, "~checklist.full.until", "scheduler.cycles=2", "scheduler.cycle_mult=3")
    assert training == [3, 9]  # 48 images, 1 and 3 epochs


def test_the_same_settings_give_the_same_bits_for_any_number_of_workers(run):
    short = ("data.limit=120", "size=32", "checklist=fine_tune", "epochs=1", *FIND, "wandb=disabled")
    first, _ = run(*short, "data.workers=0", name="a")
    again, _ = run(*short, "fresh=true", "data.workers=2", name="b")
    assert sha(again) == sha(first)
    assert [row["valid/loss"] for row in rows_of(again, "valid/loss")] == [
        row["valid/loss"] for row in rows_of(first, "valid/loss")
    ]
    other, _ = run(*short, "seed=1", name="other")
    assert sha(other) != sha(first)


def test_timm_loads_the_model_and_predicts_the_same(run):
    folder, _ = run(
        "checklist=head_only", "scheduler.cycles=1", *SHORT[:2], *FIND, "wandb=disabled", "precision=float32"
    )
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = json.loads((folder / "config.json").read_text())
    assert config["label_names"] == list("0123456789")
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    from sklearn.datasets import load_digits

    from thaw.data.resize import fit_side

    with (folder / "valid_predictions.csv").open() as file:
        row = next(csv.DictReader(file))
    image = load_digits().images[int(row["path"].split("/")[1])] * (255 / 16)
    image = fit_side(image.astype("uint8")[..., None].repeat(3, 2), 32)
    mean, std = (torch.tensor(config["pretrained_cfg"][key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        p = model(((torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std)[None]).softmax(1)[0]
    assert [float(row[d]) for d in "0123456789"] == pytest.approx(p.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "overrides",
    [
        ("resize=double",),
        ("scheduler=one_cycle", "resize=staircase", "epochs=3"),
        ("optimizer=adamw", "rates=layer_decay"),
        ("lr=[1e-4,1e-3,1e-2]",),
        ("checklist=from_scratch", "augment.mixup=0.2"),
        ("checklist=fine_tune", "loss.balance=sampler", "loss.smoothing=0.1"),
        ("loss.balance=weights", "bn=eval", "rates.split=head"),
        ("data=shapes", "backbone.weights=none"),
    ],
    ids=" ".join,
)
def test_two_steps_of_everything(run, overrides):
    """smoke=true runs every phase, saves and reports, with any other settings."""
    typed = ("smoke=true", "data.limit=200", "size=32", "wandb=disabled", *overrides)
    drawn = "rates=layer_decay" in overrides
    folder, result = run(*typed, drawn=drawn)
    assert (folder / "model.safetensors").exists() and (folder / "report.html").exists() == drawn
    fits = [key for key in result if key.endswith("/stopped_because")]
    assert fits and 0 <= result["best/accuracy"] <= 1


def test_tta_is_reported_separately_and_changes_no_other_result(run, capsys):
    short = (*SHORT, "checklist=head_only", "epochs=2")
    folder, plain = run(*short, name="a")
    assert not [key for key in plain if "tta" in key]
    capsys.readouterr()
    other, result = run(*short, "evaluate.tta=3", name="b")
    said = capsys.readouterr().out
    assert "cycles from the store)" in said and "with 3 augmented views" in said
    assert sha(other) == sha(folder)
    assert (other / "valid_predictions.csv").read_text() == (folder / "valid_predictions.csv").read_text()
    shared = [key for key in plain if key.startswith(("best/", "test/"))]
    assert {key: result[key] for key in shared} == {key: plain[key] for key in shared}
    assert result["best/accuracy_tta"] > 0.5 and result["test/accuracy_tta"] > 0.5
    _, none = run(*short, "evaluate.tta=3", "augment=none", name="d")
    assert not [key for key in none if "tta" in key], "all views would be the same"


def test_the_views_of_tta_are_seeded_per_image(compose, tmp_path):
    settings = compose("data.limit=100", "size=32", "evaluate.tta=2")
    job = set_up(settings, tmp_path, open_store(settings, print))
    inputs = job.inputs
    rows, few = inputs.valid_rows, inputs.valid_rows[3:7]
    plain = predict(inputs, rows)
    p = tta.probabilities(job, rows, plain, 2)
    seen = job.settings.augment
    views = [view(32, 1.0, seen) for _ in range(2)]
    drawn = [
        [views[n](inputs.pixels[row], seed_for("augment", 0, "tta", n, int(inputs.places[row]))) for row in rows]
        for n in range(2)
    ]
    logits = [loop.evaluate(job.network, [(torch.from_numpy(np.stack(d)), plain.labels)])[0] for d in drawn]
    torch.testing.assert_close(p, (plain.logits.softmax(1) + logits[0].softmax(1) + logits[1].softmax(1)) / 3)
    torch.testing.assert_close(tta.probabilities(job, few, predict(inputs, few), 2), p[3:7], atol=1e-4, rtol=1e-3)


def test_resizing_trains_each_cycle_at_its_size(run):
    folder, _ = run(*SHORT, "resize=double", "batch_size=16", "checklist=fine_tune")
    sizes = {row["epoch"]: (row["image_size"], row["batch_size"]) for row in rows_of(folder, "valid/loss")}
    assert sizes[1] == (32, 4), "240 images: 50 steps on stored activations need batches of 4"
    assert sizes == {1: (32, 4), 2: (16, 16), 3: (32, 16), 4: (32, 16)}, "240 images: at least 20 steps per epoch"
    assert (folder / "batch_16px.png").exists() and (folder / "batch_32px.png").exists()


def test_the_rate_that_is_set_belongs_to_batch_size_at_the_final_size(run):
    short = ("data.limit=750", "size=32", "batch_size=8", "checklist=from_scratch", "~checklist.full.until", "lr=0.01")
    folder, _ = run(*short, "scheduler=constant", "epochs=2", "resize=double", "rates=uniform", "wandb=disabled")
    rows = {row["epoch"]: row for row in rows_of(folder, "valid/loss")}
    assert [rows[1][key] for key in ("image_size", "batch_size", "lr/head")] == [
        16,
        30,
        pytest.approx(0.01 * (30 / 8) ** 0.5),
    ]
    assert [rows[2][key] for key in ("image_size", "batch_size", "lr/head")] == [32, 8, 0.01]


def test_a_harmful_phase_cannot_spoil_the_result(run):
    _, result = run(*SHORT, "checklist.full.lr=0.5", *FIND)
    assert result["best/phase"] == "head_augmented" or result["best/phase"] == "head_precomputed"
    assert result[f"phase/{result['best/phase']}/loss"] < result["phase/full/loss"]
    assert result["test/accuracy"] > 0.85


def test_a_loss_that_is_not_finite_ends_the_run_with_one_line(run):
    with pytest.raises(UserError) as caught:
        run(*SHORT, "lr=1000", "rates=uniform", "batch_size=8", "checklist=fine_tune")
    assert caught.value.code == 4 and "not finite in phase" in caught.value.line and "try lr=" in caught.value.line


def test_init_starts_from_another_run(run):
    folder, first = run(*SHORT[:2], "checklist=head_only", "epochs=2", "wandb=disabled")
    _, second = run(
        *SHORT[:2], "checklist=head_only", "epochs=1", "lr=1e-6", f"init={folder}", "wandb=disabled", name="b"
    )
    assert second["best/accuracy"] == pytest.approx(first["best/accuracy"], abs=0.02)
    with pytest.raises(UserError) as caught:
        run("init=/nowhere", "wandb=disabled", name="c")
    assert caught.value.code == 6


def test_sizes_a_model_does_not_accept_are_refused_before_training(run):
    with pytest.raises(UserError) as caught:
        run("backbone=mixer_s32_224", "backbone.weights=none", "size=64", "wandb=disabled")
    assert caught.value.code == 2 and "its native size is 224" in caught.value.line


def test_a_repeated_command_trains_nothing_and_says_so(run, capsys, tmp_path):
    short = (*SHORT[:2], "checklist=head_only", "epochs=1", "wandb=disabled")
    folder, first = run(*short)
    capsys.readouterr()
    again, nothing = run(*short, "log_every=5", "name=other", name="b")
    assert "already done: accuracy" in capsys.readouterr().out and nothing is None
    assert not (again / "metrics.jsonl").exists() and (folder / "result.json").exists()
    _, other = run(*short, "seed=3", name="c")
    assert other["identity"] != first["identity"]
    (folder / "model.safetensors").write_bytes(b"")
    restored, second = run(*short, name="d")
    assert "already done" not in capsys.readouterr().out, "the model of the finished run is damaged"
    assert second["model_sha256"] == first["model_sha256"] == sha(restored)
    assert run(*short, name="named", in_unnamed_folder=False)[1], "a folder named by the user gets its own copy"
    (tmp_path / "latest").unlink()
    run(*short, name="e")
    assert (tmp_path / "latest").resolve().name == "named", "latest is the run that stands for the command"


def test_a_finished_single_run_stands_for_a_command_rather_than_a_job_of_a_sweep(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    store, single, job = Store(tmp_path / "store"), tmp_path / "runs/a", tmp_path / "multirun/b/0"
    for folder in (single, job):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "result.json").write_text(json.dumps({"identity": "x", "model_sha256": sha(folder)}))

    def said():
        assert done_before(store, "x", tmp_path / "runs/c", True)
        return capsys.readouterr().out

    remember_done(store, "x", job, 0.9, True)
    assert f"{job} (a job of a sweep)" in said() and not (tmp_path / "latest").exists()
    remember_done(store, "x", single, 0.9, False)
    remember_done(store, "x", job, 0.9, True)
    assert f"{single}; fresh=true" in said() and (tmp_path / "latest").resolve() == single
    (single / "result.json").unlink()
    remember_done(store, "x", job, 0.9, True)
    assert "(a job of a sweep)" in said(), "the single run no longer exists"


def test_a_setting_without_effect_is_named_before_the_plan(run, capsys):
    run("data=shapes", "data.limit=20", "data.root=/p", "plan_only=true", "wandb=disabled")
    said = capsys.readouterr().out
    assert said.index("data.root=/p has no effect") < said.index(" on shapes: ")


ADVICE = [  # overrides, whether the network has batch norm, and what to try if the last phase did not improve
    ((), True, "checklist.full.lr=0.003"),
    (("bn=train",), True, "checklist.full.lr=0.003 or bn=eval"),
    (("bn=train",), False, "checklist.full.lr=0.003"),
    (("bn=eval",), True, "checklist.full.lr=0.003"),
    (("lr=0.01",), True, "checklist.full.lr=0.003"),
    (("lr=[1e-4,1e-3,1e-2]",), True, "checklist.full.lr=0.003"),
    (("checklist.full.lr=0.01", "bn=train"), True, "checklist.full.lr=0.003 or bn=eval"),
]


@pytest.mark.parametrize(("typed", "norms", "advice"), ADVICE)
def test_a_last_phase_without_improvement_says_what_to_try(compose, capsys, typed, norms, advice):
    settings = compose(*typed)
    planned = plan.make_plan(settings, Facts(718, 180, 899, 10, 40, 1, 6))
    network = torch.nn.BatchNorm2d(2) if norms else torch.nn.LayerNorm(2)
    job, phases = SimpleNamespace(settings=settings, plan=planned, network=network), {"full": {"lr": 0.01}}
    limit = TimeLimit(job)
    assert warn_nothing_gained(job, SimpleNamespace(phase="full"), phases, limit) == []
    line = "warning: full did not improve on head_augmented, whose weights are kept; try " + advice
    assert warn_nothing_gained(job, SimpleNamespace(phase="head_augmented"), phases, limit) == [line]
    assert capsys.readouterr().out.splitlines() == [line]
    rate, *still = advice.split(" or ")
    tried = plan.make_plan(compose(*(word for word in typed if "full.lr" not in word), rate), planned.facts)
    assert tried.phases[-1].lr == 0.003 and tried.phases[-1].ratios == planned.phases[-1].ratios
    fits = [(phase.name, phase.lr, phase.rate_from) for phase in planned.phases if phase.do == "fit"][:-1]
    assert [(phase.name, phase.lr, phase.rate_from) for phase in tried.phases if phase.do == "fit"][:-1] == fits
    assert [compose(*typed, word).bn for word in still] == ["eval"] * len(still)
    limit.whole["full"] = None
    limit.label = "minutes=1"
    line = "warning: full did not improve on head_augmented, whose weights are kept; it was cut by minutes=1"
    assert warn_nothing_gained(job, SimpleNamespace(phase="head_augmented"), phases, limit) == [line]
    settings.stop_after = 1
    assert warn_nothing_gained(job, SimpleNamespace(phase="head_augmented"), phases, limit) == [], (
        "the run is not finished"
    )


def test_output_to_a_pipe_has_a_line_per_cycle_and_per_minute(run, capsys, monkeypatch):
    short = ("data.limit=60", "size=32", "checklist=fine_tune", "lr=0.01", "scheduler.cycles=3", "wandb=disabled")

    def lines(*overrides, **options):
        run(*short, *overrides, **options)
        said = capsys.readouterr().out.splitlines()
        return [line.strip().split(", training loss")[0] for line in said if ", training loss" in line]

    cycles = [f"full: cycle {cycle}, epoch {epoch}" for cycle, epoch in ((1, 1), (2, 3), (3, 7))]
    assert lines(name="a") == cycles, "the only cycle of the head has just the line of its phase"
    assert len(lines("verbose=true", "seed=1", name="b")) == 1 + 7
    monkeypatch.setattr(console, "SILENCE_S", 0.0)
    assert len(lines("seed=2", name="c")) == 1 + 7


@pytest.mark.parametrize(("predicted", "warned"), [([0, 0, 0], True), ([0, 0, 1], False), ([1, 1, 1], True)])
def test_accuracy_no_better_than_the_most_frequent_class_is_warned_of(predicted, warned, capsys):
    seen = Predictions(torch.nn.functional.one_hot(torch.tensor(predicted)).float(), torch.tensor([0, 0, 1]))
    lines = warn_no_better(SimpleNamespace(settings=SimpleNamespace(smoke=False)), seen)
    assert bool(lines) == warned and capsys.readouterr().out.splitlines() == lines
    assert not lines or "always predicting the most frequent class (66.67%)" in lines[0]


@pytest.mark.parametrize(("features", "times"), [("live", 2), ("precomputed", 3)])
def test_a_head_reads_its_activations_once_for_all_cycles(run, monkeypatch, features, times):
    read, whole = [], Inputs.activations
    monkeypatch.setattr(Inputs, "activations", lambda self, *args: read.append(args) or whole(self, *args))
    run(
        "data.limit=60",
        "size=32",
        "checklist=head_only",
        f"checklist.head.features={features}",
        "lr=0.01",
        "wandb=disabled",
    )
    assert len(read) == times, (
        "for all cycles, and of the test images; the latter twice if near duplicates are searched for"
    )


def test_cycle_ends_of_a_frozen_backbone_hold_the_head_alone(run, tmp_path):
    short = ("data.limit=60", "size=16", "lr=0.01", "wandb=disabled")
    alone, _ = run(*short, "~checklist.find_full", "~checklist.full", name="alone")
    files = list(tmp_path.glob("store/cycles/*/weights.safetensors"))
    assert files and {name for file in files for name in load_file(file)} == {"fc.weight", "fc.bias"}
    spoilt = ("scheduler.cycles=1", "~checklist.full.until", "checklist.full.lr=1.0")
    whole, result = run(*short, *spoilt, name="spoilt")
    assert result["best/phase"].startswith("head") and result["phase/full/accuracy"] < result["best/accuracy"]
    assert sha(whole) == sha(alone), "the backbone is that of the pretrained weights again"
    names = [set(load_file(file)) for file in tmp_path.glob("store/cycles/*/weights.safetensors") if file not in files]
    assert len(names) == 1 and "layer4.0.conv1.weight" in names[0]


def test_cycle_ends_after_a_full_phase_without_gain_are_those_of_a_plan_without_it(run, tmp_path):
    short = ("data.limit=60", "size=16", "lr=0.01", "wandb=disabled", "evaluate.ensemble=2")
    again = "+checklist.again={do: fit, train: head, features: precomputed, cycles: 2}"
    spoilt = ("scheduler.cycles=1", "~checklist.full.until", "checklist.full.lr=1.0")
    run(*short, "~checklist.find_full", "~checklist.full", again, name="without")
    made = set(tmp_path.glob("store/cycles/*"))
    folder, result = run(*short, *spoilt, again, name="with")
    assert result["phase/again/reused"] == 2 and len(set(tmp_path.glob("store/cycles/*")) - made) == 1
    assert sha(folder) == sha(tmp_path / "runs/without")


def test_a_run_starts_from_another_that_is_gone_at_its_end(run, tmp_path, monkeypatch):
    short = ("data.limit=60", "size=16", "wandb=disabled", "scheduler.cycles=1")
    before, _ = run(*short, "lr=0.01", "checklist=head_only", name="before")
    own = LoadedWeights.keep_initial
    monkeypatch.setattr(LoadedWeights, "keep_initial", lambda held: own(held) or rmtree(before, ignore_errors=True))
    _, result = run(*short, f"init={before}", "lr=0.01", "checklist.full.lr=1.0", "~checklist.full.until", name="after")
    assert result["best/phase"].startswith("head") and not before.exists()


def test_a_report_is_drawn_again_from_the_files_of_a_run_and_the_images_of_its_source(run):
    typed = (*SHORT, "data.limit=60", "checklist=head_only")
    folder, result = run(*typed)
    left = ("report.html", "report.png", "plan.png", "find_head.png")
    assert not any((folder / name).exists() for name in left)
    assert (folder / "valid_32px.png").exists() and not (folder / "batch_32px.png").exists(), "no phase sees images"
    draw_run(folder, no_image)
    pictures = (folder / "report.html").read_text().count("data:image/png")
    draw_reports([JobRecord(folder, "done", typed, 0, "", result)])
    assert all((folder / name).stat().st_size > 1000 for name in left)
    wrong = result["n_valid"] - round(result["best/accuracy"] * result["n_valid"])
    assert wrong and (folder / "report.html").read_text().count("data:image/png") == pictures + wrong


def test_what_follows_from_the_structure_of_a_network_is_tried_once(run, monkeypatch):
    counted, tried = [], []
    own = network.multiply_adds, memory.probe_sizes
    monkeypatch.setattr(network, "multiply_adds", lambda *args: counted.append(args) or own[0](*args))
    monkeypatch.setattr(memory, "probe_sizes", lambda *args: tried.append(args) or own[1](*args))
    short = ("data.limit=60", "checklist=head_only", "lr=0.01", "wandb=disabled")
    run(*short, "size=32")
    run(*short, "size=32", "lr=0.02", "seed=1", name="b")
    assert (len(counted), len(tried)) == (1, 1)
    run(*short, "size=48", name="c")
    assert (len(counted), len(tried)) == (2, 2)


def test_networks_whose_texts_are_equal_are_told_apart():
    def key(**about):
        model = torch.nn.Linear(2, 2)
        model.pretrained_cfg = {"architecture": "a", "input_size": (3, 224, 224)} | about
        return memory.structure_key(SimpleNamespace(model=model), size=96)

    assert key() == key() != key(architecture="b")
    assert key() != key(input_size=(3, 384, 384))
