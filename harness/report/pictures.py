"""Pictures beside the page: which ones exist, under which name they are copied, and what they show in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.data.png import BadPng, read_header
from harness.files import safe_name

# File of a trial -> (its name beside the page, what it shows), in the order of the page. The fixed regions and Grad-CAM
# are shown of all finalists (finalists.py).
TRIAL_PICTURES = {
    "confusion.png": ("confusion", "Confusion over all validation pixels: percent of the true class with pixel counts,"
                      " and percent of the predicted class"),
    "confusion_non_homogeneous.png": ("confusion-mixed", "Confusion over the validation pixels in non-homogeneous"
                                      " cells of 128 µm: percent of the true class with pixel counts, and percent of"
                                      " the predicted class"),
    "gallery.png": ("gallery", "Best, median and worst validation ROI by macro IoU: image, truth, prediction, errors"),
    "attention.png": ("attention", "Coefficients of the attention gates on one validation patch, chosen by its truth,"
                      " on a fixed scale from 0 to 1"),
    "curves.png": ("curves-best", "Losses, validation scores and learning rate after each epoch"),
}  # fmt: skip

# Pictures of the sweep, in the order of the page: name, or what a family of names starts with -> what they show.
SWEEP_PICTURES = {
    "class_ratio": "Class ratio",
    "roi_sizes": "ROI sizes",
    "split": "Split",
    "labelled_samples": "Labelled samples",
    "augmented_samples": "Augmented samples",
    "architecture": "Architecture",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A file to copy to `path` beside the page, which is safe in a link."""

    source: Path
    path: str
    caption: str

    @property
    def size_px(self) -> tuple[int, int] | None:
        """(width, height) of a PNG: its place on the page stays free until it is fetched. None where unknown."""
        try:
            header = read_header(self.source)
        except BadPng:
            return None
        return header.width_px, header.height_px


def trial_pictures(trial_folder: Path, key: str) -> tuple[Picture, ...]:
    """Those that the trial has; `key` is its board's."""
    return tuple(
        Picture(source, f"figures/{name}-{key}.png", caption)
        for file, (name, caption) in TRIAL_PICTURES.items()
        if (source := trial_folder / "figures" / file).is_file()
    )


def sweep_pictures(generation_folder: Path) -> tuple[Picture, ...]:
    """Those of data and models, which `<generation>/figures/` may hold; known kinds first."""
    found = [path for path in (generation_folder / "figures").glob("*") if path.suffix in (".png", ".svg")]
    pictures = [
        (_place(path.stem), path.name, Picture(path, f"figures/sweep/{safe_name(path.name)}", _caption(path.stem)))
        for path in found
        if path.is_file()
    ]
    return tuple(picture for *_, picture in sorted(pictures, key=lambda entry: entry[:2]))


def _kind(stem: str) -> str | None:
    return next((kind for kind in SWEEP_PICTURES if stem == kind or stem.startswith(f"{kind}_")), None)


def _place(stem: str) -> int:
    kind = _kind(stem)
    return len(SWEEP_PICTURES) if kind is None else list(SWEEP_PICTURES).index(kind)


def _caption(stem: str) -> str:
    """`augmented_samples_paper` -> `Augmented samples: paper`."""
    kind = _kind(stem)
    if kind is None:
        return stem.replace("_", " ").strip().capitalize()
    rest = stem.removeprefix(kind).strip("_")
    return SWEEP_PICTURES[kind] + (f": {rest.replace('_', ' ')}" if rest else "")
