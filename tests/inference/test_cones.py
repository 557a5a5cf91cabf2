"""The largest ratio over all pairs, found in cones: the same as by trying every pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.inference import cones
from harness.inference.cones import Search, alike


def on_curves(random: np.random.Generator, patients: int, rows: int, noise: float) -> np.ndarray:
    """(P, M) deviations of a sweep: a few models, each moved along a line of its own by some setting, and noise."""
    models, lines = random.normal(0, 0.05, (2, patients, 3))
    which, how_far = random.integers(0, 3, rows), random.random(rows)
    shared = models[:, which] + lines[:, which] * how_far + random.normal(0, noise, (patients, rows))
    return np.asarray(shared - shared.mean(axis=0))


def every_pair(shared: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) by trying all of them."""
    first, second = np.triu_indices(shared.shape[1], 1)
    apart = np.sqrt(((shared[:, first] - shared[:, second]) ** 2).sum(axis=0))
    told = apart > 1e-6 * np.sqrt((shared**2).sum(axis=0).max())
    return np.asarray((np.abs(draws[:, first[told]] - draws[:, second[told]]) / apart[told]).max(axis=1, initial=0.0))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    patients=st.integers(3, 20),
    rows=st.integers(33, 400),
    noise=st.sampled_from([1e-4, 1e-3, 1e-2, 0.1]),
)
def test_the_largest_in_cones_is_the_largest_of_all_pairs(seed: int, patients: int, rows: int, noise: float) -> None:
    """Rows along lines and in clouds, copies among them: whatever a draw does not look at is not its largest."""
    random = np.random.default_rng(seed)
    shared = on_curves(random, patients, rows, noise)
    shared[:, 5:9] = shared[:, :1]
    normals = random.standard_normal((60, patients))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cones, "WORTH_ROWS", 0)
        patch.setattr(cones, "WORTH_INSIDE", 0.0)
        search = Search.of(shared, normals, normals @ shared)
    assert search is not None
    assert search.largest() == pytest.approx(every_pair(shared, normals @ shared), rel=1e-9)


def test_most_pairs_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,000 rows along three lines, fewer than a third of all products of draws and pairs are computed."""
    random = np.random.default_rng(1)
    shared, normals = on_curves(random, 8, 2000, 1e-3), random.standard_normal((100, 8))
    computed = []
    highest = cones._highest
    monkeypatch.setattr(cones, "_highest", lambda b, n: (computed.append(len(b) * n.shape[1]), highest(b, n))[1])
    search = Search.of(shared, normals, normals @ shared)
    assert search is not None
    search.largest()
    assert sum(computed) < 100 * 2000**2 / 2 / 3


def test_no_cones_for_few_rows_nor_for_rows_that_are_not_alike() -> None:
    """Trying every pair is as fast there."""
    random = np.random.default_rng(2)
    normals = random.standard_normal((10, 30))
    cloud = random.normal(size=(30, 1200))
    few = on_curves(random, 30, 999, 1e-4)
    assert Search.of(cloud, normals, normals @ cloud) is None
    assert Search.of(few, normals, normals @ few) is None


def test_blocks_hold_every_row_once_and_are_full_but_the_last() -> None:
    """70 rows in blocks of 32 that lie along one coordinate."""
    points = np.random.default_rng(3).permutation(70.0 * np.arange(70))[None]
    blocks = list(alike(points, np.arange(70), 32))
    assert [len(block) for block in blocks] == [32, 32, 6]
    assert points[0, np.concatenate(blocks)].tolist() == sorted(points[0])


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_rows_that_are_all_equal_show_nothing(size: float) -> None:
    """No pair differs, so that there is no cone."""
    normals = np.random.default_rng(4).standard_normal((10, 6))
    same = np.tile(size * (np.arange(6.0)[:, None] - 2.5), 1000)
    assert Search.of(same, normals, normals @ same) is None
