"""A thread makes items ahead; the consumer cannot tell, but by the clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.prefetch import prefetched
from harness.errors import BadInput


def _threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers()), st.integers(1, 4))
def test_items_come_in_order_and_the_thread_ends_with_them(items: list[int], ahead: int) -> None:
    """All of them, once."""
    assert list(prefetched(iter(items), ahead=ahead)) == items
    assert _threads() == 0


def test_none_and_exceptions_may_be_items() -> None:
    """Neither is taken for the end or for an error."""
    items = [None, KeyError("an item"), None]
    assert list(prefetched(iter(items))) == items


def test_an_error_comes_after_the_items_before_it() -> None:
    """The same exception that the items raised, in the consumer's thread."""

    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise BadInput("a policy gave another shape")

    seen = []
    with pytest.raises(BadInput, match="another shape"):
        for item in prefetched(failing()):
            seen.append(item)
    assert seen == [1, 2]
    assert _threads() == 0


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_no_more_than_so_many_items_are_made_ahead(ahead: int) -> None:
    """With three in the consumer's hands the thread gets to 3 + ahead, and stays there."""
    made, reached = [], threading.Event()

    def counted() -> Iterator[int]:
        for item in range(100):
            made.append(item)
            if len(made) == 3 + ahead:
                reached.set()
            yield item

    items = prefetched(counted(), ahead=ahead)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    assert reached.wait(10)
    assert not any(len(made) > 3 + ahead for _ in range(1000))
    items.close()  # type: ignore[attr-defined]
    assert len(made) == 3 + ahead


def test_a_consumer_that_raises_or_stops_leaves_no_thread() -> None:
    """A loss that is not finite, a stop, a break: a loop that ends drops its iterator, even while its error is kept."""

    def endless() -> Iterator[int]:
        while True:
            yield 1

    kept = []
    for _ in range(3):
        try:
            for _ in enumerate(prefetched(endless())):
                raise ArithmeticError
        except ArithmeticError as error:
            kept.append(error)
        assert _threads() == 0
        for _ in prefetched(endless()):
            break
        assert _threads() == 0
