"""The databases a sweep is copied into: what people hear of them."""

from __future__ import annotations

from harness.sweep.copies import said_once


def test_what_failed_for_one_reason_is_one_line() -> None:
    """A wrong password is not as many lines as there are trials."""
    wants = "MLflow declines: it wants another login"
    assert said_once([f"a: {wants}", f"b: {wants}", "c: its folder is gone: really", f"d: {wants}"]) == [
        f"a and 2 more: {wants}",
        "c: its folder is gone: really",
    ]
