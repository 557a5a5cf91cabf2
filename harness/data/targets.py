"""Source ids of a mask -> what a loss sees, as one table of 256 entries."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.config.labels import IGNORE, LabelMap


def target_table(labels: LabelMap, undefined: Literal["ignore", "as_paper"]) -> NDArray[np.uint8]:
    """`table[mask]` are the targets of a mask of source ids.

    `ignore`: classes are 0..K-1; undefined, ignored and unknown ids are IGNORE.
    `as_paper`: undefined and ignored ids are 0, classes 1..K. An id that the map does not know stays IGNORE,
    which no such model has a logit for: it fails loudly instead of becoming a class.
    """
    table = np.full(256, IGNORE, np.uint8)
    for source_id in labels.known_ids:
        index = labels.class_of(source_id)
        if undefined == "as_paper":
            table[source_id] = 0 if index is None else index
        elif index is not None:
            table[source_id] = index - 1
    return table
