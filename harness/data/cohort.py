"""Where regions are listed: TIGER's folders, or a table of one's own (`docs/data.md`)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness.config.space import PHANTOM, DataSource
from harness.data.manifest import MANIFEST, read_manifest
from harness.data.tiger import WHERE_TO_GET, Roi, read_tiger
from harness.errors import BadInput

Layout = Literal["tiger", "manifest"]


def read_cohort(root: Path, *, patient_regex: str | None = None) -> tuple[Roi, ...]:
    """Every region under `root` (see `layout_of`), sorted by name; whether they are any good, `check_cohort` tells.

    `patient_regex` is for TIGER's layout under other names; a manifest names each patient itself. Raises BadInput.
    """
    if layout_of(root) == "tiger":
        return read_tiger(root, patient_regex=patient_regex)
    if patient_regex is not None:
        raise BadInput(f"data.patient_regex: {_manifest_of(root)} names each patient itself; take patient_regex out")
    return read_manifest(_manifest_of(root))


def layout_of(root: Path) -> Layout:
    """`tiger` for a folder with wsirois/, `manifest` for one with manifest.csv or for a .csv file.

    BadInput when there is neither, or both: which one is meant would be a guess.
    """
    if root.is_file():
        if root.suffix.lower() == ".csv":
            return "manifest"
        raise BadInput(f"{root}: is a file; data.root is a folder with wsirois/ or {MANIFEST}, or a .csv file")
    tiger, manifest = (root / "wsirois").is_dir(), (root / MANIFEST).is_file()
    if tiger and manifest:
        raise BadInput(
            f"{root}: holds both wsirois/ and {MANIFEST}; for the table write data.root: {root / MANIFEST}, "
            "for TIGER's folders move the table elsewhere"
        )
    if not tiger and not manifest:
        what = f"holds neither wsirois/ nor {MANIFEST}" if root.is_dir() else "no such folder"
        table = f"regions of your own are listed in a {MANIFEST} there (image, mask, patient, centre, mpp)"
        raise BadInput(f"{root}: {what}; {table}; {WHERE_TO_GET}")
    return "tiger" if tiger else "manifest"


def ids_source(data: DataSource) -> Literal["tiger", "other"]:
    """Whose source ids the masks hold: as the file says, else TIGER's in TIGER's layout and nobody's known in a table.

    Data that are not there count as TIGER's: whoever reads them says that they are missing.
    """
    if data.source_ids is not None or data.root == PHANTOM:
        return data.source_ids or "tiger"
    try:
        return "tiger" if layout_of(Path(data.root).expanduser().resolve()) == "tiger" else "other"
    except BadInput:
        return "tiger"


def _manifest_of(root: Path) -> Path:
    return root if root.is_file() else root / MANIFEST
