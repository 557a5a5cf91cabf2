"""From stain densities to the RGB of a scanner: each centre has its own dyes, optics and sensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.data.phantom_layout import Field, smooth_noise

Image = NDArray[np.uint8]  # (H, W, 3), RGB


@dataclass(frozen=True, slots=True)
class Stain:
    """How one centre stains and scans."""

    hematoxylin: tuple[float, float, float]  # optical density in R, G, B
    eosin: tuple[float, float, float]
    strength: tuple[float, float]  # of hematoxylin, of eosin
    white: tuple[float, float, float]
    blur_px: float
    noise: float  # standard deviation in grey values
    jpeg_quality: int


def _stain(h: str, e: str, strength: tuple[float, float], white: str, blur: float, noise: float, jpeg: int) -> Stain:
    """Vectors as text, so that the table below reads like a table."""
    r, g, b = (float(x) for x in h.split())
    er, eg, eb = (float(x) for x in e.split())
    wr, wg, wb = (float(x) for x in white.split())
    return Stain((r, g, b), (er, eg, eb), strength, (wr, wg, wb), blur, noise, jpeg)


# Optical densities near Macenko's (2009) vectors, hematoxylin (.56, .72, .41) and eosin (.22, .80, .56), moved so
# that centres look as different as TCGA sites, Nijmegen and Brussels do.
STAINS: Mapping[str, Stain] = {
    "A2": _stain(".62 .68 .34", ".12 .72 .36", (1.20, 0.95), "243 241 244", 0.60, 2.5, 88),
    "AR": _stain(".70 .66 .30", ".06 .55 .30", (1.10, 0.85), "236 236 240", 0.85, 3.5, 80),
    "E2": _stain(".56 .74 .40", ".16 .84 .30", (1.30, 1.10), "246 243 243", 0.55, 2.0, 92),
    "TC": _stain(".66 .70 .26", ".10 .62 .44", (1.05, 1.00), "240 238 242", 0.70, 3.0, 85),
    "JB": _stain(".54 .70 .46", ".20 .74 .50", (1.25, 0.90), "244 240 238", 0.75, 2.5, 84),
}


def scan(
    hematoxylin: Field, eosin: Field, stain: Stain, strength: tuple[float, float], rng: np.random.Generator
) -> Image:
    """Densities to RGB (Beer-Lambert), through a centre's stain, optics, sensor and JPEG."""
    shape = (hematoxylin.shape[0], hematoxylin.shape[1])
    thickness = 1 + 0.07 * smooth_noise(rng, shape, 180)
    strength_h, strength_e = np.multiply(stain.strength, strength)
    optical = (thickness * hematoxylin * strength_h)[..., None] * np.array(stain.hematoxylin, np.float32)
    optical = optical + (thickness * eosin * strength_e)[..., None] * np.array(stain.eosin, np.float32)
    light = np.array(stain.white, np.float32) * np.exp(-optical).astype(np.float32)
    light = cv2.GaussianBlur(light, (0, 0), stain.blur_px)
    light = light + stain.noise * rng.standard_normal((*shape, 1), dtype=np.float32)
    rgb = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    _, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, stain.jpeg_quality])
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
