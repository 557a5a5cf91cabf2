"""The largest |difference| / error over all pairs of rows, of many draws, without trying every pair in every draw.

A pair is a direction in the space of the patients: the difference of two rows' deviations, of length one. What a draw
shows for it is the draw's length times the cosine between both, so only directions close to a draw can be its largest.
Rows that are alike are put into blocks, and most differences between two blocks lie in a narrow cone around that of
their centres: a draw looks into a cone only if it is near enough to hold something larger than it has seen (on the
sphere angles obey the triangle inequality). Pairs outside of their cone are tried in every draw. So the result is
exact, whatever the order in which pairs are tried.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]

BLOCK = 32  # rows
# Half the opening of a cone, radians: narrower ones leave more pairs outside, wider ones are looked into more often.
OPENING = 0.6
MARGIN = 1e-3  # radians, far above what rounding can do to an angle
WORTH_ROWS = 1000  # of fewer rows all pairs are tried as fast
WORTH_INSIDE = 0.5  # of the pairs between two blocks; where rows are not alike, all pairs are tried faster
PIECE = 100_000  # numbers of differences held at a time, .8 MB
CHUNK = 250_000  # ratios held at a time, 1 MB
# glibc keeps twice of what it has freed at once, at most 32 MB, and returns what is more to the system: a third of the
# time of 10,000 rows was for getting the same pages again (mallopt(3), "dynamic mmap threshold").
KEPT = 30_000_000  # bytes
# Relative; single precision is right to 6e-8, and a ratio adds up to 48 products.
SINGLE = 2e-5
NOTHING = 1e-13  # of the largest axis
# Of a variance: two rows are equal where that of their difference is no more than this.
EQUAL = 1e-12


@dataclass(frozen=True, slots=True)
class Search:
    """N blocks of R rows in K directions, B draws in the same directions, and what each draw has found so far."""

    rows_NR: NDArray[np.int64]  # the last row is repeated to fill the last block
    blocks_NKR: Doubles
    squares_NR: Doubles  # variances
    normals_BK: Doubles
    single_BK: Singles
    lengths_B: Doubles
    draws_BM: Doubles  # the scores' deviations in each draw
    best_B: Doubles
    lock: Lock = field(default_factory=Lock)

    @classmethod
    def of(cls, shared_PM: Doubles, normals_BP: Doubles, draws_BM: Doubles) -> Search | None:
        """Of M rows, with `draws_BM` = `normals_BP @ shared_PM`; None where trying every pair is faster."""
        if shared_PM.shape[1] < WORTH_ROWS or not shared_PM.any():
            return None
        # Along the rows' own axes blocks are rounder; directions that no row has drop out.
        axes_PK, sizes, _ = np.linalg.svd(shared_PM, full_matrices=False)
        axes_PK = axes_PK[:, sizes > NOTHING * sizes[0]]
        points_KM, normals_BK = axes_PK.T @ shared_PM, normals_BP @ axes_PK
        ordered = np.concatenate(list(alike(points_KM, np.arange(points_KM.shape[1]))))
        rows_NR = np.pad(ordered, (0, -len(ordered) % BLOCK), mode="edge").reshape(-1, BLOCK)
        blocks_NKR = np.ascontiguousarray(points_KM[:, rows_NR].transpose(1, 0, 2))
        found = cls(
            rows_NR, blocks_NKR, (blocks_NKR**2).sum(axis=1), normals_BK, normals_BK.astype(np.float32),
            np.linalg.norm(normals_BK, axis=1), draws_BM, np.zeros(len(normals_BK)),
        )  # fmt: skip
        return found if found._inside() >= WORTH_INSIDE else None

    def largest(self) -> Doubles:
        """(B,) the largest |difference| / error over all pairs; 0 where all rows are equal."""
        np.empty(KEPT, dtype=np.uint8)
        blocks, directions, _ = self.blocks_NKR.shape
        step = max(1, PIECE // (directions * BLOCK**2))
        pieces = [(one, slice(start, start + step)) for one in range(blocks) for start in range(one + 1, blocks, step)]
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:  # numpy computes outside of the interpreter lock
            # Rows of one block differ in all directions, so that draws have seen much before they look into cones.
            list(pool.map(lambda one: self._look(one, slice(one, one + 1)), range(blocks)))
            list(pool.map(lambda piece: self._look(*piece), pieces))
        return self.best_B

    def _inside(self) -> float:
        """The share of pairs inside of their cone, of each block with the one half of all further on."""
        half = len(self.rows_NR) // 2
        pairs = [self._directions(one, slice(one + half, one + half + 1)) for one in range(half)]
        return 1.0 - float(np.mean([outside.mean() for _, _, _, outside in pairs]))

    def _directions(self, one: int, others: slice) -> tuple[Singles, Doubles, Doubles, NDArray[np.bool_]]:
        """Of all pairs of a block's rows with those of n others: unit vectors (n, K, R, R), weights (n, R, R).

        Then the axes of the cones (n, K), and which pairs lie outside (n, R, R). A weight is one over the error.
        """
        mine_KR, theirs_NKR = self.blocks_NKR[one], self.blocks_NKR[others]
        apart = mine_KR[..., None] - theirs_NKR[:, :, None]
        squares = np.einsum("nkrs,nkrs->nrs", apart, apart)
        nothing = EQUAL * np.maximum(self.squares_NR[one][:, None], self.squares_NR[others][:, None])
        weights = np.divide(1.0, np.sqrt(squares), out=np.zeros_like(squares), where=squares > nothing)
        apart *= weights[:, None]
        units = apart.astype(np.float32)
        axes = mine_KR.mean(axis=1) - theirs_NKR.mean(axis=2)
        lengths = np.linalg.norm(axes, axis=1, keepdims=True)
        axes = np.divide(axes, lengths, out=np.zeros_like(axes), where=lengths > 0)
        cosines = np.einsum("nkrs,nk->nrs", units, axes.astype(np.float32))
        return units, weights, axes, cosines < np.float32(np.cos(OPENING))

    def _look(self, one: int, others: slice) -> None:
        """At all pairs of a block's rows with those of others."""
        units, weights, axes, outside = self._directions(one, others)
        found_B = _highest(self.single_BK, np.stack([part[outside] for part in units.swapaxes(0, 1)]))
        reach_B = np.arccos(np.clip(self.best_B / self.lengths_B, 0.0, 1.0)) + OPENING + MARGIN
        near_NB = np.abs(axes @ self.normals_BK.T) >= self.lengths_B * np.cos(np.minimum(reach_B, np.pi / 2))
        for near_B, cone in zip(near_NB, units, strict=True):
            draws = np.flatnonzero(near_B)
            if len(draws):
                highest = _highest(self.single_BK[draws], cone.reshape(len(cone), -1))
                found_B[draws] = np.maximum(found_B[draws], highest)
        mine, theirs = self.rows_NR[one][:, None], self.rows_NR[others][:, None]
        for draw in np.flatnonzero(found_B > self.best_B * (1 - SINGLE)):
            shown_M = self.draws_BM[draw]
            exact = (np.abs(shown_M[mine] - shown_M[theirs]) * weights).max()
            with self.lock:
                self.best_B[draw] = max(self.best_B[draw], exact)


def alike(points_KM: Doubles, rows: NDArray[np.int64], size: int = BLOCK) -> Iterator[NDArray[np.int64]]:
    """Blocks of `size` rows (the last may have fewer) that lie close together: halved along the widest coordinate."""
    if len(rows) <= size:
        yield rows
        return
    mine_KR = points_KM[:, rows]
    ordered = rows[np.argsort(mine_KR[np.ptp(mine_KR, axis=1).argmax()], kind="stable")]
    half = -(-len(rows) // size) // 2 * size
    yield from alike(points_KM, ordered[:half], size)
    yield from alike(points_KM, ordered[half:], size)


def _highest(normals_BK: Singles, units_KN: Singles) -> Singles:
    """(B,) the largest |product| of each draw with any of N directions."""
    step = max(1, CHUNK // len(normals_BK))
    found_B = np.zeros(len(normals_BK), dtype=np.float32)
    for start in range(0, units_KN.shape[1], step):
        ratios = normals_BK @ units_KN[:, start : start + step]
        np.maximum(found_B, np.abs(ratios, out=ratios).max(axis=1), out=found_B)
    return found_B
