"""Masks of other tools: the same pixels and matrices as trials, on the same boards; everything wrong is named."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from harness.errors import BadInput, Refused
from harness.files import sha256_file, write_json
from harness.report.boards import group_boards, yardstick_boards
from harness.report.queries import read_sweep
from harness.scoring.rows import Rows
from harness.trial.folder import TrialFolder
from tests.scoring.conftest import Made


def test_masks_of_source_ids_stand_on_every_board_and_the_truth_itself_scores_one(made: Made, tmp_path: Path) -> None:
    """The data's own mask files, under their own names, are a perfect prediction on each label map."""
    pred = tmp_path / "truth"
    pred.mkdir()
    for roi in made.validation:
        shutil.copy(roi.mask, pred)
    made.score(pred, "truth", values="source")
    sweep = read_sweep(made.generation.path)
    leaders = {board.title: board.leader for board in group_boards(sweep)}
    assert {title: (row.trial.uid, row.score) for title, row in leaders.items() if row} == {
        "tiger7": ("truth.tiger7", 1.0),
        "unicorn3": ("truth.unicorn3", 1.0),
    }
    (board,) = yardstick_boards(sweep)
    assert [(row.trial.uid, row.rank, row.score) for row in board.rows[:2]] == [
        ("truth.tiger7", 1, 1.0),
        ("truth.unicorn3", 1, 1.0),
    ]
    assert len(board.rows) == 4  # with the two trials: one set of validation pixels


def test_a_pixel_without_a_class_counts_as_wrong_and_changes_no_group(made: Made, tmp_path: Path) -> None:
    """By hand: right masks, but the upper half of one region is empty: the IoU of a class is (n - lost) / n."""
    pred = made.perfect(tmp_path / "pred")
    roi = max(made.validation, key=lambda roi: made.truth(roi).size)
    file, truth = pred / f"{roi.name}.png", made.truth(roi)
    half = len(truth) // 2
    values = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    values[:half] = 0
    cv2.imwrite(str(file), values)
    made.score(pred, on="unicorn3")
    (row,) = made.rows().values()
    assert row.scored is not None
    every = np.concatenate([made.truth(r).ravel() for r in made.validation])
    lost = truth[:half]
    for name, ids in (("tumor", (1, 3)), ("stroma", (2, 6)), ("rest", (4, 5, 7))):
        count = np.isin(every, ids).sum()
        assert row.scored.scores[f"val/iou_{name}"] == (count - np.isin(lost, ids).sum()) / count
    share = 100 * (lost > 0).sum() / (every > 0).sum()
    assert row.result is not None
    assert row.result["flags"] == [f"no class on {share:.1f} % of pixels"]
    trial = next(t for t in read_sweep(made.generation.path).trials if t.stratum == "unicorn3")
    assert trial.scored is not None
    assert row.scored.group == trial.scored.group
    assert np.array_equal(cv2.imread(str(row.folder / "predictions" / file.name), cv2.IMREAD_UNCHANGED), values)
    assert row.result["masks"][roi.name] == {"file": file.name, "sha256": sha256_file(file)}


def test_predictions_of_a_trial_come_back_as_the_trial(made: Made) -> None:
    """Equal matrices, a shared rank, whole hashes; the rows of other tools are no trials."""
    uid = "tiger7.0000"
    made.score(made.generation.trials / uid / "predictions", on="tiger7")
    sweep = read_sweep(made.generation.path)
    board = next(board for board in group_boards(sweep) if board.title == "tiger7")
    assert [(row.trial.uid, row.rank, row.tied) for row in board.rows] == [("other.tiger7", 1, True), (uid, 1, True)]
    first, second = (row.scored for row in board.rows)
    assert all(np.array_equal(a.matrix, b.matrix) for a, b in zip(first.rois, second.rois, strict=True))
    assert TrialFolder(made.generation.path / "external/other.tiger7").damaged() == []
    assert [trial.uid for trial in sweep.trials] == ["tiger7.0000", "unicorn3.0000"]
    assert not sweep.problems


def _transposed(file: Path) -> None:
    cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[:-3].T)


def _half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _saved(change: Callable[[Image.Image], Image.Image], suffix: str = ".png") -> Callable[[Path], None]:
    def save(file: Path) -> None:
        picture = change(Image.open(file))
        file.unlink()
        picture.save(file.with_suffix(suffix))

    return save


def _twice(file: Path) -> None:
    Image.open(file).save(file.with_suffix(".tif"))


def _several(file: Path) -> None:
    picture = Image.open(file)
    file.unlink()
    picture.save(file.with_suffix(".tiff"), save_all=True, append_images=[picture])


def _nine(file: Path) -> None:
    values = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    values[0, :5] = 9
    cv2.imwrite(str(file), values)


WRONG: tuple[tuple[Callable[[Path], object], str], ...] = (
    (Path.unlink, "is missing"),
    (lambda file: file.rename(file.with_suffix(".npy")), "a mask is a PNG or TIFF file"),
    (_transposed, "px, its region"),
    (_nine, "holds values that are no class: 9 (5 px)"),
    (_saved(lambda picture: picture.convert("RGB")), "is in colour (RGB)"),
    (_saved(lambda picture: picture.convert("F"), ".tif"), "is of fractions (float)"),
    (_several, "holds 2 pictures; a mask is one"),
    (_half, "cannot be read"),
    (lambda file: file.write_bytes(b""), "is neither a PNG nor a TIFF file"),
    (_twice, "keep one"),
)


def test_everything_wrong_is_listed_at_once_by_file_and_nothing_is_written(made: Made, tmp_path: Path) -> None:
    """One mistake per region, as many as there are regions; the mistakes that are left go into a second folder."""
    regions = [roi.name for roi in made.validation]
    waiting = list(WRONG)
    while waiting:
        pred = made.perfect(tmp_path / f"pred{len(waiting)}")
        now, waiting = waiting[: len(regions)], waiting[len(regions) :]
        for name, (spoil, _) in zip(regions, now, strict=False):
            spoil(pred / f"{name}.png")
        with pytest.raises(BadInput) as raised:
            made.score(pred, on="unicorn3")
        problems = [line for line in raised.value.problems if not line.startswith(("allowed", "for masks"))]
        assert len(problems) == len(now)
        for name, (_, says) in zip(regions, now, strict=False):
            assert [line for line in problems if name in line and says in line], (says, problems)
    assert made.rows() == {}


def test_masks_that_would_be_guessed_are_refused_with_the_choices(made: Made, tmp_path: Path) -> None:
    """Classes of which label map? An unknown one?"""
    pred = made.perfect(tmp_path / "pred")
    with pytest.raises(BadInput, match="label maps tiger7, unicorn3; say whose"):
        made.score(pred)
    with pytest.raises(BadInput, match="no label map 'unicorn'; did you mean 'unicorn3'"):
        made.score(pred, on="unicorn")


def test_scoring_again_replaces_the_row_and_only_that_one(made: Made, tmp_path: Path) -> None:
    """A failed attempt leaves it as it was, and so does one that was killed between the two renames."""
    worse = made.generation.trials / "unicorn3.0000" / "predictions"
    made.score(worse, on="unicorn3")
    made.score(worse, "a b", on="unicorn3")
    with pytest.raises(BadInput, match=r"share the folder a_b\.unicorn3"):
        made.score(worse, "a_b", on="unicorn3")
    before = made.rows()["other.unicorn3"].scored
    pred = made.perfect(tmp_path / "pred")
    made.score(pred, on="unicorn3")
    after = made.rows()["other.unicorn3"].scored
    assert before and after and before.scores["val/iou"] < after.scores["val/iou"] == 1.0
    next(pred.iterdir()).unlink()
    with pytest.raises(BadInput, match="is missing"):
        made.score(pred, on="unicorn3")
    assert sorted(made.rows()) == ["a_b.unicorn3", "other.unicorn3"]
    kept = made.rows()["other.unicorn3"].scored
    assert kept and kept.scores == after.scores
    rows, aside = Rows(made.generation), made.generation.path / ".external" / "old"
    aside.mkdir(parents=True)
    (rows.folder / "other.unicorn3").rename(aside / "other.unicorn3")
    with rows.written():
        pass
    assert sorted(made.rows()) == ["a_b.unicorn3", "other.unicorn3"]
    assert not aside.exists()
    assert rows.remove("other") == ("other.unicorn3",)
    assert sorted(made.rows()) == ["a_b.unicorn3"]
    with pytest.raises(BadInput, match="no row 'other' in small; there are: a b"):
        rows.remove("other")


def test_data_that_are_not_the_sweeps_any_more_are_refused_by_name(made: Made, tmp_path: Path, phantom: Path) -> None:
    """A repainted mask, then a region that is gone."""
    moved = tmp_path / "moved"
    shutil.copytree(phantom, moved)
    space = made.generation.read_space()
    space["data"]["root"] = str(moved)
    time.sleep(0.05)  # file systems stamp by the tick of the kernel
    space["created"] = datetime.now(UTC).isoformat()
    write_json(made.generation.space_file, space)
    pred = made.perfect(tmp_path / "pred")
    made.score(pred, on="unicorn3")  # elsewhere, but the same
    time.sleep(0.05)
    roi = made.validation[0]
    mask = moved / roi.mask.relative_to(phantom)
    values = made.truth(roi).copy()
    values[:20] = 2
    cv2.imwrite(str(mask), values)
    with pytest.raises(Refused, match=rf"not what it was run on[^$]*newest first: {re.escape(str(mask))}\n"):
        made.score(pred, on="unicorn3")
    for file in (mask, moved / roi.image.relative_to(phantom)):
        file.unlink()
    with pytest.raises(Refused, match=rf"{len(made.regions.every) - 1} usable regions now, {len(made.regions.every)}"):
        made.score(pred, on="unicorn3")


def test_scoring_loads_no_torch() -> None:
    """Nor MLflow: it takes a second, not ten."""
    code = "import harness.scoring.score, harness.scoring.positions, sys; print({'torch', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
