"""The traps by name, in the order they are told, and the way through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.config.base import choose_from
from harness.errors import BadInput
from harness.traps import (
    best_of_any_epoch,
    homogeneous_patches,
    mirrored_labels,
    patch_mean,
    patient_split,
    plateau_and_stop,
    undefined_pixels,
)
from harness.traps.bench import Bench
from harness.traps.finding import Finding

# The quick ones first: something is to be seen soon.
TRAPS: dict[str, Callable[[Bench], Finding]] = {
    "plateau_and_stop": plateau_and_stop.demonstrate,
    "mirrored_labels": mirrored_labels.demonstrate,
    "best_of_any_epoch": best_of_any_epoch.demonstrate,
    "patch_mean": patch_mean.demonstrate,
    "undefined_pixels": undefined_pixels.demonstrate,
    "homogeneous_patches": homogeneous_patches.demonstrate,
    "patient_split": patient_split.demonstrate,
}


def demonstrate(names: Sequence[str], *, seed: int, say: Callable[[str], None]) -> tuple[Finding, ...]:
    """Demonstrate these traps (none named: all) on one phantom; BadInput for a name that is not a trap."""
    check_names(names)
    chosen = [name for name in TRAPS if name in names or not names]
    with TemporaryDirectory(prefix="harness-traps-") as folder:
        bench = Bench(Path(folder), seed=seed, say=lambda line: say(f"  {line}"))
        findings = []
        for number, name in enumerate(chosen, start=1):
            say(f"{number} of {len(chosen)}: {name}")
            findings.append(TRAPS[name](bench))
    return tuple(findings)


def check_names(names: Sequence[str]) -> None:
    """BadInput for names that are not traps, all at once."""
    unknown = [name for name in names if name not in TRAPS]
    if unknown:
        raise BadInput([f"{name!r} is not a trap; {choose_from(name, TRAPS)}" for name in unknown])
