"""Items made in a thread before they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")


class _Item(Generic[Item]):
    def __init__(self, value: Item) -> None:
        self.value = value


def prefetched(items: Iterator[Item], *, ahead: int = 2) -> Iterator[Item]:
    """The same items in the same order, up to `ahead` of them made before they are asked for.

    What `items` raises is raised where its next item would have been. The thread ends with the items, and when the
    consumer closes or drops this iterator; that waits for at most one item.
    """
    ready: SimpleQueue[_Item[Item] | BaseException | None] = SimpleQueue()
    room, gone = threading.Semaphore(ahead), threading.Event()

    def make() -> None:
        try:
            while room.acquire() and not gone.is_set():
                ready.put(_Item(next(items)))
        except StopIteration:
            ready.put(None)
        except BaseException as error:  # the consumer's to handle, as without a thread
            ready.put(error)

    thread = threading.Thread(target=make, name="prefetch", daemon=True)
    thread.start()
    try:
        while (made := ready.get()) is not None:
            if isinstance(made, BaseException):
                raise made
            room.release()
            yield made.value
    finally:
        gone.set()
        room.release()
        thread.join()
