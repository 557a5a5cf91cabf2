"""`claims:` on real sweeps: which runs are trained, until when, and what survives a kill, an edit and another look."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.config.load import load_space
from harness.config.space import SearchSpace
from harness.data.phantom import Phantom, synthesize
from harness.files import read_json, write_json
from harness.report.claims import findings
from harness.report.queries import read_sweep
from harness.scores import RoiMatrices, Scheme, scores_document
from harness.sweep.claiming import Claims
from harness.sweep.doctor import examine
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record
from harness.sweep.replication import due
from harness.sweep.status import status_of
from harness.trial.folder import TrialFolder
from tests.faults.tiny import prepared
from tests.report.factory import Cohort
from tests.spaces import written

SPACE = """strata: {patches: [all, non_homogeneous]}
parameters:
  architecture: {values: [unet_plain, unet]}
  encoder: {value: resnet18, when: {architecture: [unet]}}
  encoder_weights: {values: [imagenet, random], when: {architecture: [unet]}}
  learning_rate: {values: [0.1, 0.2]}
budget: {trials: 3}
claim_seeds: 8
"""
UNET = {"architecture": "unet", "encoder": "resnet18"}


class Bench:
    """Records and matrices as a controller has them, without training anything."""

    def __init__(self, folder: Path, claims: list[str], *, patients: int = 12, more: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = f"{SPACE}{more}claims: {json.dumps(claims)}\n"
        self.space: SearchSpace = load_space(written(folder, text, labels="{unicorn3: builtin}"))
        self.generation = GenerationFolder(folder / "g1")
        self.cohort = Cohort(rois=patients, patients=patients, side=16)
        self.records: dict[str, Record] = {}
        self.patients = patients
        self.claims = self.looked()

    def looked(self, *, chooses: bool = True) -> Claims:
        """Looked at anew, as by another process."""
        return Claims(self.space, self.generation, patients=self.patients, chooses=chooses)

    def searched(self, number: int, value: float, *, patches: str = "all", **parameters: Any) -> str:
        """A completed run of the search."""
        every = {"architecture": "unet_plain", "encoder": None, "encoder_weights": None, "learning_rate": 0.1}
        values = {"patches": patches, **every, **parameters}
        return self._record(f"{patches}.{number:04d}", patches, values, value=value, number=number, seed=0)

    def trained(self, error: dict[str, float], *, state: str = "complete") -> list[tuple[str, int]]:
        """Everything that is due, trained: each run's share of wrong pixels by its architecture or learning rate."""
        begun = list(due(self.space, self.records, self.claims))
        for arm, seed in begun:
            key = next(k for k in error if k in {str(value) for value in arm.parameters.values()})
            uid = f"{arm.uid}.s{seed}"
            self._record(uid, arm.stratum, arm.parameters, value=0.5, number=arm.number, seed=seed,
                         replicate_of=arm.uid, state=state)  # fmt: skip
            folder = TrialFolder(self.generation.trials / uid)
            folder.path.mkdir(parents=True)
            rois, scheme = self._matrices(error[key], seed + len(self.records))  # each run errs elsewhere
            write_json(folder.scores, scores_document(rois, scheme, epoch=1, epochs=[]))
        return [(arm.uid, seed) for arm, seed in begun]

    def _matrices(self, error: float, seed: int) -> tuple[list[RoiMatrices], Scheme]:
        return self.cohort.matrices(self.space.labels["unicorn3"], error, seed)

    def _record(self, uid: str, stratum: str, parameters: dict[str, Any], **said: Any) -> str:
        fields = {"sweep": "small", "generation": 1, "fingerprint": "f", "created": "now", "state": "complete", **said}
        self.records[uid] = Record(uid=uid, stratum=stratum, parameters=parameters, **fields)
        return uid


RATES = "learning_rate=0.1 > learning_rate=0.2 on val/iou by 0.0 where patches=all"


def test_a_clear_claim_takes_three_seeds_a_side_and_an_equal_one_all(tmp_path: Path) -> None:
    """Wrong pixels: 10 % against 40 %; 30 % against 30 %. The equal one is looked at after 3, 4, 5, 6 and 8 seeds."""
    clear, equal = Bench(tmp_path / "a", [RATES]), Bench(tmp_path / "b", [RATES])
    for bench in (clear, equal):
        bench.searched(0, 0.5, learning_rate=0.1)
        bench.searched(1, 0.4, learning_rate=0.2)
    sides = [("all.0000", seed) for seed in (101, 102, 103)] + [("all.0001", seed) for seed in (101, 102, 103)]
    assert sorted(clear.trained({"0.1": 0.1, "0.2": 0.4})) == sides
    assert clear.trained({"0.1": 0.1, "0.2": 0.4}) == []
    rounds = []
    while begun := equal.trained({"0.1": 0.3, "0.2": 0.3}):
        rounds.append(len(begun))
    assert rounds == [6, 2, 2, 2, 4]  # to 3, 4, 5, 6 and 8 seeds on two sides


def test_each_side_is_tried_where_the_search_found_it_good(tmp_path: Path) -> None:
    """The best plain net has rate .2, the best U-Net .1: two cells, and the missing halves get names of their own."""
    bench = Bench(tmp_path, ["architecture=unet > architecture=unet_plain on val/iou by 0 where patches=all"])
    plain = bench.searched(0, 0.6, learning_rate=0.2)
    unet = bench.searched(1, 0.5, **UNET, encoder_weights="random", learning_rate=0.1)
    bench.searched(2, 0.4, **UNET, encoder_weights="imagenet", learning_rate=0.2)
    bench.searched(0, 0.9, patches="non_homogeneous")
    arms = {arm.uid: arm.parameters for arm, _ in due(bench.space, bench.records, bench.claims)}
    assert set(arms) == {plain, unet, "all.claim00", "all.claim01"}
    # The U-Net's encoder weights come from its own best run where the plain net has none.
    assert arms["all.claim00"] == arms[plain] | UNET | {"encoder_weights": "random"} or (
        arms["all.claim00"] == arms[unet] | {"architecture": "unet_plain", "encoder": None, "encoder_weights": None}
    )
    assert len(read_json(bench.generation.claims_file)["claims"][0]["cells"]) == 2


def test_a_name_is_never_given_twice(tmp_path: Path) -> None:
    """The search tries later what a claim's first own arm is; a new claim's own arm still gets a new name."""
    bench = Bench(tmp_path, [RATES])
    bench.searched(0, 0.5, learning_rate=0.1)
    list(due(bench.space, bench.records, bench.claims))
    bench.searched(1, 0.4, learning_rate=0.2)
    net = "architecture=unet, encoder_weights=random > architecture=unet, encoder_weights=imagenet on val/iou by 0"
    bench.searched(2, 0.6, **UNET, encoder_weights="random")
    bench.space = bench.space.model_copy(update={"claims": (RATES, f"{net} where patches=all")})
    bench.claims = bench.looked()
    list(due(bench.space, bench.records, bench.claims))
    written_down = read_json(bench.generation.claims_file)["claims"]
    assert [cell["worse"]["uid"] for one in written_down for cell in one["cells"]] == ["all.claim00", "all.claim01"]


def test_every_stratum_that_a_claim_leaves_open_has_a_cell(tmp_path: Path) -> None:
    """And a claim about the strata's own axis compares across them."""
    bench = Bench(tmp_path, [RATES.partition(" where")[0], "patches=all > patches=non_homogeneous on val/iou by 0"])
    for patches in ("all", "non_homogeneous"):
        bench.searched(0, 0.5, patches=patches)
    list(due(bench.space, bench.records, bench.claims))
    rates, patches = read_json(bench.generation.claims_file)["claims"]
    assert [cell["better"]["stratum"] for cell in rates["cells"]] == ["all", "non_homogeneous"]
    assert [(c["better"]["uid"], c["worse"]["uid"]) for c in patches["cells"]] == [("all.0000", "non_homogeneous.0000")]


def test_what_was_chosen_stays_chosen(tmp_path: Path) -> None:
    """A better run that comes later changes no cell; more seeds are added behind those that were there."""
    bench = Bench(tmp_path, [RATES])
    bench.searched(0, 0.5, learning_rate=0.1)
    bench.searched(1, 0.4, learning_rate=0.2)
    bench.trained({"0.1": 0.3, "0.2": 0.3})
    before = read_json(bench.generation.claims_file)["claims"][0]
    bench.searched(2, 0.9, learning_rate=0.1, **UNET, encoder_weights="random")
    changes = {"claim_seeds": 12, "replicate": None}
    bench.space = bench.space.model_copy(update=changes)
    bench.claims = bench.looked()
    list(due(bench.space, bench.records, bench.claims))
    after = read_json(bench.generation.claims_file)["claims"][0]
    assert after["cells"] == before["cells"]
    assert after["seeds"] == [*before["seeds"], 109, 110, 111, 112]


def test_a_claim_knows_how_much_was_known_when_it_was_stated(tmp_path: Path) -> None:
    """One before the first training, one added when two had ended; choosing cells later changes neither."""
    bench = Bench(tmp_path, [RATES])
    bench.claims.state(bench.records)
    bench.searched(0, 0.5, learning_rate=0.1)
    bench.searched(1, 0.4, learning_rate=0.2)
    late = RATES.replace("0.0 where", "0.1 where")
    bench.space = bench.space.model_copy(update={"claims": (RATES, late)})
    for _ in range(2):
        bench.claims = bench.looked()
        bench.claims.state(bench.records)
        assert list(due(bench.space, bench.records, bench.claims))
    written_down = read_json(bench.generation.claims_file)["claims"]
    assert [(one["text"], one["stated_after"], len(one["cells"])) for one in written_down] == [
        (RATES, 0, 1),
        (late, 2, 1),
    ]


def test_who_only_looks_writes_nothing(tmp_path: Path) -> None:
    """`harness status` on a sweep whose search is over, before the controller has chosen."""
    bench = Bench(tmp_path, [RATES])
    bench.searched(0, 0.5)
    assert list(due(bench.space, bench.records, bench.looked(chooses=False))) == []
    assert not bench.generation.claims_file.exists()


def test_nothing_is_trained_for_a_claim_that_nothing_could_decide(tmp_path: Path) -> None:
    """Five validation patients; no run of either side; a side that fails three times."""
    few = Bench(tmp_path / "few", [RATES], patients=5)
    few.searched(0, 0.5)
    assert list(due(few.space, few.records, few.claims)) == []
    empty = Bench(tmp_path / "empty", [RATES])
    empty.searched(0, 0.5, patches="non_homogeneous")
    assert list(due(empty.space, empty.records, empty.claims)) == []
    failing = Bench(tmp_path / "failing", [RATES])
    failing.searched(0, 0.5)
    assert len(failing.trained({"0.1": 0.3, "0.2": 0.3}, state="failed")) == 6
    assert list(due(failing.space, failing.records, failing.claims)) == []


def test_runs_of_replicate_are_shared(tmp_path: Path) -> None:
    """The top run's three replicates are one side's first three seeds: three more runs, not six."""
    bench = Bench(tmp_path, [RATES], more="replicate: {top: 1, seeds: [5, 6, 7]}\n")
    best = bench.searched(0, 0.5, learning_rate=0.1)
    other = bench.searched(1, 0.4, learning_rate=0.2)
    begun = bench.trained({"0.1": 0.1, "0.2": 0.4})
    assert sorted(begun) == sorted((uid, seed) for uid in (best, other) for seed in (5, 6, 7))


PLANTED = "learning_rate=0.01 > learning_rate=0.003 on val/iou by -0.9"
FALSE = "learning_rate=0.003 > learning_rate=0.01 on val/iou by 0.9"


@pytest.mark.slow
def test_a_sweep_trains_for_its_claims_and_opens_its_report_with_them(tmp_path: Path) -> None:
    """Two search runs, then three seeds a side that both claims share. Nobody is .9 better, so both are decided."""
    regions = synthesize(tmp_path / "regions", Phantom(patients=9, roi_px=128, tiny_share=0.0))
    place = prepared(tmp_path / "place", regions)
    file = place.path / "tiny.yaml"
    text = (
        file.read_text().replace("0.34", "0.7").replace("epochs: 2", "epochs: 1").replace("{value: 32}", "{value: 64}")
    )
    file.write_text(f"{text}claims: {json.dumps([PLANTED, FALSE])}\nclaim_seeds: 3\n")
    outcome = place.run()
    assert (outcome.complete, outcome.epochs_trained) == (8, 8)
    words = [found.verdict.word for found in findings(read_sweep(place.generation.path))]
    assert words == ["supported", "refuted"]
    with closing(sqlite3.connect(place.home.path / "optuna.db")) as database:
        assert database.execute("select count(*) from trials").fetchone() == (2,)
    assert examine(place.home.sweep("tiny"), place.home).found == ()
    (row,) = status_of(place.generation, place.home)["strata"]
    assert row["complete"] == row["wanted"] == 8
    document = json.loads((place.path / "reports/tiny/leaderboard.json").read_text())
    assert [found["verdict"] for found in document["claims"]] == words
    page = (place.path / "reports/tiny/index.html").read_text()
    assert page.index(PLANTED.replace(">", "&gt;")) < page.index('id="answer"')
    shutil.rmtree(place.generation.trials / "default.0001.s102")
    assert place.run().epochs_trained == 1  # lost, so trained again; the others are not
    assert place.run().epochs_trained == 0
