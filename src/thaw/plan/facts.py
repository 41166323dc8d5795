"""The facts about data and model that a plan needs, as far as they are known before either is loaded."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from hashlib import sha256
from math import ceil

from thaw.config.schema import Settings


@dataclass(frozen=True)
class Facts:
    """Numbers of the data and the model that a plan needs; None if not yet known, shown as '?'."""

    train: int | None = None
    valid: int | None = None
    test: int | None = None
    classes: int | None = None
    native_size: int | None = None
    multiple: int | None = None
    layers: int | None = None
    most_batch: int | None = None  # the largest batch that fits into memory, if a larger one was tried


def known_facts(settings: Settings, recall: Callable[[str], dict]) -> Facts:
    """Return what is known before loading: from the yaml of shipped data and backbones, else from the last run."""
    known = {}
    for name in fact_names(settings):
        known |= {fact: n for fact, n in recall(name).items() if isinstance(n, int) and (n > 0 or fact == "test")}
    data, shipped = settings.data, settings.data.facts
    if shipped.images is not None:
        known |= {"test": (data.test or 0) if shipped.test is None else shipped.test, "classes": shipped.classes}
        if data.fold is None:  # the size of a fold depends on the number of images of each class
            images = min(shipped.images, data.limit or shipped.images)
            valid = ceil(data.valid * images)
            if valid < images:  # else loading the data reports the error
                known |= {"train": images - valid, "valid": valid}
    known |= {name: value for name, value in vars(settings.backbone.facts).items() if value is not None}
    return Facts(**{field.name: known.get(field.name) for field in fields(Facts)})


def fact_names(settings: Settings) -> tuple[str, str]:
    """Return the names under which the store keeps the facts of the data and of the backbone."""
    unread = ("facts", "workers", "crop_pct")
    which = {key: value for key, value in vars(settings.data).items() if key not in unread and value is not None}
    data = sha256(repr(which).encode()).hexdigest()[:16]
    return f"data_{data}", f"backbone_{sha256(settings.backbone.name.encode()).hexdigest()[:16]}"
