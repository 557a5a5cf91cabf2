"""A row that this machine cannot run."""

from __future__ import annotations

from benchmarks.bench.row import Comparison, Row

ROW = Row(number=93, work="elsewhere", unmeasured="needs a Mac", comparisons=(Comparison("ours", "theirs", goal=2),))
