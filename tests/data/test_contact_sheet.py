"""Contact sheets of what the network sees, drawn by a run and by scripts/show_batch.py."""

from pathlib import Path

import numpy as np
import pytest
import show_batch
from PIL import Image

from thaw.config import compose, paths
from thaw.data import contact_sheet
from thaw.data.contact_sheet import GAP, LINE
from thaw.runtime import fonts
from thaw.runtime.errors import UserError


def test_a_sheet_holds_every_image_exactly_and_its_text():
    images = [np.full((32, 32, 3), 20 * i + 10, np.uint8) for i in range(10)]
    texts = ["Straße", "", "a very long name of a class indeed", *"3456789"]
    image = np.asarray(contact_sheet.contact_sheet(images, texts))
    assert image.shape == (GAP + 2 * (96 + LINE + GAP), GAP + 8 * (96 + GAP), 3)
    for i in range(10):
        y, x = GAP + i // 8 * (96 + LINE + GAP), GAP + i % 8 * (96 + GAP)
        assert (image[y : y + 96, x : x + 96] == 20 * i + 10).all()
        written = (image[y + 96 : y + 96 + LINE, x : x + 96] < 128).any()
        assert written == bool(texts[i])
        assert (image[y : y + 96 + LINE, x + 96 : x + 96 + GAP] == 255).all(), "no text runs into the next"


def test_texts_of_any_script_and_undecodable_bytes():
    for text in ("äöü", "a\u0308", "жук", "猫", "\udcff.jpg"):
        assert contact_sheet.font(text).getlength(contact_sheet.shortened(text, 96)) <= 96


def test_a_text_gets_the_first_font_that_has_all_its_letters():
    assert fonts.families()[0] == "DejaVu Sans"
    for text in ("cat", "étoile", "жук", "\U000f0000 in none"):
        assert fonts.file_for(text).endswith("DejaVuSans.ttf")


def test_show_batch_draws_each_size_of_the_plan(tmp_path, monkeypatch, capsys):
    words = ["data.limit=100", "size=32", "resize=double", f"store.dir={tmp_path}/store", "threads=1"]
    monkeypatch.setattr("sys.argv", ["show_batch.py", *words, "--out", str(tmp_path / "out")])
    show_batch.main()
    files = [tmp_path / "out" / name for name in ("batch_16px.png", "batch_32px.png", "valid_32px.png")]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    assert all(Image.open(file).width == GAP + 8 * (96 + GAP) for file in files)


def test_a_sheet_shows_how_images_are_mixed(tmp_path, monkeypatch, capsys):
    words = ["data.limit=100", "size=32", "augment=none", "augment.cutmix=1", f"store.dir={tmp_path}/store"]
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["show_batch.py", *words])
    texts, real = [], contact_sheet.contact_sheet
    monkeypatch.setattr(
        contact_sheet, "contact_sheet", lambda images, of, *rest: texts.append(of) or real(images, of, *rest)
    )
    show_batch.main()
    show_batch.main()
    folders = {Path(line).parent for line in capsys.readouterr().out.split()}
    assert len(folders) == 2, "no sheet is overwritten"
    both = {tuple(int(line.partition("%")[0]) for line in text.split("\n")) for text in texts[0]}
    assert len(both) == 1 and sum(both.pop()) == 100
    assert not any("%" in text for text in texts[1]), "validation is not mixed"


@pytest.mark.parametrize("words", [["--out", "here"], ["--out=here"]])
def test_the_option_for_the_folder_of_the_sheets(words):
    assert show_batch.folder_of(["seed=1", *words]) == (["seed=1"], Path("here"))
    with pytest.raises(UserError, match="--out: expected one argument"):
        show_batch.folder_of(["--out"])


def test_show_batch_looks_up_a_backbone_without_a_yaml(compose):
    settings = compose("backbone=test_vit")
    assert show_batch.look(settings) == {"native_size": 160, "multiple": 16, "layers": 8}


@pytest.mark.parametrize(
    ("words", "line"),
    [(["augmnt=x"], "did you mean"), (["-m", "seed=1,2"], "one value for each setting"), (["size=5"], "size=5")],
)
def test_show_batch_refuses_settings_as_train_does(words, line):
    with pytest.raises(UserError, match=line) as caught:
        compose.compose_settings(words)
    assert caught.value.code == 2
