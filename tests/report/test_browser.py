"""Pages in a real browser: silent, alone, sortable, filterable, printable; on a phone and for a screen reader."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from harness.config.labels import LabelMap
from harness.report.compare import compare
from harness.report.compare_page import write_comparison
from harness.report.page import write_report
from harness.report.queries import read_sweep
from harness.report.sides import sides_of
from harness.report.tables import Links
from harness.report.wording import ABSENT
from tests.report.factory import Cohort, SweepFolder, tiny_png
from tests.report.hostile import HOSTILE

playwright = pytest.importorskip("playwright.sync_api", reason="the dev group's playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make browser` installs Debian's")

EXAMPLE = Path(__file__).resolve().parents[2] / "reports" / "example" / "index.html"
# A4 less the margins of page.css's @page, in CSS pixels of 1/96 inch.
PAPER_PX = round((210 - 2 * 14) / 25.4 * 96)
PHONE_PX = 390


@dataclass
class Seen:
    """What a page did while it was open."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def browser() -> Iterator[playwright.Browser]:
    """One browser for all tests: its start takes a second."""
    with playwright.sync_playwright() as play:
        # Without a sandbox, since CI runs as root; the pages are our own.
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The committed example, a report with every section written now, a comparison, and one of hostile names."""
    folder = tmp_path_factory.mktemp("pages")
    everything = full(folder / "full")
    sides = sides_of(["u003", "u004"], read_sweep(everything.path))
    return {
        "example": EXAMPLE,
        "full": write_report(read_sweep(everything.path), folder / "reports", links=Links("http://127.0.0.1:5000")),
        "compare": write_comparison(compare(sides), folder / "reports")[0],
        "hostile": write_report(read_sweep(hostile(folder / "hostile").path), folder / "reports"),
    }


def full(home: Path) -> SweepFolder:
    """40 trials on two label maps with pictures, pruned and failed ones, references, replicates and a source list."""
    folder = SweepFolder(
        home, name="full", strata={"labels": ["tiger7", "unicorn3"]},
        reference_rows=[{"name": "U-Net, paper", "labels": "unicorn3", "scores": {"iou": 0.57794, "dice": 0.713}}],
    )  # fmt: skip
    tiny_png(folder.path / "figures" / "class_ratio_tiger7.png")
    for number in range(40):
        architecture = ("unet", "unet_plain", "attention_unet")[number % 3]
        labels = ("tiger7", "unicorn3")[number // 20]
        state = {7: "pruned", 8: "failed"}.get(number % 20, "complete")
        uid = folder.trial(
            {"architecture": architecture, "patch_px": 64 * 2 ** (number % 4), "learning_rate": 1e-4 * (number + 1)},
            labels=labels, state=state, error=0.2 + 0.01 * number, cause="nan" if state == "failed" else None,
            result={"paper": {"paper/val/iou": 0.4}},
        )  # fmt: skip
        tiny_png(folder.path / "trials" / uid / "figures" / "confusion.png")
    return folder


def hostile(home: Path) -> SweepFolder:
    """Every hostile name as model, stratum, parameter, label map, class, patient, centre and sweep."""
    cohort = Cohort(rois=4, patients=2, centres=HOSTILE[:2])
    folder = SweepFolder(home, name='"><script>alert(3)</script>', cohort=cohort)
    names = [name for name in HOSTILE if name.strip()]
    ids = [[1], [2], [3], [4], [5], [6], [7]]
    for start in range(0, len(names), 7):
        classes = dict(zip(names[start : start + 7], ids, strict=False))
        labels = LabelMap.model_validate({"name": names[start], "classes": classes, "ignore_ids": []})
        for name in classes:
            folder.trial({"architecture": name, name: name, "patch_px": 64}, labels=labels, stratum=name, mark=name)
    for name in names:
        folder.trial({"architecture": "unet"}, state="failed", cause=name, message=name)
    return folder


def opened(browser: playwright.Browser, page: Path, **context: object) -> tuple[playwright.Page, Seen]:
    """The page in a tab of its own; requests that leave its folder are refused and noted."""
    tab, seen = browser.new_context(**context).new_page(), Seen()

    def route(found: playwright.Route) -> None:
        url = urlsplit(found.request.url)
        inside = url.scheme == "file" and Path(unquote(url.path)).is_relative_to(page.parent)
        seen.requests.append(found.request.url)
        if inside:
            found.continue_()
        else:
            seen.complaints.append(f"left the page's folder: {found.request.url}")
            found.abort()

    tab.route("**/*", route)
    tab.on("console", lambda said: seen.complaints.append(f"{said.type}: {said.text}"))
    tab.on("pageerror", lambda error: seen.complaints.append(f"error: {error}"))
    tab.on("requestfailed", lambda failed: seen.complaints.append(f"failed: {failed.url}"))
    tab.on("dialog", lambda dialog: (seen.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    tab.goto(page.as_uri())
    return tab, seen


ALL = pytest.mark.parametrize("name", ["example", "full", "compare", "hostile"])


@ALL
def test_a_page_is_silent_alone_and_whole(browser: playwright.Browser, pages: dict[str, Path], name: str) -> None:
    """No console line, no request out of its folder, no broken picture; on a phone only boxes scroll sideways."""
    tab, seen = opened(browser, pages[name], viewport={"width": PHONE_PX, "height": 800})
    tab.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    tab.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    tab.evaluate("""Promise.all([...document.images].map(image => image.complete ||
      new Promise(done => { image.onload = image.onerror = done; })))""")
    assert tab.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)") == []
    assert len(seen.requests) == 1 + tab.evaluate("new Set([...document.images].map(image => image.src)).size")
    assert seen.complaints == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE_PX
    tab.context.close()


@pytest.mark.parametrize("name", ["example", "full", "compare"])
def test_paper_has_every_row_and_no_table_is_cut(
    browser: playwright.Browser, pages: dict[str, Path], name: str
) -> None:
    """In print all rows, folded parts and figures lie within A4's width, even after a filter."""
    tab, _ = opened(browser, pages[name], viewport={"width": PAPER_PX, "height": 900})
    for field_ in tab.locator("input[type=search]").all()[:1]:
        field_.fill("no row has this")
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("[...document.querySelectorAll('tbody tr')].filter(row => !row.offsetHeight).length") == 0
    wide = """[...document.querySelectorAll("table, svg.figure, img, pre")]
      .filter(found => found.getBoundingClientRect().right > innerWidth + 1)
      .map(found => [found.tagName, found.textContent.slice(0, 80), found.getBoundingClientRect().right])"""
    assert tab.evaluate(wide) == []
    tab.context.close()


@pytest.mark.parametrize(
    ("name", "scheme"), [("example", "light"), ("example", "dark"), ("full", "light"), ("compare", "dark")]
)
def test_axe_finds_nothing_serious(browser: playwright.Browser, pages: dict[str, Path], name: str, scheme: str) -> None:
    """Names, roles, landmarks, heads and contrast by axe-core's rules; in the dark only what colours change."""
    axe = pytest.importorskip("axe_playwright_python", reason="the dev group's axe-playwright-python is not installed")
    # axe comes as a second script, which the page's own policy forbids.
    tab, _ = opened(browser, pages[name], color_scheme=scheme, bypass_csp=True)
    tab.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    tab.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
    found = tab.evaluate("rules => axe.run(document, {resultTypes: ['violations'], ...rules})", rules)
    serious = [
        (rule["id"], rule["nodes"][0]["html"][:200], rule["nodes"][0]["failureSummary"][:300])
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    assert serious == []
    tab.context.close()


def shown(tab: playwright.Page, table: str, column: int) -> list[str]:
    """The first lines of a column's cells in the rows that can be seen, top to bottom."""
    return tab.evaluate(
        """([table, column]) => [...document.querySelectorAll(`${table} tbody tr`)].filter(row => row.offsetHeight)
        .map(row => row.cells[column].innerText.split("\\n")[0].trim())""",
        [table, column],
    )  # type: ignore[no-any-return]  # JSON


@pytest.fixture
def every(browser: playwright.Browser, pages: dict[str, Path]) -> Iterator[playwright.Page]:
    """The full report, its table of every run unfolded and named #every."""
    tab, _ = opened(browser, pages["full"])
    tab.evaluate("""() => { const table = [...document.querySelectorAll("table")]
      .find(table => table.caption.textContent.includes("Every run"));
      table.closest("details").open = true; document.getElementById(table.id).className += " every"; }""")
    yield tab
    tab.context.close()


def test_heads_sort_by_value_with_absent_ones_last(every: playwright.Page, pages: dict[str, Path]) -> None:
    """Scores up, then down; the four runs without one stay at the end; the head tells the order."""
    heads = every.locator(".every thead th").all_inner_texts()
    score = next(index for index, head in enumerate(heads) if head.startswith("IoU"))
    rows = json.loads((pages["full"].parent / "leaderboard.json").read_text(encoding="utf-8"))["rows"]
    scores = sorted(f"{row['scores']['iou']:.3f}" for row in rows if row["scores"])
    button = every.locator(".every thead button").nth(score)
    button.click()
    assert shown(every, ".every", score) == [*scores, *[ABSENT] * 4]
    assert every.locator(".every thead th").nth(score).get_attribute("aria-sort") == "ascending"
    button.click()
    assert shown(every, ".every", score) == [*reversed(scores), *[ABSENT] * 4]


def test_filters_keep_rows_with_every_word_and_without_those_after_a_minus(every: playwright.Page) -> None:
    """40 runs: 14 are unet, 13 unet_plain; the counts are told; order and filter live side by side."""
    table = every.locator(".every")
    field_ = every.locator(f"input[aria-controls={table.get_attribute('id')}]")
    told = every.locator(f".filter:has(input[aria-controls={table.get_attribute('id')}]) output")
    assert told.inner_text() == "40 rows"
    found = {"UNET_plain": 13, "unet_plain failed": 1, "tiger7 pruned": 1, "unet_plain -tiger7": 6, "-": 40, "": 40}
    for words, number in {**found, "attention_unet -pruned -failed": 12, "no such word": 0}.items():
        field_.fill(words)
        assert len(shown(every, ".every", 0)) == number, words
        assert told.inner_text() == ("40 rows" if words in ("", "-") else f"{number} of 40 rows")
    field_.fill("tiger7")
    every.locator(".every thead button").first.click()
    assert shown(every, ".every", 0)[:2] == ["tiger7 #1", "tiger7 #2"] and told.inner_text() == "20 of 40 rows"


def test_a_long_board_starts_short_and_a_filter_looks_at_all_of_it(every: playwright.Page) -> None:
    """12 of 36 rows, then all; with a filter the first 12 of the rows that match."""
    board, more = "table.board", every.locator("button.more").first
    assert len(shown(every, board + ":has(+ *), " + board, 0)) >= 12
    first = "#" + str(every.locator(board).first.get_attribute("id"))
    assert len(shown(every, first, 0)) == 12 and more.inner_text() == "Show all 36 rows"
    field_ = every.locator(f"input[aria-controls={first[1:]}]")
    field_.fill("unicorn3/")
    assert more.is_hidden() and len(shown(every, first, 0)) == 0
    field_.fill("unicorn3")
    assert len(shown(every, first, 0)) == 12 and more.inner_text() == "Show all 18 rows"
    more.click()
    assert len(shown(every, first, 0)) == 18 and more.get_attribute("aria-expanded") == "true"
    field_.fill("")
    assert len(shown(every, first, 0)) == 36


def test_the_keyboard_is_enough(browser: playwright.Browser, pages: dict[str, Path]) -> None:
    """The first stop skips to the result; a filter is typed, and a head sorted by Enter, without a mouse."""
    tab, _ = opened(browser, pages["full"])
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#answer"
    tab.locator("input[type=search]").first.focus()
    assert tab.locator(".hint").first.is_visible()
    tab.keyboard.type("attention")
    for _ in range(3):
        tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Model"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.parentElement.getAttribute('aria-sort')") == "ascending"
    assert re.fullmatch(r"\d+ of 36 rows", tab.locator("output").first.inner_text())
    tab.context.close()


def test_without_scripts_every_row_is_there(browser: playwright.Browser, pages: dict[str, Path]) -> None:
    """No button or field that does nothing, no row hidden."""
    tab, _ = opened(browser, pages["full"], java_script_enabled=False)
    assert tab.locator("button, input").count() == 0
    board = tab.locator("table.board").first
    assert board.locator("tbody tr").count() == board.locator("tbody tr:visible").count() == 36
    tab.context.close()


def test_hostile_names_are_text_in_a_browser(browser: playwright.Browser, pages: dict[str, Path]) -> None:
    """No script but ours, no handler, no dialog; every name stands in the page, hidden characters by their code."""
    tab, seen = opened(browser, pages["hostile"])
    assert seen.complaints == []
    assert tab.locator("script").count() == 1 and tab.locator("iframe, object, embed, link, form").count() == 0
    handlers = "[...document.querySelectorAll('*')].flatMap(found => found.getAttributeNames())"
    assert [name for name in tab.evaluate(handlers) if name.startswith("on")] == []
    assert [url for url in tab.evaluate("[...document.links].map(link => link.protocol)") if url != "file:"] == []
    text = " ".join(tab.evaluate("document.body.textContent").split())
    for name in HOSTILE:
        visible = re.sub(
            "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", lambda c: f"[U+{ord(c[0]):04X}]", name
        )
        assert " ".join(visible.split()) in text, name
    tab.context.close()
