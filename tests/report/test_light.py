"""What a report without pictures does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["cv2", "ruamel.yaml", "torch"])
def test_the_rooms_of_a_report_load_no(module: str) -> None:
    """OpenCV draws pictures and ruamel reads search spaces; both are loaded when it comes to that."""
    code = f"import sys, harness.cli, harness.report.index, harness.report.page; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
