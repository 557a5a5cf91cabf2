"""Row 9: training on a CUDA device."""

from __future__ import annotations

from benchmarks.bench.row import Comparison, Row

ROW = Row(
    number=9,
    work="training throughput on a CUDA device: 256 px, batch 32, H100 class",
    comparisons=(
        Comparison("ours", "smp example as written", "images_per_s", goal=10, better="more"),
        Comparison("ours", "tuned fp32 loop", "images_per_s", goal=3, better="more"),
        Comparison("ours", "tuned bf16 loop", "images_per_s", goal=1.4, better="more"),
    ),
    unmeasured="needs a CUDA device",
)
