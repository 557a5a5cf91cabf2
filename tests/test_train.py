"""fit(): determinism, stopping rules, what it learns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.checkpoint import load_checkpoint
from harness.config.labels import LabelMap
from harness.config.spec import ModelSpec, Objective
from harness.data.batches import normalized, training_batches
from harness.data.targets import target_table
from harness.epoch import NotFinite
from harness.errors import BadInput
from harness.evaluate import evaluate
from harness.metrics import PaperMetrics
from harness.models.build import build_model
from harness.optimization import averaged_with, balanced_weights, restore_optimizer
from harness.scores import score_rois
from harness.train import (
    EpochReport,
    Stopped,
    derived_seed,
)
from tests.toy import toy_spec, write_cohort
from tests.training import data_of, sha_of, tiny_net, trained


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_another_seed_gives_other_weights(root: Path, tmp_path: Path) -> None:
    """The seed reaches initial weights and batches."""
    shas = {sha_of(trained(toy_spec(root, epochs=1, seed=s), tmp_path / f"{s}.pt").weights) for s in (1, 2)}
    assert len(shas) == 2


def test_training_learns_the_toy_code(root: Path, tmp_path: Path) -> None:
    """The class is a threshold on red: a few epochs bring the exact IoU near 1."""
    labels = LabelMap(name="low or high", classes={"low": (1, 2), "high": (3, 6)}, ignore_ids=(4, 5, 7))
    spec = toy_spec(root, epochs=12, learning_rate=0.03, loss="cross_entropy", augment="none", labels=labels)
    result = trained(spec, tmp_path / "c.pt")
    assert result.objective > 0.8
    assert result.progress.history[-1]["train/loss"] < result.progress.history[0]["train/loss"]


def test_stops_when_the_monitor_was_not_better_for_the_patience(root: Path, tmp_path: Path) -> None:
    """Nothing ever changes: epoch 1 is the best, and patience 3 ends training after epoch 4."""
    spec = toy_spec(root, epochs=50, learning_rate=1e-30, stop_patience=3, plateau_patience=3)
    result = trained(spec, tmp_path / "c.pt", model=Frozen(spec.classes))
    assert (result.best_epoch, result.progress.epoch, result.stopped_early) == (1, 4, True)


def test_equal_patiences_never_cut_the_rate(root: Path, tmp_path: Path) -> None:
    """The paper's trap: torch cuts on the bad epoch after its patience, the stop comes one epoch before."""
    cuts = {}
    for patience in (2, 3):
        spec = toy_spec(root, epochs=50, learning_rate=0.5, stop_patience=3, plateau_patience=patience)
        cuts[patience] = trained(spec, tmp_path / "c.pt", model=Frozen(spec.classes)).progress.lr_cuts
    assert cuts == {2: 1, 3: 0}


def test_without_patience_training_runs_to_the_end(root: Path, tmp_path: Path) -> None:
    """`stop_patience: null`: all epochs, however flat the monitor is."""
    spec = toy_spec(root, epochs=5, stop_patience=None)
    result = trained(spec, tmp_path / "c.pt", model=Frozen(spec.classes))
    assert (result.progress.epoch, result.stopped_early) == (5, False)


def test_cosine_follows_its_formula(root: Path, tmp_path: Path) -> None:
    """Epoch e of 4 trains at lr/2 (1 + cos(pi (e - 1) / 4))."""
    spec = toy_spec(root, epochs=4, learning_rate=0.01, schedule="cosine", stop_patience=None)
    result = trained(spec, tmp_path / "c.pt")
    expected = [0.005 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]
    assert [values["lr"] for values in result.progress.history] == pytest.approx(expected)


def test_monitor_of_the_loss_is_minimised(root: Path, tmp_path: Path) -> None:
    """With `monitor: val/loss` the smallest loss is its best; the best epoch still goes by the objective."""
    spec = toy_spec(root, epochs=4, monitor="val/loss", objective=Objective(metric="val/dice_tumor"))
    progress = trained(spec, tmp_path / "c.pt").progress
    assert progress.monitor_best == min(values["val/loss"] for values in progress.history)
    best = max(values["val/dice_tumor"] for values in progress.history)
    assert progress.best_value == best == progress.history[(progress.best_epoch or 0) - 1]["val/dice_tumor"]


def test_a_diverged_loss_is_named_with_its_epoch(root: Path, tmp_path: Path) -> None:
    """Weights that overflow: NotFinite in the first epoch, and no checkpoint of it."""
    spec = toy_spec(root, optimizer="sgd", learning_rate=99.0, loss="cross_entropy")
    model = tiny_net(spec)
    with torch.no_grad():
        model[-1].weight.mul_(1e38)  # type: ignore[index, operator, union-attr]
    with pytest.raises(NotFinite, match="epoch 1"):
        trained(spec, tmp_path / "c.pt", model=model)
    assert not (tmp_path / "c.pt").exists()


def test_stop_drops_the_running_epoch_only(root: Path, tmp_path: Path) -> None:
    """A stop in the middle of epoch 2 leaves the checkpoint of epoch 1."""
    spec = toy_spec(root, epochs=9)
    seen: list[EpochReport] = []
    polls_in_second = []

    def should_stop() -> bool:
        if len(seen) == 1:
            polls_in_second.append(1)
        return len(polls_in_second) == 2

    with pytest.raises(Stopped):
        trained(spec, tmp_path / "c.pt", reports=seen, should_stop=should_stop)
    assert load_checkpoint(tmp_path / "c.pt", fingerprint=spec.fingerprint).progress.epoch == 1


def test_objective_that_never_is_there_is_refused(root: Path, tmp_path: Path) -> None:
    """No silent best epoch: the message names the objective."""
    spec = toy_spec(root, epochs=1, objective=Objective(metric="val/dice_absent"))
    with pytest.raises(BadInput, match="val/dice_absent"):
        trained(spec, tmp_path / "c.pt")


def test_the_best_epochs_paper_scores_are_torchmetrics_own(root: Path, tmp_path: Path) -> None:
    """Every epoch is told by counts; what is kept of the best one is torchmetrics' number, equal to 1e-6."""
    for undefined in ("ignore", "as_paper"):
        spec, reports = toy_spec(root, epochs=2, undefined=undefined), []
        result = trained(spec, tmp_path / "c.pt", reports=reports)
        told, kept = reports[result.best_epoch - 1].values, result.progress.history[result.best_epoch - 1]
        data, model = data_of(spec), tiny_net(spec)
        model.load_state_dict(result.weights)
        model.eval()
        metrics = PaperMetrics(classes=spec.classes, undefined=undefined)
        table = target_table(spec.dataset.labels, undefined)
        for start in range(0, len(data.validation_indices), spec.train.batch_size):
            batch = data.validation_indices[start : start + spec.train.batch_size]
            with torch.inference_mode():
                predictions = model(torch.tensor(normalized(data.validation.images_NHWC[batch], "unit"))).argmax(1)
            metrics.update(predictions, torch.tensor(table[data.validation.masks_NHW[batch]], dtype=torch.int64))
        expected = metrics.compute()
        for name in ("iou", "dice"):
            assert kept[f"paper/val/{name}"] == expected[name]
            assert told[f"paper/val/{name}"] == pytest.approx(expected[name], abs=1e-6)


def test_the_memory_layout_changes_nothing_but_rounding() -> None:
    """A step in float64, channels last and not: logits and gradients agree to 12 digits."""
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(2)
        model = build_model(ModelSpec(architecture="unet_plain", decoder_channels=(16, 16, 8, 8, 4)), classes=3)
        model = model.double().to(memory_format=layout)
        logits = model(images.contiguous(memory_format=layout))
        logits.logsumexp(dim=1).mean().backward()
        found.append((logits.detach(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])))
    (logits, gradients), (logits_last, gradients_last) = found
    assert torch.allclose(logits, logits_last, rtol=0, atol=1e-12)
    assert torch.allclose(gradients, gradients_last, rtol=0, atol=1e-12)


def test_an_optimizer_of_another_device_continues_with_its_own_kind_of_step() -> None:
    """A state saved by fused steps (CUDA) is loaded where steps are not fused: the moments are kept, `fused` is not."""
    weight = nn.Parameter(torch.ones(3))
    saved = torch.optim.Adam([weight], lr=0.1, fused=True)
    weight.grad = torch.ones(3)
    saved.step()
    own = torch.optim.Adam([weight], lr=0.1)
    restore_optimizer(own, saved.state_dict())
    assert own.param_groups[0]["fused"] is None
    assert torch.equal(own.state[weight]["exp_avg"], saved.state[weight]["exp_avg"])


def test_averaged_weights_are_the_running_mean_by_its_formula(root: Path) -> None:
    """A weight falls by 1 a step; after t steps d m + (1 - d) w is the mean, d the smaller of .8 and (1 + t)/(10 + t).
    Buffers are averaged, too; whole numbers among them are as they are."""
    model = nn.BatchNorm1d(1)
    optimizer = torch.optim.SGD([model.weight], lr=1.0)
    average = averaged_with(model, optimizer, toy_spec(root, average=0.8).train)
    assert average is not None
    mean_weight = mean_buffer = None
    for step in range(40):
        model.weight.grad = torch.ones(1)
        model.running_mean.fill_(float(step**2))
        model.num_batches_tracked.fill_(step)
        optimizer.step()
        weight, buffer, keep = 1.0 - (step + 1), float(step**2), min(0.8, (1 + step) / (10 + step))
        mean_weight = weight if mean_weight is None else keep * mean_weight + (1 - keep) * weight
        mean_buffer = buffer if mean_buffer is None else keep * mean_buffer + (1 - keep) * buffer
    assert average.module.weight.item() == pytest.approx(mean_weight)
    assert average.module.running_mean.item() == pytest.approx(mean_buffer)
    assert int(average.module.num_batches_tracked) == 39
    assert averaged_with(model, optimizer, toy_spec(root).train) is None


def test_averaged_weights_are_what_is_scored_and_kept(root: Path, tmp_path: Path) -> None:
    """The result's weights give its score and are the checkpoint's mean, not its last ones, which are as without."""
    spec = toy_spec(root, epochs=1, average=0.9, learning_rate=0.05)
    result = trained(spec, tmp_path / "a.pt")
    saved = load_checkpoint(tmp_path / "a.pt", fingerprint=spec.fingerprint)
    assert saved.average is not None
    mean = {name.removeprefix("module."): value for name, value in saved.average.items() if name != "n_averaged"}
    assert sha_of(result.weights) == sha_of(mean) != sha_of(saved.model)
    plain = toy_spec(root, epochs=1, learning_rate=0.05)
    assert sha_of(trained(plain, tmp_path / "p.pt").weights) == sha_of(saved.model)
    model = tiny_net(spec)
    model.load_state_dict(result.weights)
    data = data_of(spec)
    seen = evaluate(model, data.validation, data.validation_indices, data.scheme, train=spec.train,
                    loss=nn.CrossEntropyLoss(ignore_index=255), device=torch.device("cpu"))  # fmt: skip
    assert score_rois(seen.rois, data.scheme)["val/iou"] == result.objective


def test_class_weights_are_inverse_frequencies_with_mean_one() -> None:
    """100 and 50 pixels: 2/3 and 4/3; an absent class weighs 1 and does not move the others."""
    assert balanced_weights(np.array([100, 50, 0])) == pytest.approx((2 / 3, 4 / 3, 1.0))


def test_balanced_class_weights_reach_the_loss(root: Path, tmp_path: Path) -> None:
    """The same trial with weights has another training loss from the first epoch on."""
    losses = {
        weights: trained(
            toy_spec(root, epochs=1, loss="cross_entropy", class_weights=weights), tmp_path / "c.pt"
        ).progress.history[0]["train/loss"]
        for weights in ("none", "balanced", (1.0, 1.0), (1.0, 5.0))
    }
    assert losses["none"] == losses[(1.0, 1.0)]
    assert len(set(losses.values())) == 3


def test_fit_equals_a_loop_written_by_hand(root: Path, tmp_path: Path) -> None:
    """The same batches through torch's own cross-entropy, Adam and numpy's IoU: the same numbers in every epoch."""
    spec = toy_spec(root, epochs=3, loss="cross_entropy", schedule="constant")
    # In the same memory layout. A bias before BatchNorm has no gradient but rounding, of which Adam makes whole steps:
    # in the other layout training losses agree to 6 digits, and the validation's IoU, by running means, only to .004.
    layout = torch.channels_last
    result, data, model = trained(spec, tmp_path / "c.pt"), data_of(spec), tiny_net(spec).to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss_of = nn.CrossEntropyLoss(ignore_index=255)
    table = np.array([255, 0, 1, 0, 255, 255, 1, 255], np.uint8)  # source ids 1, 3 are tumor; 2, 6 stroma
    for epoch, logged in enumerate(result.progress.history, start=1):
        torch.manual_seed(derived_seed(spec.seed, f"epoch {epoch}"))
        model.train()
        total = 0.0
        for images, targets in training_batches(
            data.training,
            data.training_indices,
            spec=spec.train,
            table=np.pad(table, (0, 248), constant_values=255),
            labels=spec.dataset.labels,
            seed=spec.seed,
            epoch=epoch,
        ):
            optimizer.zero_grad()
            logits = model(torch.tensor(images).contiguous(memory_format=layout))
            loss = loss_of(logits, torch.tensor(targets))
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        assert logged["train/loss"] == pytest.approx(total / len(data.training_indices), rel=1e-5)
        model.eval()
        confusion = np.zeros((2, 2), np.int64)
        for patch in data.validation_indices:  # 64 x 96 px hold six patches side by side: nothing to stitch
            with torch.no_grad():
                image = torch.tensor(data.validation.images_NHWC[patch].transpose(2, 0, 1)[None] / np.float32(255))
                predicted = model(image)[0].argmax(0).numpy()
            truth = table[data.validation.masks_NHW[patch]]
            np.add.at(confusion, (truth[truth != 255], predicted[truth != 255]), 1)
        hits = np.diag(confusion)
        iou = (hits / (confusion.sum(0) + confusion.sum(1) - hits)).mean()
        assert logged["val/iou"] == pytest.approx(iou, abs=1e-3)  # rounding may move single pixels


class Frozen(nn.Module):
    """Predicts the first class everywhere, whatever training does."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits = images_NCHW[:, :1].repeat(1, self.classes, 1, 1) * 0 + self.weight * 0
        return logits + torch.eye(self.classes)[0].view(1, -1, 1, 1)


def test_bf16_trains_to_finite_scores_near_those_of_fp32(root: Path, tmp_path: Path) -> None:
    """Asked for on the CPU, bf16 is used: other losses than fp32, by less than 5 % after an epoch."""
    losses = {
        precision: trained(toy_spec(root, epochs=1, precision=precision), tmp_path / "c.pt").progress.history[0]
        for precision in ("auto", "fp32", "bf16")
    }
    assert losses["auto"] == losses["fp32"]
    assert losses["bf16"]["train/loss"] != losses["fp32"]["train/loss"]
    assert losses["bf16"]["train/loss"] == pytest.approx(losses["fp32"]["train/loss"], rel=0.05)
