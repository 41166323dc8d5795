"""Reads a report.html back, and checks that it needs nothing from elsewhere."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br"}
NASTY = "<script>alert(1)</script>&\"' été $x_1^2$"


class Page(HTMLParser):
    """Collects tags and text, and refuses tags that do not close in order."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def page_of(folder) -> tuple[str, Page]:
    """The page, checked to need nothing from elsewhere and to run nothing."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        for key in ("src", "href", "xlink:href"):
            beside = tag == "a" and (folder / attrs["href"]).is_file()  # to click, not to load
            assert beside or attrs.get(key, "#").startswith(("data:", "#"))
    assert not re.search(r"url\((?!#)|@import|https?://", text)
    return text, page
