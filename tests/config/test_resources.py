"""`resources:`: sizes and words for schedulers, and no part of what is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.load import load_space
from harness.config.resources import parse_size
from harness.errors import BadInput
from tests.spaces import written

LINES = "parameters: {architecture: {value: unet_plain}}\n"


def test_sizes_are_powers_of_1024_as_slurm_counts() -> None:
    """32G is 32 * 2^30."""
    assert [parse_size(text) for text in ("32G", "1.5 T", "800MiB", 17)] == [
        32 * 2**30,
        int(1.5 * 2**40),
        800 * 2**20,
        17,
    ]
    for wrong in ("32", "0G", "-1G", "8 gigs", True):
        with pytest.raises(ValueError, match="is not a size; write 800M, 32G or 1T"):
            parse_size(wrong)


def test_where_trials_run_makes_no_generation(tmp_path: Path) -> None:
    """The same key with other resources: finished trials stay."""
    plain = load_space(written(tmp_path, LINES))
    moved = load_space(written(tmp_path, LINES + "resources: {gpus: 0.5, cpus: 8, memory: 32G, time: 4h}\n"))
    assert moved.resources.gpus == 0.5
    assert moved.resources.time == 4 * 3600
    assert moved.key == plain.key


@pytest.mark.parametrize("line", ["partition: 'a b'", "memory: lots", "qos: '$(id)'", "gpu: 1"])
def test_words_that_a_scheduler_would_misread_are_refused_with_their_line(line: str, tmp_path: Path) -> None:
    """Blanks, shell characters, unknown keys: file, line, what is wrong."""
    with pytest.raises(BadInput, match=r"\.yaml:\d+: resources\."):
        load_space(written(tmp_path, f"{LINES}resources: {{{line}}}\n"))
