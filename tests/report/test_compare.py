"""Comparing trials: numbers by hand, windows on hand-made masks, and what is refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from harness import scores
from harness.cli import main
from harness.config.labels import BUILTIN, TIGER_IDS
from harness.errors import BadInput, Refused
from harness.regions import Judged
from harness.report.compare import better_of, compare
from harness.report.compare_words import move_text, wins_text
from harness.report.moves import moves
from harness.report.page import write_report
from harness.report.queries import read_sweep
from harness.report.sides import sides_of
from harness.report.windows import disagreement, places, verdict_counts, verdicts
from tests.report.factory import Cohort, SweepFolder, read_json
from tests.report.hostile import HOSTILE

# Source ids 0..7 by unicorn3's columns tumor, stroma, rest: 100 tumor pixels, 1,000 of stroma, 10 undefined.
BEFORE = [[10, 0, 0], [80, 20, 0], [100, 880, 20], *[[0, 0, 0]] * 5]
AFTER = [[0, 10, 0], [90, 10, 0], [79, 901, 20], *[[0, 0, 0]] * 5]


class Parsed(HTMLParser):
    """A page's tags, attributes, text and images."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.images: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        if tag == "img":
            self.images.append({name: value or "" for name, value in attrs})

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def visible(text: str) -> str:
    """Without space and what is not printed: a page may show either in its own way."""
    return "".join(
        char for char in text if char.isprintable() and not char.isspace() and char != "\N{REPLACEMENT CHARACTER}"
    )


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["compare", *(str(argument) for argument in arguments)])


def on_disk(tmp_path: Path, *, rois: int = 6, **document: Any) -> tuple[SweepFolder, Path]:
    """A sweep of two trials with images, masks and predictions that give their matrices. Returns the masks' folder."""
    root = tmp_path / "data"
    cohort = Cohort(rois=rois, side=64)
    folder = SweepFolder(tmp_path / "home", cohort=cohort, data={"root": str(root), "hash": "h"}, **document)
    scheme = scores.Scheme(source_ids=TIGER_IDS, labels=BUILTIN["unicorn3"])
    names = [f"tissue-bcss__TCGA-A2-{n:04d}-DX1__0-0-64-64" for n in range(rois)]
    place = root / "wsirois" / "roi-level-annotations" / "tissue-bcss"
    for kind in ("images", "masks"):
        (place / kind).mkdir(parents=True)
    for number, mask in enumerate(cohort.masks):
        stem = f"TCGA-A2-{number:04d}-DX1_[0, 0, 64, 64]"
        cv2.imwrite(str(place / "masks" / f"{stem}.png"), mask)
        cv2.imwrite(str(place / "images" / f"{stem}.png"), np.dstack([mask * 30] * 3))
    rng = np.random.default_rng(3)
    for share in (0.1, 0.4):
        uid = folder.trial({"architecture": "unet", "learning_rate": share})
        said = folder.path / "trials" / uid / "predictions"
        said.mkdir()
        matrices = []
        for number, (name, mask) in enumerate(zip(names, cohort.masks, strict=True)):
            truth = np.vectorize(lambda i: scheme.labels.class_of(int(i)) or 1)(mask)
            predicted = np.where(rng.random(mask.shape) < share, rng.integers(1, 4, mask.shape), truth).astype(np.uint8)
            cv2.imwrite(str(said / f"{name}.png"), predicted)
            matrix = scores.source_matrix(mask, predicted, scheme)
            matrices.append(scores.RoiMatrices(name, f"p{number % 3}", "TC", False, matrix, matrix))
        text = json.dumps(scores.scores_document(matrices, scheme, epoch=3, epochs=[]))
        (said.parent / "scores.json").write_text(text)
    return folder, place / "masks"


def test_moved_confusions_by_hand(tmp_path: Path) -> None:
    """Ten tumor pixels went from stroma to tumor, 21 of stroma from tumor to stroma; undefined pixels count nowhere."""
    folder = SweepFolder(tmp_path)
    folder.trial(matrix=BEFORE)
    folder.trial(matrix=AFTER)
    first, other = (trial.scored for trial in read_sweep(folder.path).trials)
    assert first is not None and other is not None
    found = moves(first, other)
    assert [(m.true, m.called, m.now, m.pixels, m.share, m.verdict) for m in found] == [
        ("stroma", "tumor", "stroma", 21, 0.021, "better"),
        ("tumor", "stroma", "tumor", 10, 0.1, "better"),
    ]
    assert move_text(found[0]) == "2.1 % of true stroma moved from tumor to stroma: 21 px, better."
    back = moves(other, first)
    assert [(m.called, m.now, m.pixels, m.verdict) for m in back] == [
        ("stroma", "tumor", 21, "worse"), ("tumor", "stroma", 10, "worse"),
    ]  # fmt: skip
    assert moves(first, first) == ()


def test_windows_are_where_most_defined_pixels_are_not_agreed_on() -> None:
    """A block of 8 x 8 and one of 4 x 4 pixels: two windows of 8, the larger first; undefined pixels do not count."""
    truth_HW = np.ones((32, 48), np.uint8)
    truth_HW[20:, :20] = 0
    first_HW = np.ones_like(truth_HW)
    other_HW = first_HW.copy()
    other_HW[0:4, 0:4] = 2  # 16 pixels
    other_HW[8:16, 32:40] = 3  # 64 pixels
    other_HW[20:, :20] = 2  # 240 pixels, undefined
    disagree_HW = disagreement(Judged(truth_HW, (first_HW, other_HW)))
    assert int(disagree_HW.sum()) == 80
    assert [(p.top, p.left, p.height, p.width, p.disagreeing) for p in places(disagree_HW, 8)] == [
        (8, 32, 8, 8, 64), (0, 0, 8, 8, 16),
    ]  # fmt: skip
    # A region smaller than the window is one window; agreement is none.
    assert [(p.height, p.width, p.disagreeing) for p in places(disagree_HW, 256)] == [(32, 48, 80)]
    assert places(np.zeros((9, 9), np.bool_), 8) == []


def test_every_pixel_has_one_verdict() -> None:
    """By hand, for two trials and for three."""
    truth_HW = np.array([[1, 1, 1, 2, 0]], np.uint8)
    first_HW, other_HW = np.array([[1, 1, 2, 1, 1]], np.uint8), np.array([[1, 2, 1, 3, 2]], np.uint8)
    two = verdicts(Judged(truth_HW, (first_HW, other_HW)))
    assert verdict_counts(two, "AB") == {
        "both right": 1, "only A right": 1, "only B right": 1, "both wrong": 1, "undefined": 1,
    }  # fmt: skip
    three = verdicts(Judged(truth_HW, (first_HW, other_HW, np.array([[1, 1, 2, 2, 1]], np.uint8))))
    assert verdict_counts(three, "ABC") == {
        "all right": 1, "only A right": 0, "only B right": 1, "only C right": 1, "several right, not all": 1,
        "all wrong": 0, "undefined": 1,
    }  # fmt: skip


def test_better_needs_more_than_the_last_digit_shown() -> None:
    """Equal to three digits or n/a: nobody; when minimised, the smaller."""
    assert better_of([0.5, 0.6, 0.55], "ABC") == "B"
    assert better_of([0.5, 0.5004], "AB") is None
    assert better_of([0.5, None], "AB") is None
    assert better_of([0.5, 0.6], "AB", minimize=True) == "A"


def test_trials_go_by_all_their_names(tmp_path: Path) -> None:
    """uid, start of one, stratum and number, run, folder; an unknown or unclear one says what there is."""
    folder = SweepFolder(tmp_path, cohort=Cohort(rois=2))
    for number in (1, 2):
        folder.trial({"architecture": "unet", "learning_rate": number / 8}, uid=f"net.{number}a", run_id=f"{number}f0")
    sweep = read_sweep(folder.path)
    other = str(folder.path / "trials" / "net.2a")
    for name in ("net.1a", "net.1", "unicorn3#1", "unicorn3 #1", "1f0", str(folder.path / "trials" / "net.1a")):
        sides = sides_of((name, other), sweep)
        assert [(side.letter, side.trial.uid) for side in sides] == [("A", "net.1a"), ("B", "net.2a")]
    assert len(sides_of((str(folder.path / "trials" / "net.1a"), other), None)) == 2
    with pytest.raises(BadInput, match=r"may be 2 trials of small: write more of the name"):
        sides_of(("net", "net.1a"), sweep)
    with pytest.raises(BadInput, match=r"'nit.1a': no trial of small.*did you mean 'net.1a'\? Choose from net.1a, "):
        sides_of(("nit.1a", "net.1a"), sweep)
    with pytest.raises(Refused, match=r"'net.1' and '1f0' are the same trial, net.1a"):
        sides_of(("net.1", "1f0"), sweep)
    with pytest.raises(BadInput, match="2 to 5"):
        sides_of(("net.1a",), sweep)


def test_only_settings_and_the_yardstick_cross_groups(tmp_path: Path) -> None:
    """Exit 3 and one line; the page and the JSON hold no other score, no confusion, patient, curve or cost."""
    folder = SweepFolder(tmp_path / "home")
    folder.trial({"architecture": "unet"}, labels="unicorn3")
    folder.trial({"architecture": "unet_plain"}, labels="tiger7")
    folder.trial({"architecture": "unet"}, cohort=Cohort(seed=5))
    folder.trial({"architecture": "unet"}, state="pruned", pruned_epoch=2)
    there = ("--home", tmp_path / "home", "--out", tmp_path / "out", "--sweep", "small")
    result = run("u001", "u002", *there, "--json")
    assert result.exit_code == 3
    reason = "only settings and the yardstick are compared: A has label map unicorn3, B has tiger7"
    assert result.stderr == f"harness: {reason}\n"
    found = json.loads(result.stdout)
    assert (found["schema"], found["comparable"], found["reason"]) == ("harness.compare/1", False, reason)
    assert [line["name"] for line in found["scores"]] == [
        "val/yardstick", "val/yardstick_tumor", "val/yardstick_stroma",
    ]  # fmt: skip
    assert (
        not found["moved_confusions"] and not found["patients"]["rows"] and not found["windows"] + list(found["cost"])
    )
    assert {line["name"] for line in found["parameters"]["different"]} == {"labels", "architecture", "seed"}
    html = Path(found["page"]).read_text()
    assert reason.replace("only", "Only", 1) in html
    assert not any(f'id="{part}"' in html for part in ("confusions", "disagree", "patients", "curves", "cost"))
    for name, why in (
        ("u003", "only settings are compared: A and B were judged on the same regions, but other masks"),
        ("u004", "only settings are compared: B has no scores (pruned at epoch 2)"),
    ):
        result = run("u001", name, *there)
        assert (result.exit_code, result.stderr) == (3, f"harness: {why}\n")
        assert "IoU" not in result.stdout and "yardstick" not in result.stdout


def test_the_page_shows_where_they_disagree_and_nothing_is_broken(tmp_path: Path) -> None:
    """Six windows of two trials: five pictures each, all on disk; a changed mask and a lost image are named."""
    folder, masks = on_disk(tmp_path)
    there = ("--home", tmp_path / "home", "--out", tmp_path / "out", "--json")
    found = json.loads(run("u001", "u002", *there, "--sweep", "small").stdout)
    page = Path(found["page"])
    parsed = Parsed()
    parsed.feed(page.read_text())
    assert len(parsed.images) == 6 * 5 and all(image["alt"] for image in parsed.images)
    assert all((page.parent / image["src"]).stat().st_size for image in parsed.images)
    window = found["windows"][0]
    assert window["disagreeing"] == max(one["disagreeing"] for one in found["windows"])
    assert sum(window["pixels"].values()) == 64 * 64 and window["defined"] == 64 * 64 - window["pixels"]["undefined"]
    iou = next(line["values"] for line in found["scores"] if line["name"] == "val/iou")
    assert found["scores"][0]["differences"] == [pytest.approx(iou[1] - iou[0])]
    assert wins_text(compare(sides_of(("u001", "u002"), read_sweep(folder.path))).patients, "AB") == (
        "A in 3, B in 0 of 3 patients"
    )
    first, second = sorted(masks.iterdir())[:2]
    changed = cv2.imread(str(first), cv2.IMREAD_GRAYSCALE)
    changed[0, 0] = 7 - changed[0, 0]
    cv2.imwrite(str(first), changed)
    (masks.parent / "images" / second.name).unlink()
    found = json.loads(run("u001", "u002", *there, "--sweep", "small").stdout)
    html = Path(found["page"]).read_text()
    assert "Not drawn: tissue-bcss__TCGA-A2-0000-DX1__0-0-64-64: its mask, or what u001 predicted, changed" in html
    assert len(re.findall("Not drawn", html)) == 2 and len(found["windows"]) == 4


def test_the_finalists_stand_on_the_same_regions(tmp_path: Path) -> None:
    """Four regions, each as image, truth and one picture a finalist, with its IoU; without the data, one line."""
    folder, masks = on_disk(tmp_path)
    page = write_report(read_sweep(folder.path), tmp_path / "out")
    parsed = Parsed()
    parsed.feed(page.read_text())
    assert len(parsed.images) == 4 * 4
    assert all((page.parent / image["src"]).stat().st_size < 40_000 for image in parsed.images)
    ranks = [image["alt"] for image in parsed.images if "Prediction of 1." in image["alt"]]
    best = read_json(folder.path / "trials" / "u001" / "scores.json")
    region = next(roi for roi in best["rois"] if f"in {roi['name']}," in ranks[0])
    iou = scores.score_matrix(np.asarray(region["matrix"]), scores.read_scores(best)[1])["iou"]
    assert ranks[0].endswith(f"IoU {iou:.3f}")
    masks.parents[3].rename(tmp_path / "elsewhere")
    html = write_report(read_sweep(folder.path), tmp_path / "out").read_text()
    assert html.count("Not drawn: the data of small are no longer at") == 1 and "<img" not in html


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """As architecture, centre and patient: every name is read as text, no handler and no image comes of it."""
    pairs = list(zip(HOSTILE[::2], HOSTILE[1::2], strict=False))
    assert len(pairs) >= 15
    for number, names in enumerate(pairs):
        folder = SweepFolder(tmp_path / f"home{number}", cohort=Cohort(rois=2, patients=2, centres=names))
        for place, name in enumerate(names):
            folder.trial({"architecture": name, "encoder": name}, error=0.1 + place / 4)
        paths = [folder.path / "trials" / uid for uid in ("u001", "u002")]
        result = run(*paths, "--out", tmp_path / "out", "--json")
        assert result.exit_code == 0, result.output
        page = Path(json.loads(result.stdout)["page"])
        assert page.is_relative_to((tmp_path / "out" / "small" / "compare").resolve())
        parsed = Parsed()
        parsed.feed(page.read_text())
        assert parsed.tags["script"] == 1 and not parsed.images
        assert not [name for name in parsed.attributes if name.startswith("on")]
        said = visible("".join(parsed.text))
        assert [name for name in names if visible(name) not in said] == []
