"""A saved view of MLflow's runs page: which columns, which charts, in which order.

MLflow keeps views as tags of the experiment, and its link names one (`viewStateShareKey`). Without one it folds all
trials away and greets with four charts of cost. The form is that of MLflow 3.17's page (its source has no document of
it); a page that cannot read it says so and shows its defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.tracking.content import SweepView
from harness.tracking.store import trials_filter, view_key

SHOWN_RUNS = 20  # the most that MLflow draws by itself
AXES = 3  # of parallel coordinates; in a third of the page the names of more run into each other
_COLUMNS = ("iou", "dice", "yardstick", "minutes")
_TAGS = ("stratum", "state")
_LEADING = ("architecture", "encoder", "encoder_weights", "patch_px", "learning_rate")
_MADE = 1_767_225_600_000  # any fixed time: the tag must not change with every start


def view_tags(sweep: SweepView) -> dict[str, str]:
    """The experiment's tag that is the view of one generation: its trials, best first (see `ranking`)."""
    value = {
        "name": f"g{sweep.number}: trials by {ranking(sweep)}",
        "createdAt": _MADE,
        "updatedAt": _MADE,
        "state": json.dumps(_state(sweep), separators=(",", ":")),
    }
    return {f"mlflow.sharedViewState.{view_key(sweep.number)}": json.dumps(value, separators=(",", ":"))}


def ranking(sweep: SweepView) -> str:
    """The metric that trials are sorted by: across label maps only the yardstick ranks."""
    return "yardstick" if sweep.label_maps > 1 else "objective"


def _state(sweep: SweepView) -> dict[str, Any]:
    objective, first = sweep.objective, ranking(sweep)
    columns = [
        *(f"metrics.`{name}`" for name in ("objective", *_COLUMNS) if f"val/{name}" != objective),
        *(f"params.`{name}`" for name in _varied(sweep)),
        *(f"tags.`{name}`" for name in _TAGS),
    ]
    charts, sections = _charts(first, objective, _varied(sweep))
    return {
        "searchFilter": trials_filter(sweep.number),
        "orderByKey": f"metrics.`{first}`",
        "orderByAsc": first == "objective" and sweep.goal == "minimize",
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,  # MLflow would sort sections by name: cost first
    }


def _varied(sweep: SweepView) -> list[str]:
    """The searched parameters and the strata's axes, those first that people look for first."""
    names = sorted({*sweep.varied, *sweep.strata_axes})
    return [name for name in _LEADING if name in names] + [name for name in names if name not in _LEADING]


def _charts(first: str, objective: str, varied: Sequence[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Our charts and the order of sections; MLflow adds a chart for every further metric, in a section by its name."""
    second = "objective" if first == "yardstick" else "yardstick"
    drawn: list[tuple[str, Mapping[str, Any]]] = [
        *(("best", {"type": "BAR", "metricKey": name, "displayName": name}) for name in (first, second)),
        ("best", _scatter("minutes", first)),
        ("best", _parallel(varied, first)),
        *(("curves", _line(name)) for name in dict.fromkeys((objective, "val/loss", "train/loss"))),
    ]
    charts = [
        {"uuid": f"harness-{number}", "metricSectionId": f"harness-{section}", "runsCountToCompare": SHOWN_RUNS}
        | {"deleted": False, "isGenerated": False, **chart}
        for number, (section, chart) in enumerate(drawn)
    ]
    sections = [
        {"uuid": f"harness-{key}", "name": name, "display": shown, "isReordered": False, "deleted": False}
        | {"isGenerated": False}
        for key, name, shown in (
            ("best", "Best epoch of every trial", True),
            ("curves", "Curves", True),
            ("val", "val", False),
            ("train", "train", False),
            ("cost", "cost", False),
        )
    ]
    return charts, sections


def _line(metric: str) -> dict[str, Any]:
    settings = {"lineSmoothness": 0, "xAxisKey": "step", "selectedXAxisMetricKey": "", "yAxisKey": "metric"}
    shared = {"useGlobalXaxisKey": True, "useGlobalLineSmoothing": True, "ignoreOutliers": False}
    scales = {"xAxisScaleType": "linear", "scaleType": "linear", "range": {}, "yAxisExpressions": []}
    names = {"metricKey": metric, "selectedMetricKeys": [metric], "displayName": metric}
    return {"type": "LINE", **names, **settings, **shared, **scales}


def _parallel(varied: Sequence[str], metric: str) -> dict[str, Any]:
    return {
        "type": "PARALLEL",
        "selectedParams": list(varied[:AXES]),
        "selectedMetrics": [metric],
        "showAllRuns": True,
    }


def _scatter(across: str, up: str) -> dict[str, Any]:
    return {"type": "SCATTER", "xaxis": {"key": across, "type": "METRIC"}, "yaxis": {"key": up, "type": "METRIC"}}
