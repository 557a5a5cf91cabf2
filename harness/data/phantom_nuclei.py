"""The nuclei of the phantom, and the canvas of stain densities that tissue is painted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from harness.data.phantom_layout import Field, Mask, Scene, smooth_noise

Points = NDArray[np.float32]  # (n, 2) in x, y
Angles = NDArray[np.float32]  # radians

_MARGIN_PX = 32  # a nucleus may hang over the edge of the ROI
_TURNS = 12  # sprites are drawn once for every half turn / 12, then stamped


@dataclass(frozen=True, slots=True)
class Look:
    """How the tissue of one patient differs from that of the next."""

    tumor_radius_px: float
    tumor_darkness: float
    pleomorphism: float
    lumens: float  # 0..1, how often tumor cells leave little holes, in ducts and in nests alike
    cracks: float  # 0..1, how far tumor cells have shrunk apart
    loose: float  # 0..1, clefts between the collagen bundles
    # Background densities (hematoxylin, eosin). Their ranges overlap: what is pink stroma in one patient is the
    # colour of tumor cytoplasm in the next.
    cytoplasm: tuple[float, float]
    collagen: tuple[float, float]
    strength: tuple[float, float]  # on top of the centre's
    rest: str  # "fat", "muscle" or "blood"


@dataclass(frozen=True, slots=True)
class Nucleus:
    """One kind of nucleus, as it is drawn."""

    radius_px: float
    spread: float  # of the radius, relative
    aspect: float  # length by width
    darkness: float  # hematoxylin density
    clumps: float  # contrast of the chromatin; 0 is smooth
    rim: float  # extra density of the nuclear membrane


NUCLEI: Mapping[str, Nucleus] = MappingProxyType(
    {
        "tumor": Nucleus(8.5, 0.16, 1.25, 0.62, 0.24, 0.22),
        "lymphocyte": Nucleus(4.7, 0.08, 1.08, 1.15, 0.18, 0.05),
        "epithelium": Nucleus(5.0, 0.08, 1.15, 0.98, 0.16, 0.10),
        "fibroblast": Nucleus(3.9, 0.20, 4.0, 0.92, 0.10, 0.0),
        "myoepithelium": Nucleus(3.3, 0.12, 2.6, 1.15, 0.10, 0.0),
        "ghost": Nucleus(7.5, 0.15, 1.2, 0.20, 0.10, 0.04),
        "debris": Nucleus(2.4, 0.40, 1.2, 0.95, 0.10, 0.0),
    }
)


class Tissue:
    """The two densities of one ROI while they are being painted, and its random stream."""

    def __init__(self, scene: Scene, look: Look, rng: np.random.Generator) -> None:
        self.scene, self.look, self.rng = scene, look, rng
        self.shape: tuple[int, int] = (scene.labels.shape[0], scene.labels.shape[1])
        self.hematoxylin: Field = np.zeros(self.shape, np.float32)
        self.eosin: Field = np.zeros(self.shape, np.float32)
        padded = (self.shape[0] + 2 * _MARGIN_PX, self.shape[1] + 2 * _MARGIN_PX, 2)
        self._nuclei = np.zeros(padded, np.float32)  # density, coverage
        self._sprites: dict[tuple[str, int], list[NDArray[np.float32]]] = {}

    def area(self, *labels: int) -> Mask:
        return np.isin(self.scene.labels, labels)

    def noise(self, wavelength_px: float) -> Field:
        return smooth_noise(self.rng, self.shape, wavelength_px)

    def stamp(self, kind: str, points: Points, angles: Angles | None = None) -> None:
        """Draw nuclei of one kind at these points; without angles every nucleus turns as it likes."""
        if angles is None:
            angles = self.rng.uniform(0, np.pi, len(points)).astype(np.float32)
        for (x, y), angle in zip(points, angles, strict=True):
            bank = self._bank(kind, round(float(angle) / np.pi * _TURNS) % _TURNS)
            sprite = bank[int(self.rng.integers(len(bank)))]
            reach = sprite.shape[0] // 2
            top, left = round(float(y)) + _MARGIN_PX - reach, round(float(x)) + _MARGIN_PX - reach
            spot = self._nuclei[top : top + sprite.shape[0], left : left + sprite.shape[1]]
            if spot.shape == sprite.shape:
                np.maximum(spot, sprite, out=spot)

    def clear(self, holes: Mask) -> None:
        """Take the nuclei out of these pixels."""
        inner = self._nuclei[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX]
        inner[holes] = 0

    def densities(self) -> tuple[Field, Field]:
        """Nuclei laid over the background: hematoxylin, eosin."""
        inner = self._nuclei[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX]
        density, coverage = inner[..., 0], inner[..., 1]
        return self.hematoxylin * (1 - coverage) + density, self.eosin * (1 - 0.55 * coverage)

    def _bank(self, kind: str, turn: int) -> list[NDArray[np.float32]]:
        key = (kind, turn)
        if key not in self._sprites:
            self._sprites[key] = [self._sprite(kind, turn * np.pi / _TURNS) for _ in range(3)]
        return self._sprites[key]

    def _sprite(self, kind: str, angle: float) -> NDArray[np.float32]:
        nucleus, rng = NUCLEI[kind], self.rng
        radius, spread, darkness = nucleus.radius_px, nucleus.spread, nucleus.darkness
        if kind in ("tumor", "ghost"):
            radius *= self.look.tumor_radius_px / NUCLEI["tumor"].radius_px
            spread *= self.look.pleomorphism
        if kind == "tumor":
            darkness *= self.look.tumor_darkness
        radius *= float(np.exp(spread * rng.normal()))
        darkness *= float(np.exp(0.12 * rng.normal()))
        long, short = radius * np.sqrt(nucleus.aspect), radius / np.sqrt(nucleus.aspect)
        reach = min(int(long * 1.3) + 3, _MARGIN_PX)
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
        u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
        lobe = 1 + 0.07 * np.cos(2 * np.arctan2(v, u) + rng.uniform(0, 6)) * rng.normal()
        inside = 1 - np.hypot(u / long, v / short) * lobe  # 1 in the middle, 0 at the membrane
        coverage = np.clip(inside * short / 1.2 + 0.5, 0, 1)
        chromatin = 1 + nucleus.clumps * smooth_noise(rng, x.shape, 5.0)
        membrane = nucleus.rim * np.exp(-((inside * short / 1.6) ** 2))
        density = (darkness * np.clip(chromatin, 0.3, 2) + membrane) * coverage
        return np.stack([density, coverage], -1).astype(np.float32)
