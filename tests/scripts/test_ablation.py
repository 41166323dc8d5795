"""The ablation: each choice of `without` removes what it names and nothing else; the table of the results."""

import pytest
import sweeps
import yaml
from commands import script
from composed import ROOT, leaves_of, planned, settings_of

RECIPE = "experiment=ablation"
ONE_CYCLE = "shape warmup pct div final_div momentum_low momentum_high"
HEADS = [f"checklist.{phase}" for phase in ("head_precomputed", "head_augmented")]
CHANGES = {  # the changed keys per step; a phase stands for all its keys
    "nothing": [],
    "precompute": ["checklist.find_head.features", "checklist.head_precomputed.features"],
    "augmented_head": ["checklist.head_augmented"],
    "finder": ["lr"],
    "differential_rates": ["rates.ratios"],
    "restarts": ["scheduler.shape"],
    "multiplier": ["scheduler.cycle_mult"],
    "resizing": ["resize.sizes"],
    "everything": ["lr", "rates.ratios", "resize.sizes", "checklist.full.until", *HEADS]
    + [f"scheduler.{name}" for name in ONE_CYCLE.split()],
}


@pytest.mark.parametrize("step", CHANGES)
def test_leaving_out_a_step_changes_only_its_keys(step):
    before, after = leaves_of(RECIPE), leaves_of(RECIPE, f"without={step}")
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    phases = {key: key.rpartition(".")[0] for key in changed if key.rpartition(".")[0] in CHANGES[step]}
    assert {phases.get(key, key) for key in changed} == set(CHANGES[step])


def test_the_sweep_leaves_out_every_step():
    recipe = yaml.safe_load((ROOT / "conf/experiment/ablation.yaml").read_text())
    swept = recipe["hydra"]["sweeper"]["params"]["without"].split(",")
    assert swept[0] == "nothing" and swept[-1] == "everything"
    assert set(swept) == {file.stem for file in (ROOT / "conf/without").glob("*.yaml")} == CHANGES.keys()


def test_the_full_network_has_the_same_epochs_whatever_is_left_out():
    for step in CHANGES:
        phases = planned(settings_of(RECIPE, f"without={step}")).phases
        assert (phases[-1].name, phases[-1].epochs_budget, len(phases[-1].epochs)) == ("full", 15, 15), step


@pytest.mark.parametrize(
    ("override", "left"),
    [
        ("without=augmented_head", ["find_head", "head_precomputed", "find_full", "full"]),
        ("without=everything", ["full"]),
        ("checklist.head_augmented=null", ["find_head", "head_precomputed", "find_full", "full"]),
        ("checklist.find_full=null", None),  # the head's rate does not suit the full network
    ],
)
def test_a_phase_that_is_null_is_left_out(override, left):
    if left is None:
        with pytest.raises(Exception, match="full, which uses its rate, trains all"):
            planned(settings_of(override))
    else:
        assert [phase.name for phase in planned(settings_of(override)).phases] == left


def make_ablation(root, steps):
    """Write a sweep whose jobs misclassify the given number of 200 images, plus one for each further seed."""
    for i, (step, wrong) in enumerate(steps.items()):
        for seed in range(3):
            sweeps.make_job(
                root / str(3 * i + seed), f"without={step}", f"seed={seed}", images=200, wrong=range(wrong + seed),
                accuracy=1 - (wrong + seed) / 200, seconds=10 + 2 * seed,
            )  # fmt: skip
    return root


def test_the_table_and_the_image(tmp_path):
    digits = make_ablation(tmp_path / "digits", {"nothing": 10, "finder": 10, "restarts": 50, "everything": 0})
    shapes = make_ablation(tmp_path / "shapes", {"nothing": 20, "finder": 21})
    done = script("ablation.py", digits, shapes, "--image", tmp_path / "new/ablation.png")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    table = {row[0]: row[1:] for row in rows}
    columns = ["accuracy (%)", "difference (points)", "seconds"]
    assert table["step left out"] == [f"{name}: {column}" for name in ("digits", "shapes") for column in columns]
    assert list(table) == ["step left out", "---", "nothing", "finder", "restarts", "everything"]
    assert table["nothing"] == ["94.50 ± 0.50", "", "12.0 ± 2.0", "89.50 ± 0.50", "", "12.0 ± 2.0"]
    assert table["finder"][1] == "+0.00 ± 0.00" and table["finder"][4].startswith("-0.50 ± ")
    assert table["restarts"][1].startswith("**-20.00 ± ") and table["everything"][1].startswith("**+5.00 ± ")
    assert table["everything"][3:] == ["", "", ""]
    assert "n = 3 seeds, 200 validation images" in done.stdout
    assert (tmp_path / "new/ablation.png").read_bytes()[:4] == b"\x89PNG"


def test_accuracy_is_that_of_the_test_images_if_there_are_any(tmp_path):
    for number, (step, validated, tested) in enumerate([("nothing", 10, 20), ("finder", 0, 40)]):
        folder = sweeps.make_job(
            tmp_path / "sweep" / str(number), f"without={step}", "seed=0", images=200, wrong=range(validated),
            result={"test/accuracy": 1 - tested / 200},
        )  # fmt: skip
        sweeps.predictions(folder / "test_predictions.csv", range(tested), 200)
    done = script("ablation.py", tmp_path / "sweep")
    assert done.returncode == 0 and "200 test images" in done.stdout
    assert "| 90.00 |" in done.stdout and "| 80.00 | **-10.00 ± " in done.stdout


def test_another_sweep_is_refused(tmp_path):
    done = script("ablation.py", sweeps.make_sweep(tmp_path / "sweep", seeds=1))
    assert done.returncode == 6 and "no finished job with without=nothing" in done.stderr
