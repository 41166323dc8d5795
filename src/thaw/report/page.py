"""Rendering of report.html, a self-contained page.

Templates escape all data, except the <svg> figures that `style.svg` marks as safe.
"""

import base64
from io import BytesIO
from pathlib import Path

from jinja2 import DictLoader, Environment, StrictUndefined

PACKAGES = Path(__file__).parents[1]  # template names are relative to this folder
# Read at import, so that a long run ends with the templates of the code it started with.
TEMPLATES = {
    file.relative_to(PACKAGES).as_posix(): file.read_text(encoding="utf-8")
    for file in PACKAGES.glob("*/templates/[!.]*")
}
ENVIRONMENT = Environment(
    loader=DictLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def render(template: str, **data) -> str:
    """Render a template, such as report/templates/run.html.j2, with this data."""
    return ENVIRONMENT.get_template(template).render(data)


def data_uri(image: bytes, form: str = "png") -> str:
    """Return an encoded image as a data: URI, or '' if there are no bytes."""
    return f"data:image/{form};base64,{base64.b64encode(image).decode()}" if image else ""


def thumbnail(image) -> tuple[str, str]:
    """Return an image as a data: URI, and its CSS class.

    `image`: uint8 array. A small one is stored without loss and shown pixelated; a large one becomes a JPEG of at most
    320 pixels.
    """
    from PIL import Image

    shown, file = Image.fromarray(image), BytesIO()
    form, kind = ("png", "small") if max(shown.size) < 100 else ("jpeg", "")
    shown.thumbnail((320, 320))
    shown.save(file, form, quality=85)
    return data_uri(file.getvalue(), form), kind
