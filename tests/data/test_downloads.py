"""torchvision's datasets in small, laid out as torchvision expects them; the network is never used."""

import hashlib
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from images import data, image, put
from scipy.io import savemat
from torchvision import datasets

from thaw.data import dataset, downloads
from thaw.data.table import SPLITS, TEST, TRAIN, VALID
from thaw.runtime.errors import UserError


def pets(root):
    """Make two breeds, one of them in capitals, with five images each."""
    base, lines = root / "oxford-iiit-pet", {"trainval": [], "test": []}
    for breed, label in (("Bengal", 1), ("great_pug", 2)):
        for i in range(5):
            put(base / f"images/{breed}_{i}.jpg")
            lines["test" if i > 2 else "trainval"].append(f"{breed}_{i} {label} {label} 1")
    for split, text in lines.items():
        put(base / f"annotations/{split}.txt", "\n".join(text).encode())


def flowers(root):
    base = root / "flowers-102"
    for i in range(1, 9):
        put(base / f"jpg/image_{i:05d}.jpg")
    savemat(base / "imagelabels.mat", {"labels": np.array([1, 1, 1, 1, 102, 102, 102, 102])})
    savemat(base / "setid.mat", {"trnid": [1, 2, 5, 6], "valid": [3, 7], "tstid": [4, 8]})


def imagenette(root):
    for split, n in (("train", 3), ("val", 2)):
        for wnid in ("n01440764", "n02979186"):
            for i in range(n):
                put(root / f"imagenette2/{split}/{wnid}/{wnid}_{i}.JPEG".replace("JPEG", "jpeg"), image(i + n, "JPEG"))


def cifar10(root, monkeypatch):
    base, rng = root / "cifar-10-batches-py", np.random.default_rng(0)
    lists = {"train_list": ("data_batch_1", "data_batch_2"), "test_list": ("test_batch",)}

    def write(name, content):
        file = put(base / name, pickle.dumps(content))
        return [name, hashlib.md5(file.read_bytes()).hexdigest()]

    for key, names in lists.items():
        made = [write(n, {"data": rng.integers(0, 255, (6, 3072), np.uint8), "labels": [0, 1] * 3}) for n in names]
        monkeypatch.setattr(datasets.CIFAR10, key, made)
    meta = {"filename": "batches.meta", "key": "label_names"}
    meta["md5"] = write("batches.meta", {"label_names": ["cat", "airplane"]})[1]
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Make the four datasets in small."""
    for name in ("pets", "flowers", "imagenette"):
        globals()[name](tmp_path)
    cifar10(tmp_path, monkeypatch)
    files = {"image": ("", None), "label": ("imagelabels.mat", None), "setid": ("setid.mat", None)}
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", files)
    monkeypatch.setattr(downloads, "responds", lambda url: pytest.fail("the network was used"))
    return tmp_path


def load(root, name, **options):
    return dataset.load_dataset(data(root, kind="torchvision", name=name, **options), 8)


@pytest.mark.parametrize(
    ("name", "classes", "counts"),
    [
        ("pets", ("Bengal", "Great Pug"), (4, 2, 4)),
        ("flowers", ("blackberry lily", "pink primrose"), (4, 2, 2)),
        ("imagenette", ("cassette player", "tench"), (6, 4, 0)),
        ("cifar10", ("airplane", "cat"), (10, 2, 6)),
    ],
)
def test_data_sets_keep_their_splits_and_classes(root, name, classes, counts):
    opened = load(root, name)
    assert opened.table.classes == classes
    assert tuple(len(opened.rows(split)) for split in (TRAIN, VALID, TEST)) == counts
    assert opened.image(0, 8).dtype == np.uint8 and opened.image(0, 8).shape[2] == 3
    assert (opened.table.sizes > 0).all() and opened.table.bad == ()


def test_labels_are_those_of_the_images(root):
    table = load(root, "pets").table
    for path, label, split in zip(table.paths, table.labels, table.splits, strict=True):
        assert path.startswith("images/" + ("Bengal", "great_pug")[label])
        assert (int(path[-5]) > 2) == (SPLITS[split] == "test")


def test_arrays_keep_their_pixels(root):
    opened, held = load(root, "cifar10"), datasets.CIFAR10(root, train=False)
    row = opened.table.paths.index("test/00004")
    assert np.array_equal(opened.image(row, 8), held.data[4])
    assert opened.table.classes[opened.table.labels[row]] == "cat"
    assert opened.table.hashes[row] == hashlib.sha256(held.data[4].tobytes()).hexdigest()
    assert opened.table.heights[row] == opened.table.widths[row] == 32


def test_limits_folds_and_classes_apply_to_data_sets(root, tmp_path):
    few, everything = load(root, "cifar10", limit=8), load(root, "cifar10")
    assert len(few.table) == 8 + len(few.rows(TEST)), "no test image is left out"
    assert len(few.rows(TEST)) == len(everything.rows(TEST)) > 0
    assert len(load(root, "cifar10", fold=2).rows(VALID)) == 2
    changes = put(tmp_path / "classes.csv", b"from,to\ncat,animal\n")
    assert load(root, "cifar10", classes=str(changes)).table.classes == ("airplane", "animal")
    with pytest.raises(UserError, match=r"data\.fold=0: the data already names .*data\.name=flowers"):
        load(root, "flowers", fold=0)


def test_every_name_is_a_data_set():
    from thaw.config.validate import TORCHVISION_SETS

    assert set(TORCHVISION_SETS) == downloads.SETS.keys()
    assert all(hasattr(datasets, public.kind) for public in downloads.SETS.values())


# ---- downloading


def refused(root, name, code):
    with pytest.raises(UserError) as caught:
        load(root, name)
    assert caught.value.code == code and "\n" not in caught.value.line
    return caught.value.line


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "responds", lambda url: False)
    for key in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(key, raising=False)
    line = refused(tmp_path / "sets", "pets", 5)
    assert line.startswith(
        f"data.name=pets: {tmp_path}/sets/oxford-iiit-pet does not exist and https://www.robots.ox.ac.uk"
    )
    assert "does not answer" in line and "data.root" in line
    assert not (tmp_path / "sets").exists()


def test_a_download_appears_whole(tmp_path, monkeypatch):
    fetched = []

    class OxfordIIITPet(datasets.OxfordIIITPet):
        def __init__(self, root, download=False, **args):
            if download:
                fetched.append(root)
                assert not (tmp_path / "oxford-iiit-pet").exists()
                pets(type(tmp_path)(root))
                put(type(tmp_path)(root) / "oxford-iiit-pet/images.tar.gz")
            super().__init__(root, **args)

    monkeypatch.setattr(downloads, "responds", lambda url: True)
    monkeypatch.setattr(downloads, "sets", lambda: SimpleNamespace(OxfordIIITPet=OxfordIIITPet))
    assert len(load(tmp_path, "pets").table) == 10 and len(load(tmp_path, "pets").table) == 10
    assert len(fetched) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["oxford-iiit-pet"]
    assert sorted(path.name for path in (tmp_path / "oxford-iiit-pet").iterdir()) == ["annotations", "images"]


def test_a_download_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def broken(root, download=False, **args):
        put(type(tmp_path)(root) / "oxford-iiit-pet/images/a.jpg")
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(downloads, "responds", lambda url: True)
    monkeypatch.setattr(downloads, "sets", lambda: SimpleNamespace(OxfordIIITPet=broken))
    assert "cannot be downloaded from https://www.robots.ox.ac.uk: reset by peer" in refused(tmp_path, "pets", 5)
    assert list(tmp_path.iterdir()) == []


def test_an_incomplete_dataset_is_refused(root):
    (root / "oxford-iiit-pet/annotations/test.txt").unlink()
    line = refused(root, "pets", 3)
    assert f"{root}/oxford-iiit-pet is incomplete (" in line and "run the same command again to download it" in line
    (root / "imagenette2/val/n01440764").rename(root / "away")
    assert "tench" in refused(root, "imagenette", 3)
