"""The command line: help everywhere, one clear line for wrong input, exit codes, JSON for scripts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import cv2
import pytest
from click.testing import CliRunner, Result

from harness.cli import main
from harness.data.phantom import Phantom, synthesize


def run(*arguments: str | Path) -> Result:
    """The command in this process; click keeps stdout and stderr apart."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command's words."""
    found = []
    for name, command in group.commands.items():
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic patients."""
    return synthesize(tmp_path_factory.mktemp("data") / "phantom", Phantom(patients=4, roi_px=128))


@pytest.mark.parametrize("words", commands(main), ids=" ".join)
def test_every_command_has_help_and_stands_in_the_readme(words: tuple[str, ...]) -> None:
    """Its first line says what it does."""
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()[2].strip()) > 20
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    assert words[-1] in readme


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("sweep", "nosuch"), 2, "come along by name: paper, quickstart, recipes, unicorn"),
        (("sweep", "nosuch.yaml"), 2, "no such file"),
        (("sweep", "unicorn"), 2, "aws s3 cp s3://tiger-training"),
        (("sweep", "quickstart", "--set", "train.epochs"), 2, "KEY=VALUE"),
        (("sweep", "quickstart", "--set", "train.epochs=2024-13-45"), 2, "train.epochs"),
        (("sweep", "quickstart", "--set", "train.epoch=1"), 2, "did you mean"),
        (("sweep", "quickstart", "--device", "cuda"), 3, "NVIDIA"),
        (("status",), 2, "no sweep in"),
        (("report", "nosuch"), 2, "no sweep named 'nosuch'"),
        (("rm", "../x", "--yes"), 2, "not the name of a sweep"),
        (("stop", "nosuch"), 2, "no sweep named 'nosuch'"),
    ],
)
def test_wrong_input_is_one_clear_line_and_its_exit_code(
    arguments: tuple[str, ...], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written to the working directory either."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.execute.devices.nvidia_devices", list)
    result = run(*arguments, "--home", tmp_path / "home")
    assert result.exit_code == code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("harness: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert not list(tmp_path.glob("reports"))


def test_a_file_where_the_home_should_be_is_refused(tmp_path: Path) -> None:
    """Exit 2 by click's own check, or 3 by ours; never a traceback."""
    (tmp_path / "file").write_text("")
    assert run("status", "--home", tmp_path / "file" / "home").exit_code == 3


@pytest.mark.parametrize("name", ["2024", "1e5", "-x", "a" * 90, "it's mine"])
def test_init_writes_a_space_that_loads(name: str, tmp_path: Path) -> None:
    """Whatever the file is called and the folder too; a second time is refused."""
    from harness.config.load import load_space
    from harness.sweep.vocabulary import CHECKS

    file = tmp_path / f"{name}.yaml"
    assert run("init", "--root", "my: data #1", "--", file).exit_code == 0
    assert load_space(file, checks=CHECKS).data.root == "my: data #1"
    assert run("init", "--", file).exit_code == 3


def test_data_commands_count_and_name_what_is_wrong(cohort: Path, tmp_path: Path) -> None:
    """Good data: exit 0. A palette mask, a truncated image and a missing partner are each named: exit 2."""
    assert run("data", "check", cohort).exit_code == 0
    text = run("data", "stats", cohort, "--out", tmp_path)
    document = json.loads(run("data", "stats", cohort, "--json", "--out", tmp_path).stdout)
    assert text.exit_code == 0
    assert "invasive_tumor" in text.stdout
    assert document["patients"] == 4
    shares = [found["share_of_defined"] for found in document["source_ids"].values()]
    assert sum(shares) == pytest.approx(1)

    broken = tmp_path / "broken"
    shutil.copytree(cohort, broken)
    images = sorted(broken.glob("wsirois/roi-level-annotations/tissue-bcss/images/*"))
    images[0].write_bytes(images[0].read_bytes()[:500])
    (images[1].parent.parent / "masks" / images[1].name).unlink()
    mask = images[2].parent.parent / "masks" / images[2].name
    cv2.imwrite(str(mask), cv2.cvtColor(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED), cv2.COLOR_GRAY2BGR))
    result = run("data", "check", broken, "--json")
    assert result.exit_code == 2
    named = {Path(defect["file"]).name for defect in json.loads(result.stdout)["defects"]}
    assert named == {image.name for image in images[:3]}


def test_synth_writes_a_cohort_and_refuses_to_overwrite(tmp_path: Path) -> None:
    """Exit 3 the second time."""
    assert run("data", "synth", tmp_path / "out", "--patients", "4", "--roi-px", "128").exit_code == 0
    assert run("data", "synth", tmp_path / "out").exit_code == 3


def test_models_lists_what_a_space_may_name() -> None:
    """As a table and as JSON."""
    document: dict[str, Any] = json.loads(run("models", "--json").stdout)
    names = {row["name"] for row in document["architectures"]}
    assert {"unet_plain", "unet", "attention_unet"} <= names
    assert "imagenet" in document["encoders"]["efficientnet-b0"]
    assert "attention_unet" in run("models").stdout
    assert "efficientnet-b0" in run("models", "--encoders").stdout


def test_a_plan_counts_exactly_and_estimates(cohort: Path, tmp_path: Path) -> None:
    """2 architectures x 2 patch sizes, minus what the rule forbids: 3; fields as documented."""
    space = tmp_path / "space.yaml"
    space.write_text(
        f"data: {{root: {json.dumps(str(cohort))}, split: {{validation: 0.5}}}}\nlabels: {{unicorn3: builtin}}\n"
        "parameters:\n  architecture: {values: [unet_plain, unet]}\n"
        "  encoder: {value: tu-test_efficientnet, when: {architecture: unet}}\n"
        "  encoder_weights: {value: random, when: {architecture: unet}}\n"
        "  decoder_channels: {value: [16, 16, 8, 8, 8]}\n  patch_px: {values: [32, 64]}\n"
        "rules: ['not (patch_px == 32 and architecture == \"unet\")']\n"
    )
    result = run("plan", space, "--json", "--home", tmp_path / "home", "--device", "cpu")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["strata"] == [{"name": "default", "combinations": 3, "trials": 3, "done": 0, "replicates": 0}]
    assert (document["trials"], document["to_train"], document["change"]) == (3, 3, None)
    assert {row["patch_px"] for row in document["patches"]} == {32, 64}
    assert all(document["estimate"][key] > 0 for key in ("hours", "disk_bytes", "memory_bytes"))


def test_help_loads_nothing_heavy() -> None:
    """`harness --help` answers at once: none of the libraries that take seconds."""
    import subprocess
    import sys

    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom harness.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "print([m for m in ('optuna', 'pandas', 'mlflow', 'torch', 'segmentation_models_pytorch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
