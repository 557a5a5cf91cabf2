"""What a report without pictures does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.factory import SweepFolder


@pytest.mark.parametrize("module", ["cv2", "ruamel.yaml", "psutil", "torch"])
def test_a_report_without_pictures_loads_no(module: str, tmp_path: Path) -> None:
    """OpenCV draws pictures, ruamel reads search spaces: both are loaded when it comes to that."""
    sweep = SweepFolder(tmp_path, name="light")
    sweep.trial({"architecture": "unet"}, value=0.5)
    sweep.trial({"architecture": "unet_plain"}, value=0.4)
    code = (
        "import sys; from pathlib import Path; import harness.cli; from harness.report.index import read_indexed; "
        "from harness.report.page import write_report; sweep = read_indexed(Path(sys.argv[1])); "
        "write_report(sweep, Path(sys.argv[2])); "
        "sys.exit(sys.argv[3] in sys.modules)"
    )
    argv = [sys.executable, "-c", code, str(sweep.path), str(tmp_path / "reports"), module]
    assert subprocess.run(argv, check=False).returncode == 0
