"""Spearman's correlation against another implementation."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.inference.ranks import rank_correlation


@settings(deadline=None)  # .5 ms, but cores are shared
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=30))
def test_rank_correlation_is_that_of_pandas(pairs: list[tuple[int, int]]) -> None:
    """Ties included; None where one side has no spread."""
    frame = pandas.DataFrame(pairs)
    ours = rank_correlation(frame[0].to_list(), frame[1].to_list())
    if any(frame[column].nunique() == 1 for column in frame):
        assert ours is None
    else:
        assert ours == pytest.approx(np.corrcoef(frame[0].rank(), frame[1].rank())[0, 1])


def test_rank_correlation_by_hand() -> None:
    """Same order 1, opposite -1; ties at their mean rank: (1.5, 1.5, 3) against (1, 2, 3) is .866; constant is none."""
    assert rank_correlation([1, 5, 9], [0.1, 0.2, 0.9]) == pytest.approx(1)
    assert rank_correlation([1, 5, 9], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([4, 4, 9], [1, 2, 3]) == pytest.approx(0.8660254)
    assert rank_correlation([4, 4, 4], [1, 2, 3]) is None
