"""Paint a phantom scene as if stained with hematoxylin and eosin and scanned at 0.5 um/px.

Everything is painted as two stain densities, hematoxylin (nuclei) and eosin (fibres, cytoplasm), and becomes RGB
by Beer-Lambert at the very end. So a centre's stain changes all colours together, as it does on real slides.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.data.phantom_layout import (
    GLANDS,
    IN_SITU,
    INFLAMED,
    INVASIVE,
    NECROSIS,
    REST,
    STROMA,
    Field,
    Mask,
    Scene,
)
from harness.data.phantom_nuclei import Look, Points, Tissue
from harness.data.phantom_stain import Image, Stain, scan


def paint(scene: Scene, look: Look, stain: Stain, rng: np.random.Generator) -> Image:
    """An RGB image (H, W, 3) of the scene."""
    tissue = Tissue(scene, look, rng)
    _paint_stroma(tissue)
    painters = {INVASIVE: _paint_tumor, IN_SITU: _paint_ducts, NECROSIS: _paint_necrosis, GLANDS: _paint_glands,
                INFLAMED: _paint_lymphocytes, REST: _paint_rest}  # fmt: skip
    present = set(np.unique(scene.labels).tolist()) | ({INVASIVE} if scene.ducts else set())
    for label, painter in painters.items():
        if label in present:
            painter(tissue)
    return scan(*tissue.densities(), stain, look.strength, rng)


def _scatter(tissue: Tissue, spacing_px: float, allowed: Mask, jitter: float = 0.28) -> Points:
    """Points on a jittered hexagonal grid, at about one spacing from each other, where `allowed`."""
    height, width = tissue.shape
    rows = np.arange(-spacing_px, height + spacing_px, spacing_px * 0.87)
    columns = np.arange(-spacing_px, width + spacing_px, spacing_px)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    x = x + 0.5 * spacing_px * (np.arange(len(rows)) % 2)[:, None]
    points = np.stack([x, y], -1).reshape(-1, 2) + tissue.rng.normal(0, jitter * spacing_px, (x.size, 2))
    at = np.clip(np.rint(points).astype(int), 0, (width - 1, height - 1))
    near = (np.abs(at - points) < 0.5 * spacing_px).all(1)
    return np.asarray(points[near & allowed[at[:, 1], at[:, 0]]], np.float32)


def _thinned(tissue: Tissue, points: Points, keep: float) -> Points:
    return points[tissue.rng.random(len(points)) < keep]


def _cells(tissue: Tissue, points: Points) -> tuple[NDArray[np.int32], Field]:
    """The cell that each pixel belongs to (nearest nucleus), and the distance to that nucleus."""
    seeds = np.ones(tissue.shape, np.uint8)
    at = np.clip(np.rint(points).astype(int), 0, (tissue.shape[1] - 1, tissue.shape[0] - 1))
    seeds[at[:, 1], at[:, 0]] = 0
    distance, cells = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return np.asarray(cells, np.int32), np.asarray(distance, np.float32)


def _borders(cells: NDArray[np.int32], width_px: float) -> Field:
    """1 where two cells meet, fading over the width."""
    edge = np.zeros(cells.shape, np.float32)
    edge[:, 1:] = cells[:, 1:] != cells[:, :-1]
    edge[1:] = np.maximum(edge[1:], cells[1:] != cells[:-1])
    return np.asarray(np.minimum(cv2.GaussianBlur(edge, (0, 0), width_px) * 2.2 * width_px, 1), np.float32)


def _fibres(tissue: Tissue) -> tuple[Field, Field]:
    """Wavy collagen: its texture (mean 0, deviation 1) and its direction in radians.

    White noise is stretched along a bent coordinate; the bends follow ducts and nests, as fibres do.
    """
    rng, shape = tissue.rng, tissue.shape
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    outside = (~tissue.area(INVASIVE, IN_SITU, NECROSIS)).astype(np.uint8)
    wrap = np.zeros(shape, np.float32)
    if not outside.all():
        # Blurred, or the fibres would break where two wraps meet.
        near = np.minimum(cv2.distanceTransform(outside, cv2.DIST_L2, 5), 60)
        wrap = np.asarray(cv2.GaussianBlur(near, (0, 0), 7), np.float32)
    across = rows * np.cos(angle) - columns * np.sin(angle) + 13 * tissue.noise(150) + 1.2 * wrap
    across = np.asarray(across + 1.6 * tissue.noise(30), np.float32)
    along = columns * np.cos(angle) + rows * np.sin(angle) + 10 * tissue.noise(120)
    grain = rng.standard_normal((512, 512)).astype(np.float32)
    grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT), np.float32)
    texture = np.zeros(shape, np.float32)
    for length, width, weight in ((16.0, 1.7, 1.0), (40.0, 5.0, 1.2)):
        texture += weight * _looked_up(grain, along / length, across / width, cv2.BORDER_WRAP)
    slope_y, slope_x = np.gradient(across)
    direction = np.arctan2(-slope_x, slope_y)
    return (texture - texture.mean()) / (texture.std() + 1e-6), np.asarray(direction, np.float32)


def _paint_stroma(tissue: Tissue) -> None:
    """The bed of everything: oriented collagen, fibroblasts along it, now and then a lymphocyte."""
    texture, direction = _fibres(tissue)
    blue, pink = tissue.look.collagen
    dense = pink * (1 + 0.20 * texture + 0.06 * tissue.noise(3) + 0.10 * tissue.noise(70))
    cleft = np.clip((-0.9 - texture + 0.9 * (tissue.look.loose - 0.5)) * 1.6, 0, 1)
    tissue.eosin[:] = np.clip(dense, 0.15, 1.2) * (1 - 0.92 * cleft)
    tissue.hematoxylin[:] = (blue + 0.03 * np.clip(tissue.noise(90), -1, 1)) * (1 - 0.9 * cleft)
    bed = tissue.area(STROMA, INFLAMED)
    points = _thinned(tissue, _scatter(tissue, 20, bed), 0.75)
    at = np.clip(points.astype(int), 0, (tissue.shape[1] - 1, tissue.shape[0] - 1))
    tissue.stamp("fibroblast", points, direction[at[:, 1], at[:, 0]] % np.pi)
    tissue.stamp("lymphocyte", _thinned(tissue, _scatter(tissue, 26, bed), 0.2))


def _paint_tumor(tissue: Tissue) -> None:
    """Crowded large nuclei of uneven size; in situ tumor has the same cells, only its outline tells it apart."""
    area, look, rng = tissue.area(INVASIVE, IN_SITU), tissue.look, tissue.rng
    points = _scatter(tissue, 2.25 * look.tumor_radius_px, cv2.erode(area.astype(np.uint8), np.ones((7, 7))) > 0)
    if not len(points):
        return
    cells, _ = _cells(tissue, points)
    shade = rng.normal(0, 0.07, cells.max() + 1).astype(np.float32)[cells]
    blue, pink = look.cytoplasm
    gap = np.clip(0.3 + look.cracks * (0.5 + 0.5 * tissue.noise(40)), 0, 0.95)
    seams = _borders(cells, 0.8 + 0.5 * look.cracks) * gap
    tissue.eosin[area] = ((pink + shade + 0.05 * tissue.noise(4)) * (1 - seams))[area]
    tissue.hematoxylin[area] = ((blue + 0.03 * tissue.noise(40)) * (1 - seams))[area]
    tissue.stamp("tumor", points)
    tissue.stamp("lymphocyte", _thinned(tissue, _scatter(tissue, 26, area), 0.10))
    holes = np.zeros(tissue.shape, np.uint8)
    deep = cv2.erode(area.astype(np.uint8), np.ones((25, 25))) > 0
    for x, y in _thinned(tissue, _scatter(tissue, 48, deep), 0.55 * look.lumens):
        axes = (int(rng.integers(5, 12)), int(rng.integers(5, 12)))
        cv2.ellipse(holes, (round(float(x)), round(float(y))), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    hole = holes > 0
    tissue.clear(hole)
    tissue.eosin[hole], tissue.hematoxylin[hole] = 0.06, 0.01


def _paint_ducts(tissue: Tissue) -> None:
    """What makes in situ tumor: a smooth membrane round it and flat dark cells along the membrane."""
    for outline in tissue.scene.ducts:
        ring = np.zeros(tissue.shape, np.uint8)
        contour = [np.rint(outline).astype(np.int32)]
        cv2.polylines(ring, contour, True, 1, 9)
        tissue.clear(ring > 0)
        glow = cv2.GaussianBlur(ring.astype(np.float32), (0, 0), 1.2)
        tissue.eosin[:] = tissue.eosin * (1 - glow) + 0.8 * glow
        tissue.hematoxylin[:] *= 1 - 0.8 * glow
        step = np.roll(outline, -1, 0) - outline
        travelled = np.cumsum(np.hypot(step[:, 0], step[:, 1]))
        stops = np.searchsorted(travelled, np.arange(5.0, travelled[-1], 10.0))
        inward = 1 - 2.5 / np.linalg.norm(outline - outline.mean(0), axis=1, keepdims=True)
        points = outline.mean(0) + (outline - outline.mean(0)) * inward
        points = points[stops] + tissue.rng.normal(0, 0.7, (len(stops), 2))
        tissue.stamp("myoepithelium", points, np.arctan2(step[stops, 1], step[stops, 0]) % np.pi)


def _paint_necrosis(tissue: Tissue) -> None:
    """Pink grain without fibres, ghosts of nuclei, and dark crumbs that any colour rule takes for lymphocytes."""
    area = tissue.area(NECROSIS)
    soft = cv2.GaussianBlur(area.astype(np.float32), (0, 0), 2.5)
    eosin = np.clip(0.80 + 0.20 * tissue.noise(6) + 0.10 * tissue.noise(22) + 0.08 * tissue.noise(3), 0.05, 1.4)
    tissue.clear(soft > 0.6)
    tissue.eosin[:] = tissue.eosin * (1 - soft) + eosin * soft
    tissue.hematoxylin[:] = tissue.hematoxylin * (1 - soft) + (0.05 + 0.02 * tissue.noise(12)) * soft
    tissue.stamp("ghost", _thinned(tissue, _scatter(tissue, 21, area), 0.25))
    crumbs = 0.40 + 0.25 * np.clip(tissue.noise(60), -1, 1)
    points = _scatter(tissue, 9, area & (tissue.rng.random(tissue.shape) < crumbs))
    tissue.stamp("debris", points)
    tissue.stamp("lymphocyte", _thinned(tissue, _scatter(tissue, 22, area), 0.15))


def _paint_glands(tissue: Tissue) -> None:
    """Rings of small regular nuclei round a lumen, in loose pale stroma."""
    area, rng = tissue.area(GLANDS), tissue.rng
    soft = cv2.GaussianBlur(area.astype(np.float32), (0, 0), 2.0)
    tissue.eosin[:] *= 1 - 0.3 * soft
    tissue.hematoxylin[:] += 0.05 * soft
    for acinus in tissue.scene.acini:
        centre = (round(acinus.x), round(acinus.y))
        wall, lumen = np.zeros(tissue.shape, np.uint8), np.zeros(tissue.shape, np.uint8)
        cv2.circle(wall, centre, round(acinus.radius_px), 1, -1)
        cv2.circle(lumen, centre, max(round(acinus.radius_px - 10), 2), 1, -1)
        tissue.clear(wall > 0)
        tissue.eosin[wall > 0], tissue.hematoxylin[wall > 0] = 0.50, 0.18
        tissue.eosin[lumen > 0], tissue.hematoxylin[lumen > 0] = 0.05, 0.01
        radius = acinus.radius_px - 5
        turn = np.linspace(0, 2 * np.pi, max(int(2 * np.pi * radius / 9.5), 5), endpoint=False) + rng.uniform(0, 6)
        points = np.stack([acinus.x + radius * np.cos(turn), acinus.y + radius * np.sin(turn)], 1)
        tissue.stamp("epithelium", (points + rng.normal(0, 0.7, points.shape)).astype(np.float32))
    tissue.stamp("lymphocyte", _thinned(tissue, _scatter(tissue, 20, area), 0.08))


def _paint_lymphocytes(tissue: Tissue) -> None:
    """Clouds of small round dark nuclei over loosened stroma."""
    area = tissue.area(INFLAMED)
    soft = cv2.GaussianBlur(area.astype(np.float32), (0, 0), 4.0)
    tissue.eosin[:] *= 1 - 0.35 * soft
    tissue.hematoxylin[:] += 0.06 * soft
    density = np.clip(0.68 + 0.22 * tissue.noise(70), 0.3, 0.95)
    points = _scatter(tissue, 10.5, area & (tissue.rng.random(tissue.shape) < density))
    tissue.stamp("lymphocyte", points)


def _paint_rest(tissue: Tissue) -> None:
    """Fat (white bubbles between membranes), blood (packed red cells) or muscle (straight even bundles)."""
    area, look = tissue.area(REST), tissue.look
    soft = cv2.GaussianBlur(area.astype(np.float32), (0, 0), 1.5)
    tissue.clear(area)
    eosin, hematoxylin = {"fat": _fat, "blood": _blood, "muscle": _muscle}[look.rest](tissue, area)
    tissue.eosin[:] = tissue.eosin * (1 - soft) + eosin * soft
    tissue.hematoxylin[:] = tissue.hematoxylin * (1 - soft) + hematoxylin * soft


def _fat(tissue: Tissue, area: Mask) -> tuple[Field, Field]:
    cells, _ = _cells(tissue, _scatter(tissue, 44, np.ones(tissue.shape, np.bool_)))
    membrane = _bent(tissue, _borders(cells, 1.2), 3.0)
    tissue.stamp("fibroblast", _thinned(tissue, _scatter(tissue, 12, area & (membrane > 0.6)), 0.15))
    return 0.03 + membrane * (0.55 + 0.15 * tissue.noise(20)), 0.04 * membrane


def _blood(tissue: Tissue, area: Mask) -> tuple[Field, Field]:
    _, distance = _cells(tissue, _scatter(tissue, 9, area))
    serum = 0.28 + 0.05 * tissue.noise(30)
    return np.maximum(np.clip(4.4 - distance, 0, 1) * (0.95 + 0.1 * tissue.noise(40)), serum), 0.03 * serum


def _muscle(tissue: Tissue, area: Mask) -> tuple[Field, Field]:
    """The colour of the patient's stroma, and its nuclei: only the even straight stripes are its own."""
    rows, columns = np.mgrid[: tissue.shape[0], : tissue.shape[1]].astype(np.float32)
    angle, (blue, pink) = tissue.rng.uniform(0, np.pi), tissue.look.collagen
    across = rows * np.cos(angle) - columns * np.sin(angle) + 3 * tissue.noise(110)
    stripes = (1 + 0.3 * tissue.noise(24)) * np.sin(2 * np.pi * across / 8).astype(np.float32)
    points = _thinned(tissue, _scatter(tissue, 26, area), 0.75)
    tissue.stamp("fibroblast", points, np.full(len(points), angle, np.float32))
    eosin = pink * (1.05 + 0.38 * stripes + 0.06 * tissue.noise(3) + 0.08 * tissue.noise(70))
    return np.clip(eosin, 0.1, 1.3), blue + np.zeros_like(eosin)


def _bent(tissue: Tissue, field: Field, by_px: float) -> Field:
    """The field seen through uneven glass: straight lines become curves."""
    rows, columns = np.mgrid[: tissue.shape[0], : tissue.shape[1]].astype(np.float32)
    x, y = columns + by_px * tissue.noise(32), rows + by_px * tissue.noise(32)
    return _looked_up(field, x, y, cv2.BORDER_REFLECT)


def _looked_up(field: Field, x: Field, y: Field, border: int) -> Field:
    """The field's values at the places (x, y), interpolated."""
    found = cv2.remap(field, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(found, np.float32)
