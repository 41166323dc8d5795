"""The validation images follow from the images alone; images that belong together stay together."""

import shutil
from collections import Counter

import numpy as np
import pytest
from images import has_note, put, refused, scan, sides, tree

from thaw.data.split import folds, hold_out, unit_name
from thaw.data.table import TRAIN, VALID
from thaw.runtime.errors import UserError
from thaw.runtime.files import write_data_lists


def rows(*groups):
    """Return labels and units of rows given as (class, unit, number of rows)."""
    labels = [label for label, _, n in groups for _ in range(n)]
    units = [unit for _, unit, n in groups for _ in range(n)]
    return np.array(labels), units


def singles(**classes):
    """Return units of one image each, n in each class, with names in no order."""
    pairs = [(unit_name(f"{name}{i}"), label) for label, (name, n) in enumerate(classes.items()) for i in range(n)]
    return np.array([label for _, label in pairs]), [unit for unit, _ in pairs]


# ---- pure


@pytest.mark.parametrize(
    ("share", "n", "held"),
    [(0.2, 1, 0), (0.2, 2, 1), (0.2, 3, 1), (0.2, 7, 1), (0.2, 8, 2), (0.2, 1000, 200), (0.5, 2, 1), (0.01, 40, 1)]
    + [(0.9, 2, 1), (0.9, 3, 2), (0.9, 10, 9), (0.333, 9, 3), (0.1, 25, 2), (0.3, 10, 3), (0.7, 10, 7)],
)
def test_the_share_is_exact_in_every_class(share, n, held):
    labels, units = singles(a=n, b=50)
    out = hold_out(labels, units, share)
    assert out[labels == 0].sum() == held
    first = sorted(unit for unit, label in zip(units, labels, strict=True) if label == 0)[:held]
    assert {unit for unit, held in zip(units, out, strict=True) if held} >= set(first)


def test_one_image_more_moves_at_most_one_other():
    rng = np.random.default_rng(0)
    for n in range(2, 40):
        labels, units = singles(a=n, b=9)
        share = float(rng.choice([0.1, 0.2, 0.25, 0.5]))
        before = hold_out(labels, units, share)
        after = hold_out(np.r_[labels, 0], [*units, unit_name(f"new {n}")], share)
        assert (before != after[:-1]).sum() <= 1


def test_order_does_not_matter():
    labels, units = singles(a=17, b=30, c=2)
    order = np.random.default_rng(1).permutation(len(labels))
    for divide in (lambda *x: hold_out(*x, 0.3), folds):
        assert np.array_equal(divide(labels, units)[order], divide(labels[order], [units[i] for i in order]))


@pytest.mark.parametrize(
    ("groups", "share", "held"),
    [
        ([(0, "1", 5), (0, "2", 5), (0, "3", 5), (0, "4", 5), (0, "5", 5)], 0.2, "1"),
        ([(0, "1", 10), (0, "2", 10)], 0.2, "1"),  # half is as near as it gets
        ([(0, "1", 90), (0, "2", 10)], 0.2, "2"),  # the first would overshoot
        ([(0, "1", 9)], 0.2, ""),  # nothing to spare
        ([(0, "1", 8), (0, "2", 1), (0, "3", 1)], 0.2, "23"),
        # Each class has its own groups.
        ([(0, "1", 4), (0, "2", 4), (1, "3", 4), (1, "4", 4)], 0.2, "13"),
        # All groups have both classes: the first two serve both.
        ([(c, str(g), 2) for c in (0, 1) for g in range(8)], 0.25, "01"),
        # Group 1 has all of class 1 and must stay in training.
        ([(0, "1", 2), (1, "1", 6), (0, "2", 2), (0, "3", 6)], 0.2, "2"),
        # Group 1 is enough for class 0, but does not contain class 1.
        ([(0, "1", 2), (0, "2", 8), (1, "2", 2), (1, "3", 2), (1, "4", 6)], 0.2, "13"),
    ],
)
def test_groups_are_held_out_whole(groups, share, held):
    labels, units = rows(*groups)
    out = hold_out(labels, units, share)
    assert {unit for unit, o in zip(units, out, strict=True) if o} == set(held)
    assert {unit for unit, o in zip(units, out, strict=True) if not o}.isdisjoint(held)


@pytest.mark.parametrize("n", [5, 6, 7, 23, 100])
def test_folds_are_fifths_of_every_class(n):
    labels, units = singles(a=n, b=2 * n, c=1)
    fold = folds(labels, units)
    for label in (0, 1):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert len(counts) == 5 and counts.max() - counts.min() <= 1
    assert fold[labels == 2].tolist() == [-1]  # the only image of a class is always in training
    total = np.bincount(fold[labels < 2])
    assert total.max() - total.min() <= 1


def test_folds_of_groups():
    rng = np.random.default_rng(2)
    labels, groups = rng.integers(3, size=900), rng.integers(60, size=900)
    units = [unit_name(str(group)) for group in groups]
    fold = folds(labels, units)
    assert all(len(set(fold[groups == group])) == 1 for group in range(60))
    for label in range(3):
        assert np.bincount(fold[labels == label]) == pytest.approx(60, abs=15)


def test_a_fold_never_takes_all_of_a_class():
    labels, units = rows((0, "1", 3), (1, "1", 3), *((0, str(g), 3) for g in range(2, 8)))
    fold = folds(labels, units)
    assert set(fold[labels == 1]) == {-1} and set(fold[units.index("2") :]) == {0, 1, 2, 3, 4}


# ---- folders


def test_the_split_is_a_function_of_content(tmp_path):
    root = tree(tmp_path, a=60, b=33)
    before = scan(root)
    assert Counter(before.labels[before.splits == VALID].tolist()) == {0: 12, 1: 7}
    for i, path in enumerate(before.paths):  # names and order do not matter
        (root / path).rename(root / path.replace(f"/{path[2:]}", f"/{(i * 37) % 120}-{path[2:]}"))
    after = scan(root)
    assert dict(zip(before.hashes, before.splits.tolist(), strict=True)) == dict(
        zip(after.hashes, after.splits.tolist(), strict=True)
    )
    put(tree(root, c=30) / "a/new.png")
    more = sides(scan(root))
    assert sum(more[path] != side for path, side in sides(after).items()) <= 1


@pytest.mark.parametrize("share", [0.01, 0.9])
def test_every_class_is_in_both_splits(tmp_path, share):
    table = scan(tree(tmp_path, a=2, b=3, c=40), valid=share)
    for label in range(3):
        assert set(table.splits[table.labels == label].tolist()) == {TRAIN, VALID}


def test_equal_images_stay_together(tmp_path):
    root = tree(tmp_path, a=6, b=6)
    for i in range(6):
        shutil.copy(root / f"a/{i}.png", root / f"b/copy-{i}.png")
    for options in ({"valid": 0.05}, {"valid": 0.5}, {"valid": 0.9}, {"fold": 1}):
        table = scan(root, **options)
        assert len({(h, s) for h, s in zip(table.hashes, table.splits.tolist(), strict=True)}) == 12
        assert has_note(table, "6 images with a copy in another class")
        assert has_note(table, "6 images are identical to another image")
        assert table.leaks == ()
    assert VALID in table.splits[table.labels == 1]


def test_equal_images_of_two_classes_are_listed_as_labels_to_correct(tmp_path):
    root = tree(tmp_path / "in", a=6, b=6)
    shutil.copy(root / "a/3.png", root / "b/copy.png")
    table = scan(root)
    same = table.hashes[table.paths.index("a/3.png")][:8]
    assert table.disputed == [("a/3.png", "a", same), ("b/copy.png", "b", same)]
    write_data_lists(tmp_path, (), table.disputed)
    fixes = tmp_path / "disputed.csv"
    fixes.write_text(fixes.read_text().replace("b/copy.png,b", "b/copy.png,a"))
    mended = scan(root, labels=str(fixes))
    assert mended.disputed == [] and not has_note(mended, "another class")
    write_data_lists(tmp_path, (), mended.disputed)
    assert not fixes.exists()


def test_a_class_of_one_image_is_in_train(tmp_path):
    table = scan(tree(tmp_path, a=5, b=1))
    assert sides(table)["b/0.png"] == TRAIN and has_note(table, "classes without images in valid: 'b'")
    assert "no image is left for validation" in refused(tree(tmp_path / "c", a=1, b=1))


def test_five_folds_cover_every_image_once(tmp_path):
    root = tree(tmp_path, a=11, b=7)
    validated = [path for fold in range(5) for path, side in sides(scan(root, fold=fold)).items() if side == VALID]
    assert sorted(validated) == sorted(sides(scan(root)))


def test_a_fold_of_data_with_validation_images_is_refused(tmp_path):
    root = tree(tmp_path, train__a=4, train__b=4, val__a=1, val__b=1)
    line = refused(root, fold=0)
    assert line.startswith("data.fold=0: ") and "(val/)" in line


def test_a_fold_of_too_few_images(tmp_path):
    root = tree(tmp_path, a=2, b=2)
    assert sum(VALID in sides(scan(root, fold=fold)).values() for fold in range(3)) >= 2
    assert "data.fold=4 has no images" in refused(root, fold=4)


def patients(root, count=10, each=3):
    for patient in range(count):
        for i in range(each):
            put(root / ("well" if patient % 2 else "ill") / f"p{patient}_{i}.png")
    return root


@pytest.mark.parametrize("options", [{}, {"valid": 0.4}, {"fold": 0}, {"fold": 4}])
def test_groups_stay_in_one_split(tmp_path, options):
    table = scan(patients(tmp_path), group=r"(p\d+)_", **options)
    side = {}
    for path, split in sides(table).items():
        side.setdefault(path.split("/")[1].split("_")[0], set()).add(split)
    assert all(len(splits) == 1 for splits in side.values())
    held = sum(splits == {VALID} for splits in side.values())
    assert held == (4 if "valid" in options else 2)
    assert {table.classes[i] for i in table.labels[table.splits == VALID]} == {"ill", "well"}
    assert has_note(table, f"10 groups; validation has {held * 3 / 30:.1%} of the images")


@pytest.mark.parametrize("options", [{"valid": 0.1}, {"valid": 0.5}, {"fold": 0}, {"fold": 3}])
def test_groups_that_share_an_image_are_one(tmp_path, options):
    root = patients(tmp_path)
    for one, other in ((0, 3), (3, 6), (6, 8)):
        shutil.copy(root / ("well" if one % 2 else "ill") / f"p{one}_1.png", root / "ill" / f"p{other}_copy.png")
    table = scan(root, group=r"(p\d+)_", **options)
    assert table.leaks == () and has_note(table, "10 groups merged into 7, as some share equal images")
    side = {path.split("/")[1].split("_")[0]: split for path, split in sides(table).items()}
    assert side["p0"] == side["p3"] == side["p6"] == side["p8"]


def test_the_whole_match_is_the_group_if_nothing_is_captured(tmp_path):
    one, other = scan(patients(tmp_path), group=r"p\d+"), scan(tmp_path, group=r"/(p\d+)")
    assert {p.split("_")[0] for p, s in sides(one).items() if s == VALID} != set()
    assert sides(one) == sides(other)


@pytest.mark.parametrize(
    ("group", "code", "said"),
    [
        (r"q(\d+)", 3, r"data.group=q(\d+): matches none of 30 paths; the first is 'ill/p0_0.png'"),
        (r"\.png", 3, r"data.group=\.png: all 30 images are in one group, '.png'"),
        (r"(p", 2, r"data.group=(p: not a regular expression: missing )"),
    ],
)
def test_a_useless_pattern_of_groups_is_refused(tmp_path, group, code, said):
    assert refused(patients(tmp_path), code=code, group=group).startswith(said)


def test_an_image_without_a_group_is_its_own_group(tmp_path):
    table = scan(patients(tmp_path), group=r"p([5-9])")
    assert has_note(table, "data.group: 15 of 30 images in 5 groups, 15 in none")
    table = scan(tmp_path, group=r".+")
    assert has_note(table, "warning: data.group=.+ groups nothing: every image is a group of its own")


def test_groups_in_two_given_splits(tmp_path):
    root = tree(tmp_path, train__a=3, train__b=3, valid__a=4, valid__b=4)
    table = scan(root, group=r"(\d)\.png")
    assert has_note(table, r"warning: 3 groups of data.group=(\d)\.png occur in more than one split: '0', '1', '2'")
    assert "3 groups" in refused(root, group=r"(\d)\.png", leak="error")


def test_a_class_in_one_group_only(tmp_path):
    root = tree(tmp_path, a=6, b=6)
    assert "no image is left for validation" in refused(root, group=r"^(\w)/")
    with pytest.raises(UserError, match=r"data\.fold=0 has no images"):
        scan(root, group=r"^(\w)/", fold=0)
