"""Reads report.html, and checks that it is self-contained."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br"}
NASTY = "<script>alert(1)</script>&\"' été $x_1^2$"


class Page(HTMLParser):
    """A parser that collects tags and text, and fails on tags that do not close in order."""

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
    """Return the text and parsed page of a folder; check that it loads no other file and runs no script."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        for key in ("src", "href", "xlink:href"):
            beside = tag == "a" and (folder / attrs["href"]).is_file()  # a link, loads nothing
            assert beside or attrs.get(key, "#").startswith(("data:", "#"))
    assert not re.search(r"url\((?!#)|@import|https?://", text)
    return text, page
