"""Where the tissues of a phantom ROI lie: a label for every pixel, and the ducts and acini for the painter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Field = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

UNDEFINED, INVASIVE, STROMA, IN_SITU, GLANDS, NECROSIS, INFLAMED, REST = range(8)


@dataclass(frozen=True, slots=True)
class Acinus:
    """One ring of gland epithelium round a lumen."""

    x: float
    y: float
    radius_px: float


@dataclass(frozen=True, slots=True)
class Scene:
    """The tissue of one ROI: every pixel has a true label 1..7; undefined corners are cut later."""

    labels: Labels
    ducts: tuple[NDArray[np.float32], ...]  # closed outlines of the in-situ ducts, each (points, 2) in x, y
    acini: tuple[Acinus, ...]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], wavelength_px: float) -> Field:
    """Random waves of about one wavelength, mean 0, standard deviation 1."""
    height, width = shape
    step = max(wavelength_px / 2, 1.0)
    cells = (int(np.ceil(height / step)) + 4, int(np.ceil(width / step)) + 4)
    coarse = rng.standard_normal(cells).astype(np.float32)
    fine = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
    top, left = int(step), int(step)
    field = fine[top : top + height, left : left + width]
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), dtype=np.float32)


def lay_out(shape: tuple[int, int], shares: Mapping[int, float], rng: np.random.Generator) -> Scene:
    """Fill `shape` with tissues that take about the given shares of its area; stroma takes what is left."""
    labels = np.full(shape, STROMA, np.uint8)
    side = float(np.sqrt(shape[0] * shape[1]))
    _grow_rest(labels, shares.get(REST, 0), side, rng)
    _grow_tumor(labels, shares.get(INVASIVE, 0), shares.get(NECROSIS, 0), side, rng)
    ducts = _place_ducts(labels, shares.get(IN_SITU, 0), rng)
    acini = _place_lobule(labels, shares.get(GLANDS, 0), rng)
    _grow_inflamed(labels, shares.get(INFLAMED, 0), side, rng)
    return Scene(labels, ducts, acini)


def _top_share(field: Field, allowed: Mask, share: float) -> Mask:
    """The allowed pixels where `field` is highest, as many as `share` of the whole image."""
    fraction = share * field.size / max(int(allowed.sum()), 1)
    if fraction <= 0 or not allowed.any():
        return np.zeros(field.shape, np.bool_)
    threshold = np.quantile(field[allowed], 1 - min(fraction, 1.0))
    return allowed & (field >= threshold)


def _rounded(mask: Mask, radius_px: float) -> Mask:
    """`mask` without specks and spikes finer than the radius, as a person would outline it."""
    blurred = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), radius_px)
    return np.asarray(blurred > 0.5, dtype=np.bool_)


def _grow_rest(labels: Labels, share: float, side_px: float, rng: np.random.Generator) -> None:
    rows, columns = np.mgrid[: labels.shape[0], : labels.shape[1]].astype(np.float32) / side_px
    angle = rng.uniform(0, 2 * np.pi)
    # Fat and glass lie at one side of the tissue, hence the tilt.
    tilt = columns * np.cos(angle) + rows * np.sin(angle)
    field = 4 * tilt.astype(np.float32) + smooth_noise(rng, labels.shape, 0.6 * side_px)
    labels[_rounded(_top_share(field, labels == STROMA, share), 4)] = REST


def _grow_tumor(labels: Labels, share: float, necrosis: float, side_px: float, rng: np.random.Generator) -> None:
    noise = smooth_noise(rng, labels.shape, 0.75 * side_px) + 0.16 * smooth_noise(rng, labels.shape, 60)
    tumor = _rounded(_top_share(noise, labels == STROMA, share + necrosis), 3.5) & (labels == STROMA)
    labels[tumor] = INVASIVE
    if necrosis > 0 and tumor.any():
        depth = cv2.distanceTransform(np.pad(tumor, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        field = depth / side_px * 12 + smooth_noise(rng, labels.shape, 90)
        labels[_rounded(_top_share(np.asarray(field, np.float32), tumor, necrosis), 5) & tumor] = NECROSIS


def _grow_inflamed(labels: Labels, share: float, side_px: float, rng: np.random.Generator) -> None:
    """Lymphocytes gather in the stroma, rather near the tumor than far from it."""
    no_tumor = (~np.isin(labels, (INVASIVE, IN_SITU))).astype(np.uint8)
    far = np.minimum(cv2.distanceTransform(no_tumor, cv2.DIST_L2, 5), side_px) / side_px
    field = smooth_noise(rng, labels.shape, 0.6 * side_px) - far
    labels[_rounded(_top_share(field, labels == STROMA, share), 5) & (labels == STROMA)] = INFLAMED


def _blob(centre: NDArray[Any], radius_px: float, wobble: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth closed outline, (64, 2) points in x, y."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones_like(turn)
    for wave in (2, 3, 4):
        radius += wobble / wave * rng.normal() * np.cos(wave * turn + rng.uniform(0, 2 * np.pi))
    radius *= radius_px
    return np.stack([centre[0] + radius * np.cos(turn), centre[1] + radius * np.sin(turn)], 1).astype(np.float32)


def _filled(shape: tuple[int, int], outline_xy: NDArray[np.float32]) -> Mask:
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.rint(outline_xy).astype(np.int32)], 1)
    return canvas.astype(np.bool_)


def _free_spot(labels: Labels, taken: Mask, radius_px: float, rng: np.random.Generator) -> NDArray[Any]:
    """Of some random places, the one whose disc covers most stroma and none of the other structures."""
    height, width = labels.shape
    margin = min(0.6 * radius_px, 0.45 * min(height, width))
    spots = rng.uniform((margin, margin), (width - margin, height - margin), (24, 2))
    fit = cv2.blur((labels == STROMA).astype(np.float32) - 4 * taken, (int(1.8 * radius_px) | 1,) * 2)
    scores = fit[spots[:, 1].astype(int), spots[:, 0].astype(int)]
    return np.asarray(spots[int(scores.argmax())])


def _place_ducts(labels: Labels, share: float, rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
    area, outlines = share * labels.size, []
    taken = np.zeros(labels.shape, np.bool_)
    while area > np.pi * 24**2:
        radius = min(float(np.sqrt(area / np.pi)), rng.uniform(48, 74))
        outline = _blob(_free_spot(labels, taken, radius, rng), radius, 0.10, rng)
        duct = _filled(labels.shape, outline)
        # A rim of stroma stays between the duct and its neighbours, or its outline could not be seen.
        collar = cv2.dilate(duct.astype(np.uint8), np.ones((17, 17), np.uint8)).astype(np.bool_)
        labels[collar & (labels != IN_SITU)] = STROMA
        labels[duct] = IN_SITU
        taken |= collar
        if radius > 45 and rng.random() < 0.3:  # comedo necrosis
            middle = outline.mean(0) + 0.38 * (outline - outline.mean(0))
            labels[_filled(labels.shape, middle)] = NECROSIS
        outlines.append(outline)
        area -= np.pi * radius**2
    return tuple(outlines)


def _place_lobule(labels: Labels, share: float, rng: np.random.Generator) -> tuple[Acinus, ...]:
    """Acini packed into round lobules; the label follows their common outline."""
    area, acini = share * labels.size, list[Acinus]()
    while area > np.pi * 20**2:
        radius = min(float(np.sqrt(area / np.pi)), rng.uniform(60, 85))
        taken = np.isin(labels, (IN_SITU, GLANDS))
        lobule = _filled(labels.shape, _blob(_free_spot(labels, taken, radius, rng), radius, 0.12, rng)) & ~taken
        labels[lobule] = GLANDS
        acini += _pack(lobule, rng)
        area -= np.pi * radius**2
    return tuple(acini)


def _pack(region: Mask, rng: np.random.Generator) -> list[Acinus]:
    """Discs that fill a region greedily, each as large as its distance to the edge and the others allows."""
    room = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, 5)
    found = list[Acinus]()
    while True:
        allowed = np.argwhere(room >= 13)
        if not len(allowed):
            return found
        y, x = allowed[rng.integers(len(allowed))]
        radius = float(min(room[y, x], rng.uniform(16, 26)))
        found.append(Acinus(float(x), float(y), radius))
        rows, columns = np.ogrid[: region.shape[0], : region.shape[1]]
        room = np.minimum(room, np.hypot(rows - y, columns - x) - radius - 2)
