"""Fonts for names in any script: DejaVu Sans, which comes with matplotlib, then those installed on the machine."""

import logging
from functools import cache

FAMILIES = (  # fonts of Linux, macOS and Windows for scripts that DejaVu Sans lacks
    "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo",
    "Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip


@cache
def families() -> tuple[str, ...]:
    """Return the font families in which matplotlib looks for a letter, in order."""
    from matplotlib.font_manager import get_font_names

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it warns of missing font weights
    installed = set(get_font_names())
    return "DejaVu Sans", *(family for family in FAMILIES if family in installed)


@cache
def file_for(text: str) -> str:
    """Return the file of the first font that has every letter of the text, or of DejaVu Sans if none has."""
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    files = [findfont(family) for family in (families() if not text.isascii() else families()[:1])]
    letters = {ord(letter) for letter in text if not letter.isspace()}
    return next((file for file in files if letters <= FT2Font(file).get_charmap().keys()), files[0])
