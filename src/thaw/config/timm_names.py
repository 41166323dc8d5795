"""The names of networks, read from timm's source: importing timm takes seconds, a typing error should not."""

import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from thaw.runtime.errors import UserError, nearest

LOCAL = "local-dir:"
ELSEWHERE = ("hf-hub:", "hf_hub:", LOCAL)  # networks that timm fetches or reads by these names
NOW = re.compile(r"^@register_model\s+def (\w+)\(", re.M)
TAGGED = re.compile(r"""^\s+['"](\w+\.[\w.]+)['"]\s*:""", re.M)
BEFORE = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.M | re.S)  # still taken


@cache
def timm_names() -> frozenset[str]:
    """Every name that `timm.is_model` takes."""
    names = set()
    for file in (Path(find_spec("timm").origin).parent / "models").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        names.update(NOW.findall(text))
        for old in BEFORE.findall(text):
            names.update(re.findall(r"'(\w+)'\s*:", old))
    return frozenset(names)


@cache
def tagged_names() -> frozenset[str]:
    """Names with their weights, such as resnet50.a1_in1k; not all of them, for timm makes some of parts."""
    files = (Path(find_spec("timm").origin).parent / "models").glob("*.py")
    return frozenset(name for file in files for name in TAGGED.findall(file.read_text(encoding="utf-8")))


def has_known_weights(name: str) -> bool:
    """Return whether a name asks for no certain weights of timm's, or for some that are found in its source."""
    return name.startswith(ELSEWHERE) or "." not in name or name in tagged_names()


def check_backbone(name: str, own: Iterable[str] = ()) -> None:
    """Errors: a name that is neither timm's nor of `own`, exit 2, with the nearest three."""
    if not name.startswith(ELSEWHERE) and (base := name.partition(".")[0]) not in timm_names():
        close = nearest(base.lower(), sorted({*own, *timm_names()})) or "--help lists some, timm.list_models() all"
        raise UserError(2, f"backbone={name}: no such network; {close}")
