"""The pictures of a sweep, and the commands that draw the same."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.config.labels import BUILTIN
from harness.config.spec import ModelSpec
from harness.data.phantom import Phantom, synthesize
from harness.errors import BadInput
from harness.explore.sweep_figures import write_sweep_figures
from tests.toy import toy_spec, write_cohort


def assert_drawn(file: Path) -> None:
    """A PNG with more than one colour, on more than a tenth of its lines."""
    picture = cv2.imread(str(file))
    assert picture is not None, file
    busy = (picture.max(axis=(1, 2)) != picture.min(axis=(1, 2))).mean()
    assert busy > 0.1, file


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic patients."""
    return synthesize(tmp_path_factory.mktemp("data") / "tissue", Phantom(patients=4, roi_px=128))


def test_a_sweep_gets_one_picture_per_label_map_policy_and_network(tmp_path: Path) -> None:
    """Four trials: two maps, two policies, two networks; weights make no other network. Nothing to draw: nothing."""
    root = write_cohort(tmp_path / "data")
    unet = ModelSpec(architecture="unet", encoder="resnet18", encoder_weights="imagenet")  # not fetched
    specs = [
        toy_spec(root),
        toy_spec(root, augment="histology", labels=BUILTIN["unicorn3"]),
        toy_spec(root, model=unet),
        toy_spec(root, model=unet.model_copy(update={"encoder_weights": "random"}), seed=6),
    ]
    written = write_sweep_figures(tmp_path / "figures", specs)
    assert {file.stem for file in written} == {
        "class_ratio_two", "class_ratio_unicorn3", "labelled_samples_two", "labelled_samples_unicorn3", "roi_sizes",
        "split", "augmented_samples_paper", "augmented_samples_histology", "architecture_unet_resnet18",
        "architecture_unet_plain_decoder_channels_16_16_8_8_4",
    }  # fmt: skip
    for file in written:
        assert_drawn(file)
    assert write_sweep_figures(tmp_path / "none", []) == []


def test_a_network_that_cannot_be_taken_apart_costs_no_other_picture(tmp_path: Path) -> None:
    """It fails at 32 px; the data, the augmentation and the network after it are drawn, and the message names it."""
    root = write_cohort(tmp_path / "data")
    plain = toy_spec(root)
    pan = ModelSpec(architecture="pan", encoder="resnet18", encoder_weights="random")  # from 128 px on
    with pytest.raises(BadInput, match="architecture pan over resnet18 is not drawn: BadInput: input_px"):
        write_sweep_figures(tmp_path / "figures", [plain.model_copy(update={"model": pan}), plain])
    drawn = {file.stem for file in (tmp_path / "figures").iterdir()}
    assert {
        "class_ratio_two",
        "augmented_samples_paper",
        "architecture_unet_plain_decoder_channels_16_16_8_8_4",
    } < drawn


def test_stats_and_preview_draw_what_they_count(phantom: Path, tmp_path: Path) -> None:
    """Roles add up, shares are of the map's classes, files are where the command says; a saved split is used."""

    def run(*words: str | Path) -> str:
        result = CliRunner().invoke(main, ["data", *map(str, words)])
        assert result.exit_code == 0, result.output
        return result.stdout

    out = tmp_path / "out"
    document = json.loads(run("stats", phantom, "--json", "--labels", "unicorn3", "--patch-px", "64", "--out", out))
    everyone, *roles = document["roles"]
    assert list(document["classes"]) == ["tumor", "stroma", "rest"]
    assert sum(found["pixel_share"] for found in document["classes"].values()) == pytest.approx(1)
    assert sum(row["patients"] for row in roles) == everyone["patients"] == document["patients"] == 4
    assert sum(row["patches"] for row in roles) == everyone["patches"]
    for file in document["pictures"]:
        assert_drawn(Path(file))
    patients = sorted(p.name[:12] for p in phantom.glob("wsirois/roi-level-annotations/tissue-bcss/images/TCGA*"))
    split = {"train": [patients[0]], "validation": [patients[-1]]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    said = run("stats", phantom, "--split", tmp_path / "split.json", "--out", out)
    assert [line.split()[0] for line in said.splitlines() if line.startswith(("train", "valid", "test"))] == [
        "train", "validation",
    ]  # fmt: skip
    run("preview", phantom, "--augment", "histology", "--patch-px", "64", "--rois", "3", "--out", out)
    assert_drawn(out / "labelled_samples.png")
    assert_drawn(out / "augmented_samples_histology.png")


def test_describe_draws_a_network_of_the_table_and_one_of_your_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PNG and SVG; a wrong name is one line and exit 2; `harness models` alone lists as ever."""
    monkeypatch.chdir(tmp_path)
    own = "from torch import nn\ndef build(classes):\n    return nn.Sequential(nn.Conv2d(3, classes, 3, padding=1))\n"
    (tmp_path / "own_nets.py").write_text(own)

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["models", *words])
        return result.exit_code, result.stdout if result.exit_code == 0 else result.stderr

    code, text = run("describe", "unet_plain", "--input-px", "32", "--json")
    document = json.loads(text)
    assert (code, document["parameters"]["total"], document["blocks"][-1]["shape"]) == (0, 7_763_239, [7, 32, 32])
    assert_drawn(tmp_path / document["picture"])
    code, text = run("describe", "own_nets:build", "--classes", "4", "--input-px", "16", "--out", "own.svg")
    assert code == 0
    assert "112 parameters" in text
    assert "<svg" in (tmp_path / "own.svg").read_text()
    code, text = run("describe", "unett")
    assert code == 2
    assert "did you mean 'unet'?" in text
    code, text = run("describe", "own_nets:")
    assert (code, text.count("write package.module:function")) == (2, 1)
    assert "attention_unet" in run()[1]
    assert "encoders" in json.loads(run("--json")[1])
    assert "resnet18" in run("--encoders")[1]
