"""A report page as tests read it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from harness.report.page import write_report
from harness.report.queries import read_sweep
from harness.report.tables import Links
from tests.report.factory import SweepFolder, tiny_png

VOID = {"meta", "br", "img", "link", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Elements with attributes, text outside of style and script, and whether tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.balanced = True
        self.feed(html)
        self.balanced = self.balanced and not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.balanced = self.balanced and bool(self.open) and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def report(folder: SweepFolder, tmp_path: Path, links: Links | None = None) -> tuple[Path, str, Page]:
    path = write_report(read_sweep(folder.path), tmp_path / "reports", links=links)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert page.balanced
    return path, html, page


def sentences(page: Page) -> str:
    return re.sub(r"\s+", " ", page.text)


def full(tmp_path: Path) -> SweepFolder:
    """Two label maps, two architectures, three sizes, and a picture of the best."""
    strata = {"labels": ["tiger7", "unicorn3"]}
    folder = SweepFolder(tmp_path, name="both", strata=strata)
    for labels in ("tiger7", "unicorn3"):
        for architecture, bias in (("unet", 0.0), ("unet_plain", 0.2)):
            for size in (64, 128, 256, 512):
                uid = folder.trial({"architecture": architecture, "patch_px": size}, labels=labels, error=0.2 + bias)
                tiny_png(folder.path / "trials" / uid / "figures" / "gallery.png")
    return folder
