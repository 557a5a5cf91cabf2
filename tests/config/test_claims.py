"""Claims as they are written: read, or refused with the line and what is allowed; and the cells that they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.claims import claims_of, fresh_seeds, with_side
from harness.config.load import load_space
from harness.config.space import SearchSpace
from harness.errors import BadInput
from harness.sweep.smoke import shrink
from harness.sweep.vocabulary import CHECKS
from tests.spaces import written

SPACE = """strata: {labels: [tiger7, unicorn3], patches: [all, non_homogeneous]}
parameters:
  architecture: {values: [unet_plain, unet]}
  encoder: {value: resnet18, when: {architecture: [unet]}}
  encoder_weights: {values: [imagenet, random], when: {architecture: [unet]}}
  learning_rate: {min: 1e-5, max: 1e-2, log: true}
  loss: {values: [jaccard, {cross_entropy: 1, dice: 0.5}]}
rules: [not (architecture == "unet_plain" and patches == "all")]
baselines:
  - {name: plain, architecture: unet_plain, learning_rate: 1e-3, loss: jaccard, patches: non_homogeneous}
  - {name: big, architecture: unet, encoder: resnet18, encoder_weights: random, learning_rate: 1e-3, loss: jaccard,
     mark: in_paper}
claims: [CLAIM]
"""
MAPS = "{tiger7: builtin, unicorn3: builtin}"


def space_with(folder: Path, claim: str, more: str = "") -> SearchSpace:
    """The space above with one claim."""
    return load_space(written(folder, SPACE.replace("CLAIM", f"'{claim}'") + more, labels=MAPS), checks=CHECKS)


def test_a_claim_names_two_sides_a_score_a_margin_and_where(tmp_path: Path) -> None:
    """Values come back as the file has them: names, numbers, weighted sums."""
    where = "labels=unicorn3, learning_rate=0.001"
    text = f"loss=cross_entropy+0.5*dice > loss=jaccard on val/dice_tumor by 0.01 where {where}"
    (claim,) = claims_of(space_with(tmp_path, text))
    assert dict(claim.better) == {"loss": {"cross_entropy": 1, "dice": 0.5}}
    assert dict(claim.worse) == {"loss": "jaccard"}
    assert (claim.metric, claim.margin) == ("val/dice_tumor", 0.01)
    assert dict(claim.where) == {"labels": "unicorn3", "learning_rate": 0.001}


def test_a_baselines_name_stands_for_all_its_values(tmp_path: Path) -> None:
    """Without its name and mark; `plain` has no encoder, which its architecture does not take."""
    (claim,) = claims_of(space_with(tmp_path, "big > plain on val/yardstick by -0.05 where patches=non_homogeneous"))
    assert claim.better["encoder_weights"] == "random" and "mark" not in claim.better and "name" not in claim.better
    assert claim.margin == -0.05


MISTAKES = {
    "imagenet better than random": "not a claim",
    "encoder_weights=imagenet > encoder_weights=random on val/loss by 0.01": "no score with counts per patient",
    "encoder_weights=imagenet > encoder_weights=random on val/centre/iou by 0.01": "no score with counts per patient",
    "encoder_weights=imagenet > encoder_weights=random on val/iou_tumour by 0.0": "is not a score of tiger7",
    "encoder_weights=imagenet > encoder_weights=random on val/iou by much": "'much' is not a margin",
    "encoder_weights=imagenet > encoder_weights=random on val/iou by 1.5": "'1.5' is not a margin",
    "encoder_weights=imagnet > encoder_weights=random on val/iou by 0": "did you mean 'imagenet'",
    "encoder_wieghts=imagenet > encoder_weights=random on val/iou by 0": "did you mean 'encoder_weights'",
    "learning_rate=1 > learning_rate=1e-3 on val/iou by 0": "outside the range of learning_rate, 1e-05 to 0.01",
    "biig > plain on val/yardstick by 0": "did you mean 'big'",
    "loss=jaccard > loss=jaccard on val/iou by 0": "both sides are the same",
    "loss=jaccard > encoder_weights=random on val/iou by 0": "only one side says what 'loss' is",
    "loss=jaccard, loss=jaccard > loss=jaccard on val/iou by 0": "'loss' is fixed twice",
    "loss==jaccard > loss=jaccard on val/iou by 0": "write NAME=VALUE",
    "labels=tiger7 > labels=unicorn3 on val/iou by 0": "two label maps compare by the yardstick alone",
    "architecture=unet > architecture=unet_plain on val/iou by 0 where architecture=unet": "`where` contradicts a side",
}


@pytest.mark.parametrize("claim", MISTAKES)
def test_a_mistake_in_a_claim_is_one_line_with_its_place(tmp_path: Path, claim: str) -> None:
    """File, line 16, and what is wrong."""
    with pytest.raises(BadInput) as caught:
        space_with(tmp_path, claim)
    (problem,) = caught.value.problems
    assert MISTAKES[claim] in problem
    assert problem.startswith(f"{tmp_path}/space.yaml:16: claims")


def test_label_maps_compare_by_the_yardstick(tmp_path: Path) -> None:
    """The one comparison across comparability groups that is allowed."""
    (claim,) = claims_of(space_with(tmp_path, "labels=tiger7 > labels=unicorn3 on val/yardstick by 0"))
    assert claim.better == {"labels": "tiger7"}


def test_a_side_put_into_a_combination_switches_what_depends_on_it(tmp_path: Path) -> None:
    """The plain net loses its encoder; the other way the encoder comes from the other run, or nothing fits."""
    space = space_with(tmp_path, "architecture=unet > architecture=unet_plain on val/iou by 0")
    unet = {"labels": "tiger7", "patches": "non_homogeneous", "architecture": "unet", "encoder": "resnet18",
            "encoder_weights": "imagenet", "learning_rate": 1e-3, "loss": "jaccard"}  # fmt: skip
    plain = with_side(space, unet, {"architecture": "unet_plain"}, rest={})
    assert plain == unet | {"architecture": "unet_plain", "encoder": None, "encoder_weights": None}
    assert with_side(space, plain, {"architecture": "unet"}, rest={"encoder_weights": "random"}) == unet | {
        "encoder_weights": "random"
    }
    assert with_side(space, plain, {"architecture": "unet"}, rest={}) is None
    assert with_side(space, unet | {"patches": "all"}, {"architecture": "unet_plain"}, rest={}) is None  # the rule


def test_seeds_are_those_of_replicate_then_new_ones_and_never_the_searchs(tmp_path: Path) -> None:
    """The space's own seed is 0."""
    claim = "loss=jaccard > loss=cross_entropy+0.5*dice on val/iou by 0"
    assert fresh_seeds(space_with(tmp_path, claim, "claim_seeds: 5\n")) == (101, 102, 103, 104, 105)
    given = space_with(tmp_path, claim, "claim_seeds: 4\nreplicate: {seeds: [7, 5]}\nseed: 8\n")
    assert fresh_seeds(given) == (7, 5, 9, 10)


def test_neither_claims_nor_the_names_of_baselines_make_a_generation(tmp_path: Path) -> None:
    """What is computed stays the same."""
    one = space_with(tmp_path, "loss=jaccard > loss=cross_entropy+0.5*dice on val/iou by 0")
    rows = tuple({name: value for name, value in row.items() if name != "name"} for row in one.baselines)
    assert one.model_copy(update={"claims": (), "claim_seeds": 3, "baselines": rows}).key == one.key


def test_a_smoke_run_keeps_the_claims_that_still_say_something(tmp_path: Path) -> None:
    """Pretrained weights become random ones, so a claim about them has two equal sides and goes."""
    weights = "encoder_weights=imagenet > encoder_weights=random on val/iou by 0"
    space = space_with(tmp_path, "big > plain on val/yardstick by 0 where patches=non_homogeneous")
    small, _ = shrink(space.model_copy(update={"claims": (*space.claims, weights)}))
    assert small.claims == space.claims and len(fresh_seeds(small)) == 1
