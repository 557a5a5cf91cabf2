"""What TIGER's folders and names say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.data.tiger import centre_of, patient_of
from harness.data.tiger import read_tiger as read_cohort
from harness.errors import BadInput

MASK = np.ones((32, 48), np.uint8)


@pytest.mark.parametrize(
    ("slide", "patient", "centre"),
    [
        ("TCGA-A2-A0D2-DX1", "TCGA-A2-A0D2", "A2"),
        ("TCGA-A1-A0SK-01Z-00-DX1.A44D70FA", "TCGA-A1-A0SK", "A1"),
        ("TC_S01_P000003_C0001_B104", "P000003", "RUMC"),
        ("100B", "100", "JB"),
        ("114S", "114", "JB"),
    ],
)
def test_patient_and_centre_come_from_the_name(slide: str, patient: str, centre: str) -> None:
    """Each of TIGER's three sources names its patients in its own way."""
    assert patient_of(slide) == (patient, True)
    assert centre_of(slide) == centre


def test_biopsy_and_resection_of_a_patient_are_one_patient() -> None:
    """`100B` and `100S` must not be split apart."""
    assert patient_of("100B") == patient_of("100S")


def test_names_with_spaces_commas_and_brackets_are_read_exactly(cohort) -> None:
    """`[48443, ...]` would be a character class in a glob."""
    image, mask = cohort.add("TCGA-A2-A0D2-DX1_[48443, 11149, 50235, 12429]", MASK)
    (roi,) = read_cohort(cohort.root)
    assert (roi.image, roi.mask) == (image, mask)
    assert roi.name == "tissue-bcss__TCGA-A2-A0D2-DX1__48443-11149-50235-12429"
    assert (roi.slide, roi.patient, roi.patient_known) == ("TCGA-A2-A0D2-DX1", "TCGA-A2-A0D2", True)
    assert (roi.centre, roi.mpp) == ("A2", 0.5)


def test_both_folders_are_one_cohort_and_a_patient_may_be_in_both(cohort) -> None:
    """The same box in tissue-bcss and in tissue-cells gives two regions of one patient, sorted by name."""
    for folder in ("tissue-cells", "tissue-bcss"):
        cohort.add("TCGA-A2-A0D2-DX1_[1, 2, 3, 4]", MASK, folder=folder)
    rois = read_cohort(cohort.root)
    assert [roi.name.split("__")[0] for roi in rois] == ["tissue-bcss", "tissue-cells"]
    assert {roi.patient for roi in rois} == {"TCGA-A2-A0D2"}


def test_half_a_pair_is_listed_so_that_the_check_can_name_it(cohort) -> None:
    """A mask without an image does not disappear."""
    image, mask = cohort.add("100B_[0, 0, 48, 32]", MASK)
    image.unlink()
    (roi,) = read_cohort(cohort.root)
    assert roi.mask == mask
    assert not roi.image.exists()


def test_files_that_are_not_data_are_left_alone(cohort) -> None:
    """Resource forks of macOS and TIGER's own JSON lie among the images."""
    image, _ = cohort.add("100B_[0, 0, 48, 32]", MASK)
    (image.parent / "._100B_[0, 0, 48, 32].png").write_bytes(b"fork")
    (image.parent / "tiger-coco.json").write_text("{}")
    assert len(read_cohort(cohort.root)) == 1


def test_an_unknown_name_takes_the_first_group_of_patient_regex(cohort) -> None:
    """Names from elsewhere tell their patient by the lab's own expression."""
    cohort.add("lab7-case12-slideA_[0, 0, 48, 32]", MASK)
    (roi,) = read_cohort(cohort.root, patient_regex=r"-(case\d+)-")
    assert (roi.patient, roi.patient_known, roi.centre) == ("case12", True, "unknown")


def test_without_a_rule_the_slide_is_the_patient_and_flagged(cohort) -> None:
    """The flag is what data stats and the report show."""
    cohort.add("lab7-case12-slideA", MASK)
    (roi,) = read_cohort(cohort.root)
    assert (roi.patient, roi.patient_known) == ("lab7-case12-slideA", False)
    assert roi.name == "tissue-bcss__lab7-case12-slideA"


def test_patient_regex_does_not_overrule_tigers_own_names(cohort) -> None:
    """An expression for the lab's slides must not merge all of Nijmegen's into one patient `TC`."""
    cohort.add("TC_S01_P000003_C0001_B104_[0, 0, 48, 32]", MASK)
    (roi,) = read_cohort(cohort.root, patient_regex=r"^([A-Z]+)_")
    assert roi.patient == "P000003"


@pytest.mark.parametrize("pattern", ["(", "no-group"])
def test_a_useless_patient_regex_is_refused_with_its_text(cohort, pattern: str) -> None:
    """Not a regular expression, or one without a group."""
    cohort.add("a", MASK)
    with pytest.raises(BadInput, match="patient_regex") as caught:
        read_cohort(cohort.root, patient_regex=pattern)
    assert repr(pattern) in str(caught.value)


def test_names_that_are_only_equal_when_made_safe_stay_apart(cohort) -> None:
    """`a b` and `a_b` are two regions, so they are two names, the same ones every time."""
    cohort.add("a b", MASK)
    cohort.add("a_b", MASK, seed=1)
    names = [roi.name for roi in read_cohort(cohort.root)]
    assert len(set(names)) == 2
    assert names == [roi.name for roi in read_cohort(cohort.root)]


def test_a_missing_root_names_the_path_the_source_the_licence_and_the_way_to_try(tmp_path: Path) -> None:
    """One line that lets a newcomer go on."""
    with pytest.raises(BadInput) as caught:
        read_cohort(tmp_path / "tiger")
    (line,) = caught.value.problems
    for part in (str(tmp_path / "tiger"), "grand-challenge.org", "CC BY-NC 4.0", "--data phantom --smoke"):
        assert part in line


def test_empty_folders_are_bad_input(cohort) -> None:
    """Folders without any PNG are not a cohort."""
    (cohort.base / "tissue-bcss" / "images").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"no \.png file"):
        read_cohort(cohort.root)


def test_real_regions_are_read_as_three_patients_of_one_site(real_data: Path) -> None:
    """TCGA names as they are on disk."""
    rois = read_cohort(real_data)
    assert [roi.patient for roi in rois] == ["TCGA-A2-A0D2", "TCGA-A2-A1G6", "TCGA-A2-A3XX"]
    assert {roi.centre for roi in rois} == {"A2"}
    assert all(roi.patient_known and roi.image.is_file() and roi.mask.is_file() for roi in rois)
