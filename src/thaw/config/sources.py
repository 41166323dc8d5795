"""The data sources: one row for each `data.kind`, with all that the rest of thaw must know of it.

A source is a function, named as `module:function`, that is imported when its images are first needed:

* one that lists images takes (settings of data, notes to add to) and returns a `thaw.data.listing.Listing`;
* one that draws images takes (settings of data, side in pixels) and returns a `thaw.data.dataset.Dataset`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Source:
    """What is known of a data source before it is asked for images."""

    function: str  # "module:function"
    options: tuple[str, ...] = ()  # settings of data that this source alone reads
    suffixes: tuple[str, ...] = ()  # endings of a `data.root` that is a file of this source; none: it is a folder
    folders: tuple[str, ...] = ()  # settings of data that name further folders, which must exist
    group_columns: bool = False  # data.group may be the name of a column, instead of a regular expression
    draws: bool = False  # the function draws its images: there is no data.root
    downloads: bool = False  # the function fetches its images if data.root lacks them

    @property
    def local(self) -> bool:
        """Whether the images lie on this machine's disk, so that they are listed before the plan is made."""
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
        suffixes=(".csv", ".tsv"),
        folders=("images",),
        group_columns=True,
    ),
    "torchvision": Source("thaw.data.downloads:listing", options=("name",), downloads=True),
}
LISTED = tuple(kind for kind, source in SOURCES.items() if not source.draws)
# Settings of data that only sources which list images read.
LIST_OPTIONS = ("root", "group", "classes", "labels", "max_bad", "max_pixels", "min_side", "allow_missing", "leak")


def source_at(root: str) -> str:
    """Return the kind of source that `data.root` asks for by its ending: folder, unless it is another's file."""
    return next((kind for kind, source in SOURCES.items() if root.lower().endswith(source.suffixes)), "folder")


def readers_of_options() -> dict[str, tuple[str, ...]]:
    """Return, for each setting of data that some sources do not read, the kinds that do."""
    own = {option: (kind,) for kind, source in SOURCES.items() for option in source.options}
    return dict.fromkeys(LIST_OPTIONS, LISTED) | own
