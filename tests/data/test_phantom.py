"""The phantom cohort: TIGER's layout and names, a known truth, the same bytes every time."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.data.phantom import ROI_FOLDER, Phantom, synthesize
from harness.data.phantom_layout import GLANDS, INVASIVE, lay_out
from harness.data.phantom_stain import STAINS, scan
from harness.errors import BadInput, Refused

SMALL = Phantom(seed=3, patients=12, roi_px=160, tiny_share=0.25)
NAME = re.compile(
    r"(?P<slide>TCGA-(?:A2|AR|E2)-Z\d{3}-DX1|TC_S01_P\d{6}_C0001_B\d{3}|\d{3}[BS])"
    r"_\[(?P<x1>\d+), (?P<y1>\d+), (?P<x2>\d+), (?P<y2>\d+)\]\.png"
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("phantom") / "cohort", SMALL)


def _masks(root: Path) -> list[Path]:
    return sorted((root / ROI_FOLDER).glob("*/masks/*.png"))


def _image(mask: Path) -> np.ndarray:
    return np.asarray(cv2.imread(str(mask.parent.parent / "images" / mask.name), cv2.IMREAD_UNCHANGED))


def _label(mask: Path) -> np.ndarray:
    return np.asarray(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED))


def _patient(name: str) -> str:
    """By TIGER's rules, written independently of the reader."""
    if name.startswith("TCGA"):
        return name[:12]
    found = re.match(r"TC_S\d+_(P\d+)", name) or re.match(r"(\d+)[BS]", name)
    assert found
    return found[1]


def _hashes(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_phantom_gives_the_same_bytes(tmp_path: Path) -> None:
    """Everything on disk follows from the Phantom; another seed gives other pixels."""
    phantom = Phantom(seed=5, patients=3, roi_px=128)
    first = _hashes(synthesize(tmp_path / "first", phantom))
    assert _hashes(synthesize(tmp_path / "second", phantom)) == first
    other = _hashes(synthesize(tmp_path / "other", Phantom(seed=6, patients=3, roi_px=128)))
    assert not set(other.values()) & set(first.values())


def test_names_and_folders_are_those_of_tiger(cohort: Path) -> None:
    """Same name in images and masks; the coordinates in the name span the image; TCGA lies in tissue-bcss."""
    masks = _masks(cohort)
    assert [mask.name for mask in masks] == [p.name for p in sorted((cohort / ROI_FOLDER).glob("*/images/*.png"))]
    for mask in masks:
        found = NAME.fullmatch(mask.name)
        assert found, mask.name
        x1, y1, x2, y2 = (int(found[key]) for key in ("x1", "y1", "x2", "y2"))
        assert _label(mask).shape == (y2 - y1, x2 - x1)
        if mask.parent.parent.name == "tissue-bcss":
            assert mask.name.startswith("TCGA")


def test_images_are_rgb_and_masks_hold_the_labels_0_to_7(cohort: Path) -> None:
    """Masks are one channel of 8 bits; over the cohort every label occurs, 0 (undefined) included."""
    seen: set[int] = set()
    for mask in _masks(cohort):
        label, image = _label(mask), _image(mask)
        assert label.dtype == image.dtype == np.uint8
        assert image.shape == (*label.shape, 3)
        seen |= set(np.unique(label).tolist())
    assert seen == set(range(8))


def test_twelve_patients_come_from_five_centres(cohort: Path) -> None:
    """Three TCGA sites, TC_ and 100B names; a biopsy and a resection belong to one patient."""
    names = [mask.name for mask in _masks(cohort)]
    assert len({_patient(name) for name in names}) == 12
    centres = {name[5:7] if name.startswith("TCGA") else name[:2] if name.startswith("TC") else "JB" for name in names}
    assert centres == {"A2", "AR", "E2", "TC", "JB"}
    assert {slide[-1] for name in names if (slide := name.split("_")[0])[0] == "1"} == {"B", "S"}


def test_a_quarter_of_the_patients_have_a_tiny_roi(cohort: Path) -> None:
    """12 patients x .25 = 3 TCGA regions in tissue-cells, 130 to 165 px, smaller than a patch."""
    tiny = [mask for mask in _masks(cohort) if mask.parent.parent.name == "tissue-cells" and "TCGA" in mask.name]
    assert len(tiny) == 3
    assert all(130 <= side <= 165 for mask in tiny for side in _label(mask).shape)


def test_classes_are_as_unbalanced_as_in_breast_cancer(cohort: Path) -> None:
    """Tumor and stroma lead and are in nearly all patients; every class is in a quarter of them or more."""
    pixels, patients = np.zeros(8), {label: set[str]() for label in range(8)}
    for mask in _masks(cohort):
        counts = np.bincount(_label(mask).ravel(), minlength=8)
        pixels += counts
        for label in np.flatnonzero(counts):
            patients[int(label)].add(_patient(mask.name))
    share = pixels[1:] / pixels[1:].sum()
    assert {1, 2} == {int(label) + 1 for label in np.argsort(share)[-2:]}
    assert all(0.15 < value < 0.45 for value in share[[0, 1]])
    assert all(0.01 < value < 0.12 for value in share[[2, 3, 4]])
    assert all(0.06 < value < 0.30 for value in share[[5, 6]])
    assert all(len(patients[label]) >= 11 for label in (1, 2))
    assert all(len(patients[label]) >= 3 for label in range(1, 8))


def test_rotated_rois_leave_real_tissue_under_label_0(cohort: Path) -> None:
    """A model that could read 'undefined' off blank pixels would learn a falsehood: the corners are stained tissue."""
    undefined = [_image(mask)[_label(mask) == 0] for mask in _masks(cohort) if (_label(mask) == 0).any()]
    assert len(undefined) >= 2
    pixels = np.concatenate(undefined).astype(float)
    coloured = np.ptp(pixels, axis=1) > 20  # neither black nor white nor grey
    assert coloured.mean() > 0.5
    assert pixels.std(axis=0).min() > 15


def test_every_centre_has_its_own_stain() -> None:
    """The same tissue, scanned by two centres, differs by more than 5 grey values in some channel's mean."""
    densities = np.full((64, 64), 0.4, np.float32), np.full((64, 64), 0.5, np.float32)
    means = [scan(*densities, stain, (1.0, 1.0), np.random.default_rng(0)).mean((0, 1)) for stain in STAINS.values()]
    assert len(means) == 5
    assert min(np.abs(a - b).max() for i, a in enumerate(means) for b in means[:i]) > 5


def test_a_layout_gives_each_tissue_the_share_that_was_asked_for() -> None:
    """Shares asked for are shares got, to a few percent (outlines are rounded afterwards)."""
    got = lay_out((320, 320), {INVASIVE: 0.33, GLANDS: 0.10}, np.random.default_rng(0)).labels
    assert abs((got == INVASIVE).mean() - 0.33) < 0.08
    assert abs((got == GLANDS).mean() - 0.10) < 0.04


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    """Nothing is ever written over data that is there; an empty folder is fine, and nothing is left beside it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "slide.png").write_bytes(b"precious")
    with pytest.raises(Refused, match="not an empty folder"):
        synthesize(tmp_path / "mine", SMALL)
    (tmp_path / "empty").mkdir()
    synthesize(tmp_path / "empty", Phantom(patients=1, roi_px=128, tiny_share=0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine"]
    assert "SYNTHETIC" in (tmp_path / "empty" / "README.txt").read_text()


def test_an_interrupted_synthesis_leaves_nothing(tmp_path: Path) -> None:
    """The cohort appears whole or not at all."""

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "cohort", Phantom(patients=1, roi_px=128), on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_impossible_phantoms_are_all_named() -> None:
    """Every problem at once, with what is allowed."""
    with pytest.raises(BadInput) as caught:
        synthesize(Path("never"), Phantom(patients=0, roi_px=10))
    assert caught.value.problems == (
        "phantom: patients is 0; allowed is 1 to 999",
        "phantom: roi_px is 10; allowed is 128 to 4096",
    )
