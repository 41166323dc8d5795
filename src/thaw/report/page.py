"""Fill the templates of report.html, a page that needs nothing but a browser.

A template escapes whatever it is given, but for the drawn <svg> that `style.svg` marks as safe.
"""

import base64
from io import BytesIO
from pathlib import Path

from jinja2 import DictLoader, Environment, StrictUndefined

ROOMS = Path(__file__).parents[1]  # each has templates of its own, which are named from here
# Read when the module is, so that a long run ends with the templates of the code it started with.
TEMPLATES = {
    file.relative_to(ROOMS).as_posix(): file.read_text(encoding="utf-8") for file in ROOMS.glob("*/templates/[!.]*")
}
ENVIRONMENT = Environment(
    loader=DictLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def render(template: str, **data) -> str:
    """Return a page: a template, such as report/templates/run.html.j2, filled with this data."""
    return ENVIRONMENT.get_template(template).render(data)


def data_uri(image: bytes, form: str = "png") -> str:
    """Return an encoded image as a data: URI; '' of no bytes."""
    return f"data:image/{form};base64,{base64.b64encode(image).decode()}" if image else ""


def thumbnail(image) -> tuple[str, str]:
    """Return a data: URI of an image and its class on the page.

    image: uint8 array; a small one is kept exactly and shown in squares, a large one is a JPEG of at most 320 pixels.
    """
    from PIL import Image

    shown, file = Image.fromarray(image), BytesIO()
    form, kind = ("png", "small") if max(shown.size) < 100 else ("jpeg", "")
    shown.thumbnail((320, 320))
    shown.save(file, form, quality=85)
    return data_uri(file.getvalue(), form), kind
