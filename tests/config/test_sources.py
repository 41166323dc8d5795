"""Tests that the table of data sources agrees with its functions, the settings and conf/."""

import inspect
from dataclasses import fields

import pytest

from thaw.config.paths import ROOT
from thaw.config.schema import Data
from thaw.config.sources import LISTED, SOURCES, readers_of_options, source_at

SETTINGS = {field.name for field in fields(Data)}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_function_exists_with_these_parameters(kind):
    source = SOURCES[kind]
    assert source.function.startswith("thaw.data.")
    assert list(inspect.signature(source.load()).parameters) == ["data", "side" if source.draws else "notes"]


@pytest.mark.parametrize("kind", SOURCES)
def test_its_settings_and_its_yaml_exist(kind):
    source = SOURCES[kind]
    assert set(source.options) <= SETTINGS and {*source.folders, *source.texts} <= set(source.options)
    assert (ROOT / "conf" / "data" / f"{kind}.yaml").exists()


@pytest.mark.parametrize(
    ("root", "kind"),
    [("~/photos", "folder"), ("a/LABELS.CSV", "csv"), ("x.tsv", "csv"), ("photos.xyz", "folder"), ("csv", "folder")],
)
def test_the_ending_of_root_chooses_the_source(root, kind):
    assert source_at(root) == kind


def test_which_sources_read_a_setting():
    readers = readers_of_options()
    assert {"folder", "csv", "torchvision"} <= set(LISTED) and not {"digits", "shapes"} & set(LISTED)
    assert readers["root"] == readers["leak"] == LISTED
    assert "csv" in readers["images"] and "digits" not in readers["test"] and "valid" not in readers
    assert readers.keys() <= SETTINGS
