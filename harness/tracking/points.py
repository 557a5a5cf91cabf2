"""A trial's numbers as points of curves and single values. Sends nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeGuard

from harness.tracking.tracker import Point, storable_key

# Few and without a folder: MLflow shows them first. The rest lies under cost/, paper/ and scores/.
_TOP_SCORES = {"val/iou": "iou", "val/dice": "dice", "val/yardstick": "yardstick"}
# A curve without a folder would stand among the best epoch's scores.
_FILED = {"lr": "train/lr"}
_COSTS = ("seconds", "seconds_per_epoch", "parameters", "peak_memory_bytes", "ms_per_megapixel")


def epoch_points(events: Sequence[Mapping[str, Any]], *, after_epoch: int) -> list[Point]:
    """The curves' points of the epochs after `after_epoch`, at the events' own times."""
    return [
        Point(storable_key(_FILED.get(key, key)), float(value), event["epoch"], round(event["time"] * 1000))
        for event in events
        if event["event"] == "epoch" and event["epoch"] > after_epoch
        for key, value in {**event["values"], "system/epoch_seconds": event.get("seconds")}.items()
        if is_number(value)
    ]


def final_points(result: Mapping[str, Any], time_ms: int) -> list[Point]:
    """The best epoch's scores under short names, the detailed ones under scores/ and paper/, and the cost."""
    values: dict[str, Any] = {short: result["scores"].get(key) for key, short in _TOP_SCORES.items()}
    values["objective"] = (result.get("objective") or {}).get("value")
    values["best_epoch"] = result.get("best_epoch")
    values["train/lr_cuts"] = result.get("lr_cuts")
    values["minutes"] = result["seconds"] / 60 if is_number(result.get("seconds")) else None
    values |= {f"scores/{key}": value for key, value in result["scores"].items() if _is_shown(key)}
    for key, value in (result.get("paper") or {}).items():
        # paper/val/iou is the curve's name already.
        values[key if key.startswith("paper/best") else key.replace("paper/", "paper/best_epoch/", 1)] = value
    values |= {f"cost/{key}": result.get(key) for key in _COSTS}
    # At step 0 MLflow draws bars, one per run; at any later step a line chart of single points.
    return [Point(storable_key(key), float(value), 0, time_ms) for key, value in values.items() if is_number(value)]


def _is_shown(score: str) -> bool:
    """Per class over everything; the macro scores and the yardstick of each subset. The rest is in result.json."""
    subset, _, name = score.removeprefix("val/").rpartition("/")
    return not subset or name in ("iou", "dice", "yardstick")


def milliseconds(moment: object) -> int | None:
    """Unix seconds or an ISO time as MLflow's milliseconds; None for anything else."""
    if isinstance(moment, int | float):
        return round(moment * 1000)
    try:
        return round(datetime.fromisoformat(str(moment)).timestamp() * 1000)
    except ValueError:
        return None


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
