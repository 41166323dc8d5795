"""Corrected labels and renamed classes: no file is moved and no image changes."""

from collections import Counter

import pytest
from images import has_note, refused, scan, tree


@pytest.fixture
def root(tmp_path):
    return tree(tmp_path / "root", cat=4, dog=4, kitten=4, hotdog=4)


def write(root, *lines, name="changes.csv"):
    file = root.parent / name
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def names(table):
    return Counter(table.classes[label] for label in table.labels)


def test_classes_renamed_merged_and_dropped(root):
    before = scan(root)
    table = scan(root, classes=write(root, "from,to", "kitten,cat", "dog,hound", "hotdog,"))
    assert names(table) == {"cat": 8, "hound": 4} and table.classes == ("cat", "hound")
    assert set(table.hashes) < set(before.hashes) and len(table) == 12
    assert has_note(table, "turns 4 classes into 2; 4 images left out")


def test_two_classes_can_swap_names(root):
    table = scan(root, classes=write(root, "to,from", "cat,dog", "dog,cat"))
    assert [table.classes[label] for label in table.labels[:2]] == ["dog", "dog"]  # cat/0.png, cat/1.png


def test_labels_corrected(root):
    before = scan(root)
    table = scan(root, labels=write(root, "path,label", "cat/0.png,dog", "cat/1.png,cat", "dog/3.png,kitten"))
    assert names(table) == {"cat": 3, "dog": 4, "kitten": 5, "hotdog": 4}
    assert (table.paths, table.hashes) == (before.paths, before.hashes)
    assert has_note(table, "changes 2 labels of the 3 it lists")


def test_an_empty_label_leaves_an_image_out(root):
    table = scan(root, labels=write(root, "path,label", "cat/0.png,", "cat/1.png,dog"))
    assert names(table) == {"cat": 2, "dog": 5, "kitten": 4, "hotdog": 4} and "cat/0.png" not in table.paths
    assert has_note(table, "changes 1 label of the 2 it lists and leaves 1 image out")


def test_labels_come_before_classes(root):
    fixes = write(root, "path,label", "hotdog/0.png,kitten", "cat/2.png,hotdog", name="fixes.csv")
    table = scan(root, labels=fixes, classes=write(root, "from,to", "kitten,cat", "hotdog,"))
    assert names(table) == {"cat": 4 + 4 + 1 - 1, "dog": 4}
    assert "hotdog/0.png" in table.paths and "cat/2.png" not in table.paths


@pytest.mark.parametrize("columns", ["path,label", "filename,class", "label,file"])
def test_columns_and_paths_as_in_a_table_of_images(root, columns):
    paths = ["cat/0.png", "cat\\1.png", f"{root}/cat/2.png", "./cat/3.png"]
    rows = [f"{path},dog" if columns.endswith(("label", "class")) else f"dog,{path}" for path in paths]
    assert names(scan(root, labels=write(root, columns, *rows))) == {"dog": 8, "kitten": 4, "hotdog": 4}


def test_labels_of_a_given_split(tmp_path):
    root = tree(tmp_path / "root", train__a=3, train__b=3, valid__a=2, valid__b=1)
    table = scan(root, labels=write(root, "path,label", "valid/a/0.png,b"))
    assert table.labels[table.splits == 1].tolist() == [1, 0, 1]
    assert "classes in train but not in valid: 'b'" in refused(
        root, labels=write(root, "path,label", "valid/b/0.png,a")
    )


@pytest.mark.parametrize(
    ("key", "lines", "said"),
    [
        ("classes", ["from,to", "dog,x", "kiten,cat"], "line 3: no class is called 'kiten'; did you mean kitten?"),
        ("classes", ["from,to", "dog,x", "dog,y"], "line 3: to is 'y' for 'dog', but 'x' in line 2"),
        ("classes", ["from,to", ",y"], "line 2: from is empty"),
        ("classes", ["old,new", "dog,y"], "line 1: no column is called from; the columns are old, new"),
        ("classes", ["from,to", "dog,y,z"], "line 2: 3 cells, but line 1 names 2 columns"),
        ("labels", ["path,label", "cat/0.png,dog", "cat/9.png,dog"], "line 3: no image is called 'cat/9.png'; did"),
        ("labels", ["path,label", "x/kitten/3.png,dog"], "line 2: no image is called 'x/kitten/3.png'; did you mean"),
        ("labels", ["path,label", "cat/0.png,hound"], "line 2: no class is called 'hound'; did you mean"),
        ("labels", ["path,label", "cat/0.png,dog", "cat/0.png,cat"], "line 3: label is 'cat' for 'cat/0.png', but"),
        ("labels", ["path,label", "cat/0.png,dog", "./cat/0.png,cat"], "line 3: the label of 'cat/0.png' is 'cat', bu"),
        ("labels", ["pfad,label", "cat/0.png,dog"], "line 1: no column is called path or file or filename; the col"),
    ],
)  # fmt: skip
def test_unknown_names_and_contradictions_are_refused(root, key, lines, said):
    file = write(root, *lines)
    line = refused(root, **{key: file})
    assert line.startswith(f"data.{key}={file} {said}")


def test_too_few_classes_are_left(root):
    changes = write(root, "from,to", "cat,x", "dog,x", "kitten,x", "hotdog,")
    assert "only one class ('x')" in refused(root, classes=changes)
    assert refused(root, classes="none.csv") == "data.classes=none.csv does not exist"
    lines = (f"cat/{i}.png,dog" for i in range(4))
    assert len(scan(root, labels=write(root, "path,label", *lines)).classes) == 3


def test_accents_in_another_spelling(tmp_path):
    root = tree(tmp_path / "root", **{"ko\u0308ter": 4, "cat": 4})  # as a Mac writes it
    table = scan(root, classes=write(root, "from,to", "k\xf6ter,dog"))
    assert table.classes == ("cat", "dog")
    table = scan(root, labels=write(root, "path,label", "k\xf6ter/0.png,cat", "cat/0.png,k\xf6ter"))
    assert names(table) == {"cat": 4, "ko\u0308ter": 4} and has_note(table, "changes 2 labels")


def test_names_in_another_case(tmp_path):
    root = tree(tmp_path / "root", cat=4, dog=4)
    (root / "cat/0.png").rename(root / "cat/0.PNG")
    table = scan(root, labels=write(root, "path,label", "cat/0.png,dog", "Dog/1.png,CAT", "cat/1,dog"))
    assert names(table) == {"cat": 3, "dog": 5} and has_note(table, "2 names in the wrong case: 'cat/0.png' is read as")
    assert has_note(table, "'CAT' is read as 'cat'")
    table = scan(root, classes=write(root, "from,to", "Dog,hound"))
    assert table.classes == ("cat", "hound") and has_note(table, "'Dog' is read as 'dog'")
    (root / "cat/0.png").write_bytes((root / "cat/0.PNG").read_bytes())
    (root / "cat/0.png").rename(root / "cat/0.Png")
    line = refused(root, labels=write(root, "path,label", "cat/0.png,dog"))
    assert line.endswith("no image is called 'cat/0.png'; did you mean cat/0.PNG or cat/0.Png?")
    twice = write(root, "from,to", "Dog,x", "dog,y")
    assert "line 3: to is 'y' for 'dog', but 'x' in line 2" in refused(root, classes=twice)
