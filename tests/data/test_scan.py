"""A folder of images becomes a table, or one line that says what is wrong with it."""

import io
import os
import pickle
import shutil
import tempfile
import unicodedata
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from images import data, has_note, image, put, refused, scan, sides, tree
from PIL import Image

from thaw.data import dataset, file_state, verify
from thaw.data.bad_files import tolerated_count
from thaw.data.decode import BadImage, decode
from thaw.data.decode_cache import DecodeCache
from thaw.data.table import SPLITS, TEST, TRAIN, VALID
from thaw.data.verify import read_file
from thaw.runtime import job_status
from thaw.runtime.errors import BadFiles, UserError
from thaw.runtime.job_status import as_user_error


def both(root, train=4, valid=2):
    return tree(root, train__a=train, train__b=train, valid__a=valid, valid__b=valid)


# ---- what a well-formed folder gives


def test_two_splits_with_a_folder_each(tmp_path):
    table = scan(both(tmp_path))
    assert len(table) == 12 and table.classes == ("a", "b") and table.root == str(tmp_path)
    assert list(table.paths) == sorted(table.paths) and table.bad == () and table.notes == ()
    for path, label, split in zip(table.paths, table.labels, table.splits, strict=True):
        assert path.startswith(f"{SPLITS[split]}/{table.classes[label]}/")
    assert (table.labels.dtype, table.splits.dtype, table.sizes.dtype) == (np.int64, np.uint8, np.int64)
    assert set(table.heights.tolist()) == {6} and set(table.widths.tolist()) == {8}
    assert table.sizes[0] == len(read_file(table, 0)) and len(set(table.hashes)) == 12


@pytest.mark.parametrize("name", ["val", "validation", "Val", "valid"])
def test_names_of_the_validation_folder(tmp_path, name):
    root = tree(tmp_path, train__a=2, train__b=2, **{f"{name}__a": 1, f"{name}__b": 1}, test__a=1)
    table = scan(root)
    assert np.bincount(table.splits).tolist() == [4, 2, 1]
    assert has_note(table, "classes without images in test: 'b'")


def test_two_validation_folders_are_refused(tmp_path):
    tree(tmp_path, train__a=1, train__b=1, val__a=1, val__b=1, valid__a=1, valid__b=1)
    assert "'val', 'valid'" in refused(tmp_path)


def test_validation_is_taken_from_train_and_never_from_test(tmp_path):
    table = scan(tree(tmp_path, train__a=20, train__b=20, test__a=3, test__b=3))
    assert all((split == TEST) == path.startswith("test/") for path, split in sides(table).items())
    shutil.rmtree(tmp_path / "test")
    assert sides(scan(tmp_path)).items() <= sides(table).items() and (table.splits == VALID).any()


def test_folders_inside_a_class_belong_to_it(tmp_path):
    table = scan(tree(tmp_path, a=2, a__deep__er=2, b=2))
    assert table.classes == ("a", "b") and (table.labels == 0).sum() == 4


def test_classes_may_be_named_like_splits(tmp_path):
    assert scan(tree(tmp_path, train=2, car=2)).classes == ("car", "train")
    assert scan(tree(tmp_path / "b", valid=2, invalid=2)).classes == ("invalid", "valid")


def test_the_format_follows_from_content_not_from_the_name(tmp_path):
    root = both(tmp_path)
    put(root / "train/a/x.jpg")
    put(root / "train/a/y.PNG", image(98, "JPEG"))
    assert len(scan(root)) == 14


# ---- the wrong level


@pytest.mark.parametrize(
    ("makes", "said"),
    [
        (("cat/train", "cat/val", "dog/train", "dog/val"), "cat/train/ and cat/val/; put the splits above the classes"),
        (("pets/train/cat", "pets/valid/cat", "birds/wren", "birds/tit"), "pets/valid/; give data.root=ROOT/pets"),
        (("photos/cat", "photos/dog"), "one folder with images, 'photos', but a classifier needs"),
        (("photos/photos/cat", "photos/photos/dog", "photos/photos/eel"), "did you mean data.root=ROOT/photos/photos?"),
        (("photos/train/cat", "photos/train/dog", "photos/test/cat"), "give data.root=ROOT/photos"),
    ],
)  # fmt: skip
def test_a_level_too_high(tmp_path, makes, said):
    tree(tmp_path, **{name.replace("/", "__"): 2 for name in makes})
    assert said in refused(tmp_path).replace(str(tmp_path), "ROOT")


def test_a_level_too_low(tmp_path):
    both(tmp_path)
    table = scan(tmp_path / "train")
    assert len(table) == 8 and table.valid_from == "" and scan(tmp_path).valid_from == "valid/"
    assert has_note(table, f"leaves out 'valid' beside it; data.root={tmp_path} uses all splits")


def test_images_in_subfolders_are_noted(tmp_path):
    table = scan(tree(tmp_path, part1__cat=2, part1__dog=2, part2__cat=2))
    assert table.classes == ("part1", "part2")
    said = "6 images in subfolders of a class folder, counted as that class: 'part1/cat/0.png' has class 'part1'"
    advice = "if the subfolders are the classes, data.root must be a level lower: .../part1"
    assert has_note(table, f"warning: {said}; {advice}")


def test_splits_of_another_name_are_not_classes(tmp_path):
    said = "train/ and 'holdout' look like splits: both have the folders 'a', 'b'; name them train/, valid/ and test/"
    assert said in refused(tree(tmp_path / "one", train__a=2, train__b=2, holdout__a=2, holdout__b=2))
    table = scan(tree(tmp_path / "two", training_set__a=4, training_set__b=4, test_set__a=2, test_set__b=2))
    assert table.classes == ("a", "b") and np.bincount(table.splits)[TEST] == 4
    table = scan(tree(tmp_path / "three", cats__in=2, cats__out=2, dogs__in=2, dogs__out=2))
    assert table.classes == ("cats", "dogs"), "folders with equal subfolders need not be splits"


def test_formats_of_phones_and_scanners(tmp_path):
    for i, name in enumerate(("a.HEIC", "b.heif", "c.HIF", "d.jp2", "e.J2K", "f.AVIF", "g.mpo", "h.png")):
        format = {"jp2": "JPEG2000", "j2k": "JPEG2000", "avif": "AVIF", "mpo": "MPO", "png": "PNG"}
        for label in "xy":
            put(tmp_path / label / name, image(2 * i + (label == "y"), format.get(name[2:].lower(), "HEIF")))
    table = scan(tmp_path)
    assert len(table) == 16 and table.bad == () and table.notes == ()


def test_ignored_files_that_look_like_images_are_noted(tmp_path):
    both(tmp_path)
    for name in ("a.DNG", "b.cr3", "c.mp4", "d.svg", "e.txt"):
        put(tmp_path / "train/a" / name, b"x")
    table = scan(tmp_path)
    said = "ignored 1 drawing (.svg) and 2 raw images (.cr3, .dng) and 1 video (.mp4), which cannot be read"
    assert has_note(table, f"warning: {said}: convert them to JPEG or PNG")
    assert has_note(table, "ignored 1 file that is not an image ('.txt')")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["1.NEF", "2.nef"], "has no images that can be read, only 2 raw images (.nef): convert them to JPEG or"),
        (["in/1.mov", "2.pdf"], "only 1 drawing (.pdf) and 1 video (.mov): convert"),
        (["scan.nii.gz"], "only 1 medical image (.nii): convert"),
        (["1.txt", "2"], "has no images (2 files of other kinds); fill it or remove it"),
    ],
)
def test_a_class_without_readable_images(tmp_path, capsys, names, said):
    for name in names:
        put(tree(tmp_path, a=2) / "b" / name, b"x")
    assert "class folder 'b' has no images" in (line := refused(tmp_path)) and said in line
    with pytest.raises(UserError):
        dataset.load_dataset(data(tmp_path), 8)
    assert "ignored " in capsys.readouterr().out, "notes are not lost if the data is refused"


# ---- data.limit


def test_limit_is_proportional_and_stable(tmp_path):
    root = tree(tmp_path, a=40, b=20, c=2)
    table = scan(root, limit=20)
    assert len(table) == 20 and np.bincount(table.labels).tolist() == [12, 6, 2]
    assert table.paths == scan(root, limit=20).paths
    assert set(scan(root, limit=10).paths) < set(table.paths)
    assert scan(root, limit=999).paths == scan(root).paths
    assert "data.limit=5" in refused(root, code=2, limit=5)


def test_limit_reads_only_the_files_it_chooses(tmp_path, monkeypatch):
    opened, real = [], verify.verify_file
    monkeypatch.setattr(verify, "verify_file", lambda *a: opened.append(a) or real(*a))
    scan(both(tmp_path), limit=6)
    assert len(opened) == 6


# ---- brightness


def grey16(number, most):
    return cv2.imencode(".png", np.random.default_rng(number).integers(0, most + 1, (6, 8), np.uint16))[1].tobytes()


def test_one_scale_for_all_16_bit_grey(tmp_path):
    for i in range(8):
        put(tmp_path / f"{'ab'[i % 2]}/{i}.png", grey16(i, 1023 if i else 4095))
    put(tmp_path / "a/x.png")
    loaded = dataset.load_dataset(data(tmp_path), 8, decode_cache=(kept := DecodeCache(tmp_path / ".kept", 6, 1e9)))
    table = loaded.table
    assert has_note(table, "8 images of 16-bit grey with values up to 3,976: 4,095") and table.bits == 12
    row = table.paths.index("b/1.png")
    assert table.hashes[row].endswith("-12") and kept.get(table.hashes[row], 6) is None
    assert np.array_equal(loaded.image(row, 6), decode(read_file(table, row), bits=12))
    assert 40 < loaded.image(row, 6).max() < 65, "it stays darker than the others"
    assert "-" not in table.hashes[table.paths.index("a/x.png")]
    put(tmp_path / "b/full.png", grey16(9, 65535))
    assert scan(tmp_path).bits == 16 and not has_note(scan(tmp_path), "16-bit")


def test_images_that_are_almost_black_are_noted(tmp_path):
    for i in range(8):
        put(tmp_path / f"{'ab'[i % 2]}/{i}.png", image(i))
    assert not has_note(scan(tmp_path), "black")
    for i in range(5):
        small = np.random.default_rng(i).integers(0, 4096, (6, 8, 3), np.uint16)  # 16-bit colour is not scaled
        put(tmp_path / f"{'ab'[i % 2]}/{i}.png", cv2.imencode(".png", small)[1].tobytes())
    assert has_note(scan(tmp_path), "warning: 5 of 8 images are almost black, with no value above 31 of 255; if the")


# ---- refused roots and classes


@contextmanager
def as_nobody():
    """Run the block without the rights of root, who may read everything."""
    if user := os.geteuid():
        yield
    else:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(user)


@pytest.fixture
def public():
    """Make a folder that a user without rights may read too."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield Path(path)


def test_a_missing_root_suggests_similar_names(tmp_path):
    both(tmp_path / "photos")
    assert (
        refused(tmp_path / "photoz") == f"data.root={tmp_path}/photoz does not exist; did you mean {tmp_path}/photos?"
    )
    assert refused(tmp_path / "else") == f"data.root={tmp_path}/else does not exist"


def test_four_invalid_roots_have_four_messages(public):
    (public / "file").write_text("")
    (public / "empty").mkdir()
    both(public / "shut").chmod(0)
    with as_nobody():
        lines = [refused(public / name) for name in ("none", "file", "empty", "shut")]
    for line, words in zip(lines, ("does not exist", "is a file", "is empty", "Permission denied"), strict=True):
        assert words in line and "data.root" in line
    (public / "shut").chmod(0o755)
    (public / "shut/train/a").chmod(0)
    with as_nobody():
        assert "the folder 'train/a'" in refused(public / "shut")
    (public / "shut/train/a").chmod(0o755)


def test_a_folder_needed_only_for_a_hint_may_be_unreadable(public):
    tree(public / "around/train", a=3, b=3)
    (public / "around/loop").symlink_to("loop")
    (public / "around").chmod(0o711)  # may be entered, but not listed
    with as_nobody():
        assert len(scan(public / "around/train")) == 6
        assert refused(public / "around/trian") == f"data.root={public}/around/trian does not exist"
    (public / "around").chmod(0o755)
    assert refused(public / "around/trian").endswith(f"did you mean {public}/around/train?")


def test_a_folder_without_access_to_its_files_has_bad_files(public):
    both(public)
    (public / "train/a").chmod(0o744)  # may be listed, but not entered
    with as_nobody():
        assert "4 of 8 files in train cannot be used" in refused(public)
        assert len(file_state.folder_content(public)) == 8
    (public / "train/a").chmod(0o755)


def test_no_class_folders(tmp_path):
    put(tmp_path / "x.png")
    assert "no class folders" in refused(tmp_path)
    put(tmp_path / "train" / "x.png")
    (tmp_path / "valid").mkdir()
    assert "no class folders" in refused(tmp_path)


def test_class_missing_in_valid(tmp_path):
    root = tree(tmp_path, train__a=2, train__b=2, train__c=2, valid__a=1, valid__c=1)
    assert "'b'" in (line := refused(root)) and "data.allow_missing" in line
    table = scan(root, allow_missing=True)
    assert table.classes == ("a", "b", "c")
    assert {table.classes[i] for i in table.labels[table.splits == VALID]} == {"a", "c"}
    assert table.classes.index("b") == 1 and set(table.labels[table.splits == TRAIN].tolist()) == {0, 1, 2}


def test_class_only_in_valid_or_test(tmp_path):
    put(both(tmp_path) / "test/c/x.png")
    assert "in test but not in train: 'c'" in refused(tmp_path)
    put(tmp_path / "valid/d/x.png")
    assert "in valid but not in train: 'd'" in refused(tmp_path, allow_missing=True)


@pytest.mark.parametrize("name", ["train/c", "valid/c", "train/a b"])
def test_empty_class_folder(tmp_path, name):
    (both(tmp_path) / name).mkdir()
    assert f"'{name}' has no images" in refused(tmp_path)
    (tmp_path / name / "x.txt").write_bytes(b"")
    assert f"'{name}' has no images" in refused(tmp_path)


def test_ignored_files_are_counted(tmp_path):
    root = both(tmp_path)
    hidden = (".ipynb_checkpoints/a.png", "train/.DS_Store", "train/a/Thumbs.db", "__MACOSX/a/x.png", ".git/x")
    for name in (*hidden, "@eaDir/a.png", "train/a/@eaDir/0.png/SYNO.png"):
        put(root / name)
    for name in ("labels.csv", "train/a/x.txt", "train/a/README"):
        put(root / name)
    put(root / "train/loose.png")
    put(root / "more/a/x.png")
    table = scan(root)
    assert len(table) == 12 and table.classes == ("a", "b")
    assert has_note(table, "ignored 7 hidden or system") and has_note(table, "ignored 3 files that are not images")
    assert has_note(table, "ignored 2 images outside the class folders ('more/a/x.png', 'train/loose.png')")


def test_one_class(tmp_path):
    assert "only one class ('a')" in refused(tree(tmp_path, a=9))


@pytest.mark.parametrize("places", [("train", "train"), ("train", "valid")])
def test_two_spellings_of_one_name(tmp_path, places):
    root = both(tmp_path)
    for split, form in zip(places, ("NFC", "NFD"), strict=True):
        put(root / split / unicodedata.normalize(form, "caf\xe9") / "x.png")
    line = refused(root)
    assert r"'cafe\u0301'" in line and r"'caf\xe9'" in line


NAMES = [b"non\xff\xfeutf8", b"new\nline", b"a,b", b'it\'s "q"', b"x" * 200, b"con", b"k=v [1] ~ $HOME"]


def test_odd_names_of_classes_and_files(tmp_path):
    for name in NAMES:
        for i in range(2):
            put(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name, name + b"%d.png" % i))))
    table = scan(tmp_path, cache=tmp_path / ".kept")
    assert len(table) == 2 * len(NAMES) and {os.fsencode(name) for name in table.classes} == set(NAMES)
    assert all(len(read_file(table, i)) == table.sizes[i] for i in range(len(table)))
    assert scan(tmp_path, cache=tmp_path / ".kept").hashes == table.hashes
    for name in NAMES:
        put(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name, name + b"2.png"))), b"no")
    refused(tmp_path).encode("utf-8")
    for name in NAMES[:2]:
        shutil.rmtree(os.path.join(os.fsencode(tmp_path), name))
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
        refused(tmp_path).encode("utf-8")


# ---- files that cannot be used


BAD = {
    "empty file": b"",
    "not an image but an HTML page": b"<!DOCTYPE html>",
    "truncated": image(1, "JPEG")[:-20],
    "float pixels": (lambda file: (Image.new("F", (4, 4)).save(file, "TIFF"), file.getvalue())[1])(io.BytesIO()),
}


@pytest.mark.parametrize("reason", BAD)
def test_one_bad_file_is_left_out_of_train(tmp_path, reason):
    root = both(tmp_path)
    put(root / "train/a/bad.jpg", BAD[reason])
    table = scan(root)
    assert len(table) == 12 and has_note(table, "1 of 13 files left out (bad_files.csv lists them):")
    assert has_note(table, "  'train/a/bad.jpg': ")
    assert table.bad[0][0] == "train/a/bad.jpg" and reason in table.bad[0][1]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_no_bad_file_is_left_out_of_valid_or_test(tmp_path, split):
    put(tree(both(tmp_path), test__a=1) / split / "a/bad.png", b"")
    total = {"valid": 5, "test": 2}[split]
    with pytest.raises(BadFiles, match=f"1 of {total} files in {split} cannot be used; none may be left out") as caught:
        scan(tmp_path)
    assert caught.value.rows == ((f"{split}/a/bad.png", "empty file"),)


@pytest.mark.parametrize(
    ("n", "share", "allowed"),
    [(3, 0.01, 1), (29, 0.01, 2), (60, 0.01, 5), (499, 0.01, 5), (900, 0.01, 9), (60, 0.1, 6), (60, 0, 0), (9, 1, 9)],
)
def test_a_few_bad_files_are_tolerated_if_at_most_a_tenth(n, share, allowed):
    assert tolerated_count(n, share) == allowed


def test_too_many_bad_files(tmp_path):
    root = tree(tmp_path, a=13, b=10)
    for i in range(7):
        put(root / f"a/bad{i}.png", b"")
    line = refused(root)
    assert line == (
        "7 of 30 files in train cannot be used; data.max_bad=0.01 allows 3; data.max_bad=0.5 leaves them out"
    )
    table = scan(root, max_bad=0.5)
    assert len(table) == 23
    assert table.notes[table.notes.index("  'a/bad4.png': empty file") + 1] == "  and 2 more"
    for i in range(1, 7):
        (root / f"a/bad{i}.png").unlink()
    assert len(scan(root)) == 23
    assert "allows 0" in refused(root, max_bad=0)


def test_a_refusal_names_five_bad_files_and_lists_all(tmp_path, capsys):
    rows = tuple((f"a/{i}\udcff.png", "empty file") for i in range(7))
    error = as_user_error(pickle.loads(pickle.dumps(BadFiles("7 of 30 files in train cannot be used", rows))), tmp_path)
    assert job_status.print_error(error) == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 7 and said[4].startswith("  'a/4") and said[5] == "  and 2 more"
    assert said[6] == f"error: 7 of 30 files in train cannot be used; all are listed in {tmp_path}/bad_files.csv"
    assert len((tmp_path / "bad_files.csv").read_text().splitlines()) == 8


def test_class_of_bad_files_only(tmp_path):
    put(tree(tmp_path, a=4, b=4) / "c/bad.png", b"")
    assert "without a usable image in train: 'c'" in refused(tmp_path)


def test_too_large_and_too_small(tmp_path):
    root = both(tmp_path)
    put(root / "train/a/big.png", image(1, size=(300, 200)))
    assert scan(root, max_pixels=50_000).bad == (("train/a/big.png", "0.06 Mpx > data.max_pixels 0.05 Mpx"),)
    put(root / "train/a/thin.png", image(2, size=(1, 300)))
    assert len(scan(root)) == 14
    assert scan(root, min_side=4).bad == (("train/a/thin.png", "1x300 px, shorter side < data.min_side 4"),)


def test_unreadable_file(public):
    put(both(public) / "train/a/shut.png").chmod(0)
    with as_nobody():
        table = scan(public)
    assert len(table) == 12 and table.bad == (("train/a/shut.png", "Permission denied"),)


def test_a_pipe_is_a_bad_file(tmp_path):
    os.mkfifo(both(tmp_path) / "train/a/pipe.png")
    assert scan(tmp_path).bad == (("train/a/pipe.png", "not a regular file"),)


def test_links(tmp_path):
    root, outside = tree(tmp_path / "root", a=3, b=3), tree(tmp_path / "outside", c=2)
    (root / "A").symlink_to(root / "a")  # sorts before the folder it links to, the next one after
    (root / "z").symlink_to(root / "b")
    (root / "a/loop").symlink_to(root)
    (root / "b/self").symlink_to("self")
    (root / "c").symlink_to(outside / "c")
    (root / "a/one.png").symlink_to(outside / "c/0.png")
    (root / "a/nothing.png").symlink_to(outside / "none")
    table = scan(root)
    assert table.classes == ("a", "b", "c") and len(table) == 9
    assert table.bad == (("a/nothing.png", "broken link"),)
    assert has_note(table, "3 links to folders that were already read")


def test_frames_are_counted(tmp_path):
    more = Image.frombytes("RGB", (8, 6), bytes(range(144)))
    put(both(tmp_path) / "train/a/moving.gif", image(7, "GIF", save_all=True, append_images=[more]))
    assert has_note(scan(tmp_path), "1 image with several frames")


def test_image_in_two_splits(tmp_path):
    root = both(tmp_path)
    shutil.copy(root / "train/a/0.png", root / "valid/a/again.png")
    table = scan(root)
    share = f"1 of {(table.splits == VALID).sum()} validation images is a copy, which makes the results too optimistic"
    pair = "'train/a/0.png' and 'valid/a/again.png'"
    assert has_note(table, f"warning: 1 image occurs in two splits: {pair}; {share}")
    assert table.leaks == (("train/a/0.png", "valid/a/again.png"),)
    assert "data.leak=warn" in refused(root, leak="error")


def test_every_leaking_image_is_listed(tmp_path):
    root = both(tmp_path)
    for name in ("train/b/x", "valid/a/x", "valid/b/x", "test/a/x"):
        put(root / f"{name}.png", image(1))
    put(root / "train/a/twice.png", (root / "train/a/0.png").read_bytes())  # both in one split: no leak
    table = scan(root)
    first = "train/b/x.png"
    assert set(table.leaks) == {(first, "test/a/x.png"), (first, "valid/a/x.png"), (first, "valid/b/x.png")}
    assert has_note(table, "1 image occurs in two splits") and has_note(table, "1 image with a copy in another")
    assert has_note(
        table, "; 2 of 6 validation and 1 of 1 test images are copies, which makes the results too optimistic"
    )


def test_limits_apply_to_decoding_too(tmp_path):
    root = both(tmp_path)
    chosen = data(root, max_pixels=40.0)
    assert "8 of 8 files in train cannot be used" in refused(root, max_pixels=40.0)  # all of them are 8 x 6
    opened = dataset.load_dataset(data(root), 8)
    assert opened.image(0, 6).shape == (6, 8, 3) and opened.rows(VALID).tolist() == [8, 9, 10, 11]
    with pytest.raises(BadImage):
        decode(read_file(opened.table, 0), max_pixels=int(chosen.max_pixels))


# ---- what is kept between scans


@pytest.fixture
def judged(monkeypatch):
    """Return the list of paths to which every file that is read is added."""
    paths, real = [], verify.verify_file
    monkeypatch.setattr(
        verify, "verify_file", lambda root, file, *rest: paths.append(file.path) or real(root, file, *rest)
    )
    return paths


def same(a, b):
    assert (a.paths, a.hashes, a.classes, a.bad) == (b.paths, b.hashes, b.classes, b.bad)
    for name in ("labels", "splits", "sizes", "heights", "widths"):
        assert np.array_equal(getattr(a, name), getattr(b, name))


def test_unchanged_files_are_not_opened_again(tmp_path, judged):
    root, kept = both(tmp_path / "root"), tmp_path / "kept"
    put(root / "train/a/bad.png", b"")
    first = scan(root, cache=kept)
    assert len(judged) == 13
    judged.clear()
    same(scan(root, cache=kept), first)
    assert judged == []
    put(root / "train/b/new.png")
    assert len(scan(root, cache=kept)) == 13 and judged == ["train/b/new.png"]
    scan(root, cache=kept, max_pixels=10_000)  # other limits, other verdicts
    assert len(judged) == 15


def test_a_changed_file_is_read_again_and_named(tmp_path, judged):
    root, kept = both(tmp_path / "root"), tmp_path / "kept"
    first = scan(root, cache=kept)
    judged.clear()
    path = root / "train/a/0.png"
    data, status = image(12345), path.stat()
    path.write_bytes(data.ljust(status.st_size, b"\0")[: max(status.st_size, len(data))])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    table = scan(root, cache=kept)
    assert judged == ["train/a/0.png"] and table.hashes[0] != first.hashes[0]
    assert has_note(table, "1 file changed since the last scan")


def test_folders_that_change_names_are_read_again(tmp_path, judged):
    root, kept = tree(tmp_path / "root", a=4, b=4), tmp_path / "kept"
    for path in sorted(root.glob("*/*")):  # as unpacked from an archive: of one size and one time
        path.write_bytes(path.read_bytes().ljust(4000, b"\0"))
        os.utime(path, ns=(10**18, 10**18))
    first = scan(root, cache=kept)
    judged.clear()
    (root / "a").rename(root / "x"), (root / "b").rename(root / "a"), (root / "x").rename(root / "b")
    table = scan(root, cache=kept)
    assert len(judged) == 8 and table.hashes == first.hashes[4:] + first.hashes[:4]


def test_an_image_that_changes_after_the_scan_is_refused(tmp_path):  # and never stored as the original
    loaded = dataset.load_dataset(data(tree(tmp_path, a=5, b=5)), 8)
    put(tmp_path / "a/0.png")
    assert loaded.image(1, 8).shape == (6, 8, 3)
    with pytest.raises(UserError, match=r"'a/0.png' changed after the scan") as caught:
        loaded.image(0, 8)
    assert caught.value.code == 3


def test_verdicts_are_saved_during_the_scan(tmp_path, monkeypatch):  # for a power failure
    kept = []
    monkeypatch.setattr(verify, "KEEP_EVERY_S", 0)
    monkeypatch.setattr(verify, "save_verdicts", lambda table, rows, notes: kept.append(len(rows)))
    scan(both(tmp_path / "root", train=20), cache=tmp_path / "kept")
    assert kept == [8, 16, 24, 32, 40, 44, 44]


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\xff" * 80 + b"\n{}", "half", "flip"])
def test_a_damaged_table_of_verdicts_is_ignored(tmp_path, judged, damage):
    root, kept = both(tmp_path / "root"), tmp_path / "kept"
    first = scan(root, cache=kept)
    [file] = kept.iterdir()
    data = file.read_bytes()
    flipped = data[:200] + bytes([data[200] ^ 1]) + data[201:]
    file.write_bytes({"half": data[: len(data) // 2], "flip": flipped}.get(damage, damage))
    judged.clear()
    same(scan(root, cache=kept), first)
    assert len(judged) == 12 and file.read_bytes() == data


def test_verdicts_are_saved_after_an_interruption(tmp_path, judged, monkeypatch):
    root, kept, real = both(tmp_path / "root", train=20), tmp_path / "kept", verify.verify_file

    def interrupted(root, file, *rest):
        if file.path == "valid/b/1.png":
            raise KeyboardInterrupt
        return real(root, file, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(verify, "verify_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            scan(root, cache=kept)
    judged.clear()
    assert len(scan(root, cache=kept)) == 44 and 1 <= len(judged) < 44


def test_a_table_of_verdicts_that_cannot_be_saved_is_a_note(tmp_path):
    (tmp_path / "file").write_text("")
    table = scan(both(tmp_path / "root"), cache=tmp_path / "file/kept")
    assert len(table) == 12 and has_note(table, "the results of this scan cannot be saved")


def test_an_unreadable_file_is_tried_again(tmp_path, monkeypatch):
    root, kept, late, real = both(tmp_path / "root"), tmp_path / "kept", "train/a/0.png", verify.verify_file

    def broken(root, file, *rest):
        return verify.Verdict("", 0, 0, False, "Input/output error") if file.path == late else real(root, file, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(verify, "verify_file", broken)
        assert scan(root, cache=kept).bad == ((late, "Input/output error"),)
    assert len(scan(root, cache=kept)) == 12


def test_reading_a_row_is_tried_again(tmp_path, monkeypatch):
    table = scan(both(tmp_path))
    path, pauses = tmp_path / table.paths[3], []
    path.rename(tmp_path / "away")

    def wait(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            (tmp_path / "away").rename(path)

    monkeypatch.setattr(verify.time, "sleep", wait)
    assert len(read_file(table, 3)) == table.sizes[3] and sum(pauses) == 2
    path.unlink()
    with pytest.raises(UserError, match=r"'train/a/3\.png' cannot be read any more") as caught:
        read_file(table, 3)
    assert caught.value.code == 3
