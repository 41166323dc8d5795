"""The names of networks, read from the source of timm.

Importing timm takes seconds, which is too long a wait for the message about a typing error.
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from thaw.runtime.errors import UserError, nearest

LOCAL = "local-dir:"
ELSEWHERE = ("hf-hub:", "hf_hub:", LOCAL)  # prefixes of networks outside timm's registry
REGISTERED = re.compile(r"^@register_model\s+def (\w+)\(", re.M)
TAGGED = re.compile(r"""^\s+['"](\w+\.[\w.]+)['"]\s*:""", re.M)
DEPRECATED = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.M | re.S)  # timm still accepts them


@cache
def timm_names() -> frozenset[str]:
    """Return every name that `timm.is_model` accepts."""
    names = set()
    for file in (Path(find_spec("timm").origin).parent / "models").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        names.update(REGISTERED.findall(text))
        for old in DEPRECATED.findall(text):
            names.update(re.findall(r"'(\w+)'\s*:", old))
    return frozenset(names)


@cache
def tagged_names() -> frozenset[str]:
    """Return names with a tag for their weights, such as resnet50.a1_in1k, except those that timm builds from parts."""
    files = (Path(find_spec("timm").origin).parent / "models").glob("*.py")
    return frozenset(name for file in files for name in TAGGED.findall(file.read_text(encoding="utf-8")))


def has_known_weights(name: str) -> bool:
    """Return whether a name has no tag for its weights, or one that is found in the source of timm."""
    return name.startswith(ELSEWHERE) or "." not in name or name in tagged_names()


def check_backbone(name: str, own: Iterable[str] = ()) -> None:
    """Raise UserError (exit 2) if timm does not know a name, with the nearest names of timm and of `own`."""
    if not name.startswith(ELSEWHERE) and (base := name.partition(".")[0]) not in timm_names():
        close = nearest(base.lower(), sorted({*own, *timm_names()})) or "--help lists some, timm.list_models() all"
        raise UserError(2, f"backbone={name}: no such network; {close}")
