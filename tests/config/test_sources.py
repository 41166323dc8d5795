"""The table of data sources agrees with the functions, the settings and the yamls that it speaks of."""

import inspect
from dataclasses import fields

import pytest

from thaw.config.paths import ROOT
from thaw.config.schema import Data
from thaw.config.sources import LISTED, SOURCES, readers_of_options, source_at

SETTINGS = {field.name for field in fields(Data)}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_function_exists_and_takes_what_the_table_says(kind):
    source = SOURCES[kind]
    assert source.function.startswith("thaw.data.")
    assert list(inspect.signature(source.load()).parameters) == ["data", "side" if source.draws else "notes"]


@pytest.mark.parametrize("kind", SOURCES)
def test_its_settings_exist_and_it_is_a_choice(kind):
    source = SOURCES[kind]
    assert {*source.options, *source.folders} <= SETTINGS
    assert (ROOT / "conf" / "data" / f"{kind}.yaml").exists()


@pytest.mark.parametrize(
    ("root", "kind"),
    [("~/photos", "folder"), ("a/LABELS.CSV", "csv"), ("x.tsv", "csv"), ("photos.json", "folder"), ("csv", "folder")],
)
def test_the_ending_of_root_chooses_the_source(root, kind):
    assert source_at(root) == kind


def test_which_sources_read_a_setting():
    readers = readers_of_options()
    assert LISTED == ("folder", "csv", "torchvision")
    assert readers["root"] == readers["leak"] == LISTED
    assert readers["images"] == ("csv",) and readers["test"] == ("shapes",) and "valid" not in readers
    assert readers.keys() <= SETTINGS
