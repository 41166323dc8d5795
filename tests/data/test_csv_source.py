"""A table of images gives the same as a folder, or one line that says what is wrong and where."""

import os

import numpy as np
import pytest
from images import data, has_note, image, put, refused, scan, sides

from thaw.data import dataset, spelling
from thaw.data.csv_file import read_csv_table
from thaw.data.table import SPLITS, TEST, TRAIN, VALID
from thaw.runtime.errors import UserError

NAMES = [f"{name}{i}.png" for name in ("a", "b") for i in range(5)]
ROWS = [f"pics/{name},{name[0]}" for name in NAMES]


@pytest.fixture
def folder(tmp_path):
    """Make a folder of ten images in pics/, from a0 to b4."""
    for number, name in enumerate(NAMES):
        put(tmp_path / "pics" / name, image(number))
    return tmp_path


def write(folder, *lines, name="labels.csv", encoding="utf-8", end="\n"):
    (folder / name).write_bytes(end.join([*lines, ""]).encode(encoding))
    return folder / name


# ---- what a well-formed table gives


def test_a_path_and_a_label(folder):
    table = scan(write(folder, "path,label", *ROWS))
    assert table.paths == tuple(f"pics/{name}" for name in NAMES) and table.root == str(folder)
    assert table.classes == ("a", "b") and table.labels.tolist() == [0] * 5 + [1] * 5
    assert [int((table.splits == split).sum()) for split in (TRAIN, VALID, TEST)] == [8, 2, 0]
    assert has_note(table, "paths from path, labels from label, splits from no column")


FORMS = {
    "byte-order mark": {"encoding": "utf-8-sig"},
    "CRLF": {"end": "\r\n"},
    "old Mac": {"end": "\r"},
    "semicolon": {"mark": ";"},
    "tab": {"mark": "\t", "name": "labels.tsv"},
    "comma in a .tsv": {"name": "labels.tsv"},
    "blank lines": {"end": "\n\n"},
    "spaces": {"mark": " , "},
    "Excel's empty lines": {"end": "\n,\n"},
}


@pytest.mark.parametrize("form", FORMS)
def test_formats_of_the_same_table(folder, form):
    options = {**FORMS[form]}
    mark = options.pop("mark", ",")
    file = write(folder, *(line.replace(",", mark) for line in ["path,label", *ROWS]), **options)
    assert sides(scan(file)) == sides(scan(write(folder, "path,label", *ROWS, name="plain.csv")))


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("file,class", {}),
        ("Filename,Category", {}),
        ("image_id,TARGET", {}),
        ("img,species", {}),
        ("where,label", {"path_column": "where"}),
        ("path,who", {"label_column": "who"}),
        ("label,path", {"path_column": "label", "label_column": "path"}),
    ],
)
def test_names_of_the_columns(folder, header, options):
    assert len(scan(write(folder, header, *ROWS), **options)) == 10


def test_other_columns_are_ignored(folder):
    lines = [f"{i},{row},x{i}" for i, row in enumerate(ROWS)]
    assert scan(write(folder, ",path,label,note", *lines)).classes == ("a", "b")


def test_images_in_another_folder(folder):
    (folder / "tables").mkdir()
    file = write(folder / "tables", "path,label", *(row.removeprefix("pics/") for row in ROWS))
    assert scan(file, images=folder / "pics").root == str(folder / "pics")
    assert "'a0.png' is not in" in refused(file)


def test_other_spellings_of_a_path(folder):
    for rows in (
        [row.replace(".png", "") for row in ROWS],
        [row.replace("/", "\\") for row in ROWS],
        [f"./{row}" for row in ROWS],
        [f"pics/../{row}" for row in ROWS],
        [f"{folder}/{row}" for row in ROWS],
    ):
        assert scan(write(folder, "path,label", *rows)).paths == tuple(f"pics/{name}" for name in NAMES)


def test_a_name_in_another_case(folder):
    for old, new in (("a0.png", "A0.PNG"), ("b1.png", "b1.JPG"), ("b2.png", "b2.jPeG")):
        (folder / "pics" / old).rename(folder / "pics" / new)
    wrong = [row.replace("b1.png", "b1.jpg").replace("b2.png", "b2").replace("pics/a3", "Pics\\a3") for row in ROWS]
    table = scan(write(folder, "path,label", *wrong))
    assert {"pics/A0.PNG", "pics/b1.JPG", "pics/b2.jPeG", "pics/a3.png"} < set(table.paths) and len(table) == 10
    assert has_note(table, "2 names in the wrong case: 'pics/a0.png' is read as 'pics/A0.PNG'")
    put(folder / "pics/a0.PNG")
    table = scan(write(folder, "path,label", *wrong))
    why = "does not exist (line 2); did you mean 'pics/A0.PNG' or 'pics/a0.PNG'?"
    assert table.bad == (("pics/a0.png", why),), "either could be meant"


def test_folders_are_listed_once_and_only_if_a_name_does_not_exist(folder, monkeypatch):
    listed, real = [], spelling.os.listdir
    monkeypatch.setattr(spelling.os, "listdir", lambda path: listed.append(path) or real(path))
    scan(write(folder, "path,label", *ROWS))
    assert listed == []
    scan(write(folder, "path,label", *(row.replace(".png", "") for row in ROWS)))
    assert sorted(listed) == [str(folder) + "/", f"{folder}/pics/"]


def test_rows_without_a_file_are_bad_files(folder):
    lines = [*ROWS, "pics/gone.png,a", "pics/a9.png,b"]
    table = scan(write(folder, "path,label", *lines), max_bad=0.2)
    assert table.bad[1] == ("pics/gone.png", "does not exist (line 12)") and len(table) == 10
    assert has_note(table, "2 of 12 lines name a file that does not exist, first in line 12: 'pics/gone.png'")
    assert "2 of 12 files in train cannot be used; data.max_bad=0.01 allows 1; data.max_bad=0.2" in refused(
        write(folder, "path,label", *lines)
    )
    line = refused(write(folder, "path,label", *ROWS, "x/0.png,c", "x/1.png,c"))
    assert line.endswith("allows 1; repair them: without them no image is left of 'c'"), "a larger share would not help"


def test_rows_without_a_label_or_a_path_are_left_out(folder):
    table = scan(write(folder, "path,label", *ROWS[:-1], "pics/b4.png,", ",a"))
    assert len(table) == 9 and has_note(table, "2 of 11 lines left out because path or label is empty: 11, 12")


VALIDATES = {  # four cells of the columns; the rows among them that are validation; those that are test
    "set": ("train train val test", [2], [3]),
    "Split": ("Training train dev test", [2], [3]),
    "partition": ("train train valid valid", [2, 3], []),
    "part": ("train train train eval", [3], []),
    "phase": ("train train validation test", [2], [3]),
    "Usage": ("Training Training PublicTest PrivateTest", [2], [3]),
    "dataset": ("train train val val", [2, 3], []),
    "fold": ("train train val val", [2, 3], []),
    "whatever": ("train train test val", [3], [2]),
    "is_valid": ("False False True True", [2, 3], []),
    "is_train": ("1 1 0 1", [2], []),
    "is_valid,is_test": ("0,0 0,0 1,0 0,1", [2], [3]),
    "is_train,is_test": ("yes,no yes,no no,no no,yes", [2], [3]),
}


@pytest.mark.parametrize("header", VALIDATES)
def test_columns_that_give_the_split(header, folder):
    cells, valid, tested = VALIDATES[header]
    rows = ["pics/a0.png,a", "pics/b0.png,b", "pics/a1.png,a", "pics/b1.png,b"]
    lines = [f"{row},{cell}" for row, cell in zip(rows, cells.split(), strict=True)]
    table = scan(write(folder, f"path,label,{header}", *lines), allow_missing=True)
    order = [table.paths.index(row[:-2]) for row in rows]
    assert [i for i in range(4) if table.splits[order[i]] == VALID] == valid or (not valid and not tested)
    assert [i for i in range(4) if table.splits[order[i]] == TEST] == tested
    assert has_note(table, f"splits from {header.replace(',', ', ')}")


@pytest.mark.parametrize("cells", ["left right", "train train", "train x", "0 1"])
def test_a_column_of_other_words_gives_no_split(folder, cells):
    lines = [f"{row},{cell}" for row, cell in zip(ROWS, cells.split() * 5, strict=True)]
    assert has_note(scan(write(folder, "path,label,part", *lines)), "splits from no column")


def test_a_misspelt_word_in_a_column_of_splits_is_refused(folder):
    words = ["train", "train", "train", "vaild", "test"] * 2
    line = refused(write(folder, "path,label,set", *(f"{row},{word}" for row, word in zip(ROWS, words, strict=True))))
    assert "line 5: set is 'vaild'; splits are train, valid and test; did you mean valid" in line


def test_a_flag_that_is_neither_yes_nor_no_is_named(folder):
    lines = [f"{row},{i % 3}" for i, row in enumerate(ROWS)]
    line = refused(write(folder, "path,label,is_valid", *lines))
    assert line.endswith("line 4: is_valid is '2'; it must be true or false, or 1 or 0")


def test_a_misspelt_column_is_not_a_regular_expression_for_groups(folder):
    file = write(folder, "path,label,Patient", *(f"{row},{i // 2}" for i, row in enumerate(ROWS)))
    for typed in ("patient", "pateint"):
        assert f"data.group={typed}: no column has that name; did you mean Patient?" in refused(file, group=typed)


def test_excels_separator_line_and_quotes_after_a_blank(folder):
    lines = [f'{row[:-2]}; "{row[-1]}"' for row in ROWS]
    assert scan(write(folder, "sep=;", "path;label", *lines)).classes == ("a", "b")


def test_classes_that_look_alike_are_warned_about(folder):
    lines = [
        *ROWS[:4],
        *(f"{row[:-1]}{label}" for row, label in zip(ROWS[4:], ["A", "B", " b\u200b"] * 2, strict=True)),
    ]
    table = scan(write(folder, "path,label", *lines))
    assert has_note(table, "warning: classes 'A' and 'a' (and 1 more) differ only in case, blanks or quotes; data.cla")


def test_a_file_that_is_not_a_table_is_refused(folder):
    os.mkfifo(folder / "pipe.csv")
    lines = {
        str(folder / "pipe.csv"): "is not a regular file; give a .csv file",
        "/dev/zero": "is not a regular file; give a .csv file",
        str(write(folder, "x" * 200_000, "a")): "line 1: field larger than field limit (131072)",
    }
    for file, line in lines.items():
        with pytest.raises(UserError) as caught:
            read_csv_table("data.labels", file)
        assert (caught.value.code, caught.value.line) == (3, f"data.labels={file} {line}")


def test_a_column_of_fold_numbers_is_noted(folder):
    lines = [f"{row},{i % 5}" for i, row in enumerate(ROWS)]
    file = write(folder, "path,label,fold", *lines)
    said = "the numbers in fold are not used; data.group=fold data.fold=0 keeps the images of each together"
    assert has_note(scan(file), said)
    table = scan(file, group="fold", fold=0)
    assert not has_note(table, "not used") and (table.splits == VALID).sum() == 2


@pytest.mark.parametrize("header", ["split", "Subset"])
def test_a_column_of_splits(folder, header):
    splits = ["train", "Train", "training", "val", "test"] * 2
    table = scan(write(folder, f"path,label,{header}", *(f"{r},{s}" for r, s in zip(ROWS, splits, strict=True))))
    assert [SPLITS[split] for split in table.splits] == ["train", "train", "train", "valid", "test"] * 2


def test_splits_in_the_way_of_fastai(folder):
    lines = [f"{row},{i % 5 == 4}" for i, row in enumerate(ROWS)]
    file = write(folder, "path,label,is_valid", *lines)
    assert np.flatnonzero(scan(file).splits == VALID).tolist() == [4, 9]


def test_a_column_of_train_and_test_leaves_validation_to_the_share(folder):
    lines = [f"{row},{'test' if i % 5 == 4 else 'train'}" for i, row in enumerate(ROWS)]
    table = scan(write(folder, "path,label,split", *lines), valid=0.25)
    assert np.bincount(table.splits).tolist() == [6, 2, 2]


def test_a_column_of_splits_can_be_left_out(folder):
    lines = [f"{row},{'valid' if i % 5 == 4 else 'train'}" for i, row in enumerate(ROWS)]
    file = write(folder, "path,label,split", *lines)
    assert "data.fold=0: the data already names its validation images (the column split)" in refused(file, fold=0)
    assert sides(scan(file, fold=0, split_column="none")) != sides(scan(file))


def test_a_column_of_groups(folder):
    lines = [f"{row},{'xyzxy'[i % 5]}" for i, row in enumerate(ROWS)]
    table = scan(write(folder, "path,label,patient", *lines), group="patient")
    held = {"xyzxy"[i % 5] for i in np.flatnonzero(table.splits == VALID)}
    trained = {"xyzxy"[i % 5] for i in np.flatnonzero(table.splits == TRAIN)}
    assert held and not held & trained
    assert sides(scan(write(folder, "path,label", *ROWS), group=r"\d")) != {}  # a regex, since no column has that name


def test_the_same_line_twice_is_one_image(folder):
    table = scan(write(folder, "path,label", *ROWS, *ROWS[:3]))
    assert len(table) == 10 and has_note(table, "3 duplicate lines")


def test_numbers_are_labels(folder):
    lines = [f"{row[:-2]},{i % 2}" for i, row in enumerate(ROWS)]
    assert scan(write(folder, "path,label", *lines)).classes == ("0", "1")


def test_quotes_commas_and_lines_in_cells(folder):
    lines = [f'{row.split(",")[0]},"{row[-1]}, ""the""\nsame"' for row in ROWS]
    table = scan(write(folder, "path,label", *lines))
    assert table.classes == ('a, "the"\nsame', 'b, "the"\nsame')


def test_bad_files_are_left_out_as_in_a_folder(folder):
    put(folder / "pics/bad.png", b"")
    table = scan(write(folder, "path,label", *ROWS, "pics/bad.png,a", "pics,a"), max_bad=0.2)
    assert table.bad == (("pics", "not a regular file"), ("pics/bad.png", "empty file")) and len(table) == 10


def test_a_table_is_a_data_source(folder):
    chosen = data(write(folder, "path,label", *ROWS), kind="csv")
    opened = dataset.load_dataset(chosen, 8)
    assert opened.image(3, 6).shape == (6, 8, 3) and len(opened.rows(VALID)) == 2


# ---- what is refused


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["file,label", "pix/c.png,a", "pix/d.png,b"], "line 2: 'pix/c.png' is not in"),
        (["file,label", "pix/c.png,a", "pix/d.png,b"], "(all 2 are missing); set data.images to the folder"),
        (["file,label", "pics/a0.jpg,a", "pics/b0.jpg,b"], "(all 2 are missing); did you mean 'pics/a0.png'"),
        (["where,label", *ROWS], "line 1: no column is called path or file or filename; the columns are where, label"),
        (["path,lable", *ROWS], "the columns are path, lable; set data.label_column=lable"),
        ([*ROWS], "line 1: no column is called path"),
        (["path,label,label", *(f"{row},x" for row in ROWS)], "line 1: two columns are called 'label'"),
        (["path,label", *ROWS, "pics/a0.png,b"], "line 12: the label of 'pics/a0.png' is 'b', but 'a' in line 2"),
        (["path,label", *ROWS, "./pics/a0,b"], "line 12: the label of 'pics/a0.png' is 'b', but 'a' in line 2"),
        (["path,label,x", "pics/a0.png,,1", "pics/a4.png,,2"],
         "line 2: label is empty; path or label is empty in all 2 lines"),
        (["path,label", "pics/a0.png,1", "pics/a1.png,2", "", "pics/a2.png,1.0"], "line 5: label is '1.0', but '1' in"),
        (["path,label", *ROWS, "/etc/passwd,a"], "line 12: '/etc/passwd' is outside"),
        (["path,label", *ROWS, "../x.png,a"], "line 12: '../x.png' is outside"),
        (["path,label", *ROWS, "pics/../../x.png,a"], "line 12: 'pics/../../x.png' is outside"),
        (["path,label", *ROWS, "pics/a0.png"], "line 12: 1 cells, but line 1 names 2 columns"),
        (["path,label", *ROWS, "pics/a0.png,a,b"], "line 12: 3 cells, but line 1 names 2 columns"),
        (["path,label", *ROWS, 'pics/a0.png,"a'], "line 12: unexpected end of data"),
        (["path,label,split", *(f"{row},later" for row in ROWS)], "line 2: split is 'later'; splits are train,"),
        (["path,label,split", *(f"{row},{i % 5}" for i, row in enumerate(ROWS))], "data.group=split data.fold=0 valid"),
        (["path,label,set,part", *(f"{r},{s},{s}" for r, s in zip(ROWS, ["train", "val"] * 5, strict=True))],
         "'set' and 'part' all look like splits; choose one: data.split_column=set"),
        (["path,label,is_valid,is_test", *(f"{row},1,1" for row in ROWS)], "is_valid, is_test say valid and test; an"),
        (["path,label,split", *(f"{row},test" for row in ROWS)], "the column split puts no image in train"),
        (["path,label,split", *(f"{row},train" for row in ROWS), f"{ROWS[0]},test"], "line 12: the split of"),
        (["path,label", *ROWS[:5]], "only one class ('a')"),
        (["path,label", *ROWS, "pics/a0.png,a;b"], "line 12: label is 'a;b': an image can only have"),
        (["path,label", *ROWS, "pics/a0.png,a|c"], "line 12: label is 'a|c': an image can only have"),
        (["path,label", *ROWS, '"pics/a0.png","a, b"'], "line 12: label is 'a, b': an image can only have"),
        (["path,cat,dog", *(f"{row[:-2]},1,0" for row in ROWS)], "2 columns of 0 and 1 ('cat', 'dog'...): give one"),
        (["path,label", "pics/a0.png,caf\xe9", "pics/b0.png,cafe\u0301"], "one name in two Unicode spellings"),
        (["path,label"], "has no rows below line 1, which names the columns ('path, label')"),
        ([], "has no rows"),
    ],
)  # fmt: skip
def test_an_invalid_table_is_refused_with_the_line_number(folder, lines, said):
    file = write(folder, *lines)
    line = refused(file)
    assert said in line
    if said.startswith("line"):
        assert line.startswith(f"data.root={file} line ")


def test_columns_that_do_not_exist(folder):
    file = write(folder, "path,label,part", *(f"{row},train" for row in ROWS))
    for key in ("path_column", "label_column", "split_column"):
        line = refused(file, **{key: "pathh"})
        assert line.startswith(f"data.{key}=pathh: data.root={file} has no such column; did you mean path")
    assert "data.group=patient: matches none of 10 paths" in refused(file, group="patient")
    assert "line 2: part is 'x'" in refused(write(folder, "path,label,part", f"{ROWS[0]},x"), split_column="part")


def test_files_that_are_not_tables(folder):
    assert refused(folder / "none.csv") == f"data.root={folder}/none.csv does not exist"
    (folder / "folder.csv").mkdir()
    assert "is a folder; give a .csv file" in refused(folder / "folder.csv")
    file = write(folder, "path,label", *ROWS)
    for encoding in ("utf-16", "latin-1"):
        file.write_bytes(f"path,label\n{ROWS[0]}\n{ROWS[1]}\xe9\n".encode(encoding))
        assert "not UTF-8 text" in refused(file)
    assert "line 3: not UTF-8 text; save the file as CSV UTF-8" in refused(file)
    assert refused(write(folder, "path,label", *ROWS), images="/nowhere").startswith("data.images=/nowhere: no such")


def test_rows_know_the_line_they_begin_on(tmp_path):
    file = write(tmp_path, "a,b", "", '"x', 'y",2', "z,3", end="\r\n")
    sheet = read_csv_table("key", str(file))
    assert sheet.columns == ("a", "b") and sheet.rows == ((3, ("x\r\ny", "2")), (5, ("z", "3")))
    with pytest.raises(UserError) as caught:
        raise sheet.error(5, "so; ")
    assert (caught.value.code, caught.value.line) == (3, f"key={file} line 5: so")


def test_accents_in_another_spelling_and_a_folder_named_like_an_image(folder):
    put(folder / "pics/cafe\u0301.png")
    put(folder / "pics/001.png")
    put(folder / "pics/001/other.png")
    table = scan(write(folder, "path,label", *ROWS, "pics/caf\xe9.png,a", "pics/001,b"))
    assert {"pics/cafe\u0301.png", "pics/001.png"} < set(table.paths)
    table = scan(write(folder, "path,label", *ROWS, "pics/\0.png,a"))
    assert table.bad == (("pics/\0.png", "does not exist (line 12)"),)
