"""The data sources: one row for each `data.kind`, with all that other packages need to know about it.

A source is a function, named as `module:function`, that is imported when its images are first needed:

* one that lists images takes (settings of data, notes to add to) and returns a `thaw.data.listing.Listing`;
* one that draws images takes (settings of data, side in pixels) and returns a `thaw.data.dataset.Dataset`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Source:
    """The properties of a data source."""

    function: str  # "module:function"
    options: tuple[str, ...] = ()  # fields of Data that not every source reads
    texts: tuple[str, ...] = ()  # those of them that are free text, which is quoted for Hydra
    folders: tuple[str, ...] = ()  # those of them that are folders, which must exist
    suffixes: tuple[str, ...] = ()  # endings of `data.root` if it is a file; (): it is a folder
    group_columns: bool = False  # data.group may be the name of a column, instead of a regular expression
    draws: bool = False  # the function draws its images and needs no data.root
    downloads: bool = False  # the function downloads its images if data.root lacks them

    @property
    def local(self) -> bool:
        """Whether its images can be listed before the plan is made: they are neither drawn nor downloaded."""
        return not (self.draws or self.downloads)

    def load(self) -> Callable:
        """Import the function."""
        module, name = self.function.split(":")
        return getattr(import_module(module), name)


SOURCES = {
    "digits": Source("thaw.data.drawn:digits", draws=True),
    "shapes": Source("thaw.data.drawn:shapes", options=("detail", "test"), draws=True),
    "folder": Source("thaw.data.folder:listing"),
    "csv": Source(
        "thaw.data.csv_source:listing",
        options=("images", "path_column", "label_column", "split_column"),
        texts=("path_column", "label_column", "split_column"),
        folders=("images",),
        suffixes=(".csv", ".tsv"),
        group_columns=True,
    ),
    "torchvision": Source("thaw.data.downloads:listing", options=("name",), downloads=True),
}
LISTED = tuple(kind for kind, source in SOURCES.items() if not source.draws)
# Settings of data that only sources with a list of images read.
LIST_OPTIONS = ("root", "group", "classes", "labels", "max_bad", "max_pixels", "min_side", "allow_missing", "leak")


def source_at(root: str) -> str:
    """Return the kind of source that `data.root` implies: by the ending of a file, else folder."""
    return next((kind for kind, source in SOURCES.items() if root.lower().endswith(source.suffixes)), "folder")


def readers_of_options() -> dict[str, tuple[str, ...]]:
    """Map each setting of data that not every source reads to the kinds that read it."""
    own = {option for source in SOURCES.values() for option in source.options}
    readers = {option: tuple(kind for kind, one in SOURCES.items() if option in one.options) for option in own}
    return dict.fromkeys(LIST_OPTIONS, LISTED) | readers


def root_form(kind: str | None) -> str:
    """Return what `data.root` is for a kind of source: FOLDER, or FILE.csv."""
    suffixes = SOURCES[kind].suffixes if kind in SOURCES else ()
    return f"FILE{suffixes[0]}" if suffixes else "FOLDER"
