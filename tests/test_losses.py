"""Losses: values by hand or from smp, and undefined pixels that cannot be felt."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segmentation_models_pytorch.losses import DiceLoss, JaccardLoss

from harness.config.imported import ImportedPart, located
from harness.config.labels import IGNORE
from harness.errors import BadInput
from harness.losses import build_loss

torch.set_num_threads(1)
NAMES = ["jaccard", "dice", "cross_entropy", "focal"]


def _loss(name, classes=3, weights=None, undefined="ignore"):
    return build_loss({name: 1.0}, classes=classes, class_weights=weights, undefined=undefined)


def _batch(seed, classes=3, undefined_share=0.0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 6, 5, generator=generator)
    masks = torch.randint(0, classes, (2, 6, 5), generator=generator)
    masks[torch.rand(2, 6, 5, generator=generator) < undefined_share] = IGNORE
    return logits, masks


def _logits_of(probabilities):
    """One row of pixels with these class probabilities, as logits (1, K, 1, pixels)."""
    return torch.tensor(probabilities).log().T[None, :, None, :]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_jaccard_and_dice_equal_smp_on_fully_defined_masks(seed):
    """Without undefined pixels the two overlap losses are smp's, value and gradient."""
    logits, masks = _batch(seed)
    for name, reference in {"jaccard": JaccardLoss("multiclass"), "dice": DiceLoss("multiclass")}.items():
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value, expected = _loss(name)(ours, masks), reference(theirs, masks)
        value.backward()
        expected.backward()
        assert value.item() == pytest.approx(expected.item(), abs=1e-6)
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


def test_jaccard_as_paper_equals_smp_over_classes_one_to_k():
    """The paper's JaccardLoss("multiclass", classes=[1..K]): mistakes on undefined pixels cost."""
    logits, masks = _batch(5, classes=4)
    expected = JaccardLoss("multiclass", classes=[1, 2, 3])(logits, masks)
    assert _loss("jaccard", classes=4, undefined="as_paper")(logits, masks).item() == pytest.approx(
        expected.item(), abs=1e-6
    )


def test_cross_entropy_as_paper_trains_undefined_as_a_class():
    """Under `as_paper` cross-entropy is torch's own over K + 1 classes."""
    logits, masks = _batch(6, classes=4)
    expected = torch.nn.functional.cross_entropy(logits, masks)
    assert torch.allclose(_loss("cross_entropy", classes=4, undefined="as_paper")(logits, masks), expected)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 0.95))
@settings(max_examples=20, deadline=None)
def test_undefined_pixels_change_neither_value_nor_gradient(name, seed, share):
    """Any logits, even infinite ones, may stand at undefined pixels; their own gradient is exactly zero."""
    logits, masks = _batch(seed, undefined_share=share)
    at_undefined = (masks == IGNORE).unsqueeze(1)
    outcomes = []
    for stand_in in (0.0, -50.0, math.inf, math.nan):
        leaf = torch.where(at_undefined, stand_in, logits).requires_grad_()
        value = _loss(name)(leaf, masks)
        value.backward()
        assert torch.equal(leaf.grad * at_undefined, torch.zeros_like(logits))
        outcomes.append((value.detach(), leaf.grad))
    for value, gradient in outcomes[1:]:
        assert torch.equal(value, outcomes[0][0])
        assert torch.equal(gradient, outcomes[0][1])


@pytest.mark.parametrize("name", NAMES)
def test_masking_equals_cutting_the_undefined_pixels_out(name):
    """A batch whose right half is undefined has the loss of its left half."""
    logits, masks = _batch(3)
    masked = masks.clone()
    masked[:, :, 3:] = IGNORE
    expected = _loss(name)(logits[..., :3], masks[..., :3])
    assert torch.allclose(_loss(name)(logits, masked), expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_a_defined_pixel_has_zero_loss_and_gradient(name):
    """Corners of rotated regions are wholly undefined: they must train nothing, not NaN."""
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = _loss(name, weights=(1.0, 2.0, 3.0))(logits, torch.full((2, 4, 4), IGNORE))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_losses_by_hand_on_two_pixels():
    """p(true class) = .8 for a pixel of class 0, .5 for one of class 1.

    Class 0: intersection .8, predicted 1.3, true 1: IoU .8 / 1.5, Dice 1.6 / 2.3.
    Class 1: intersection .5, predicted .7, true 1: IoU .5 / 1.2, Dice 1 / 1.7.
    """
    logits, masks = _logits_of([[0.8, 0.2], [0.5, 0.5]]), torch.tensor([[[0, 1]]])
    expected = {
        "jaccard": 1 - (0.8 / 1.5 + 0.5 / 1.2) / 2,
        "dice": 1 - (1.6 / 2.3 + 1 / 1.7) / 2,
        "cross_entropy": -(math.log(0.8) + math.log(0.5)) / 2,
        "focal": -(0.04 * math.log(0.8) + 0.25 * math.log(0.5)) / 2,
    }
    for name, value in expected.items():
        assert _loss(name, classes=2)(logits, masks).item() == pytest.approx(value, abs=1e-6)


def test_class_weights_by_hand_on_two_pixels():
    """Weights 3 and 1: per-class terms in Jaccard, pixels of the class in cross-entropy, over their sum."""
    logits, masks = _logits_of([[0.8, 0.2], [0.5, 0.5]]), torch.tensor([[[0, 1]]])
    jaccard = (3 * (1 - 0.8 / 1.5) + (1 - 0.5 / 1.2)) / 4
    cross_entropy = -(3 * math.log(0.8) + math.log(0.5)) / 4
    assert _loss("jaccard", 2, (3.0, 1.0))(logits, masks).item() == pytest.approx(jaccard, abs=1e-6)
    assert _loss("cross_entropy", 2, (3.0, 1.0))(logits, masks).item() == pytest.approx(cross_entropy, abs=1e-6)


def test_weighted_cross_entropy_equals_torch_with_ignore_index():
    """An independent reference for weights and masking together."""
    logits, masks = _batch(8, undefined_share=0.4)
    weights = (0.5, 2.0, 1.5)
    expected = torch.nn.functional.cross_entropy(logits, masks, torch.tensor(weights), ignore_index=IGNORE)
    assert torch.allclose(_loss("cross_entropy", weights=weights)(logits, masks), expected)


def test_a_weighted_sum_adds_its_terms():
    """`{dice: 2, cross_entropy: 0.5}` is twice Dice plus half of cross-entropy."""
    logits, masks = _batch(9, undefined_share=0.2)
    both = build_loss({"dice": 2.0, "cross_entropy": 0.5}, classes=3, class_weights=None, undefined="ignore")
    expected = 2 * _loss("dice")(logits, masks) + 0.5 * _loss("cross_entropy")(logits, masks)
    assert torch.allclose(both(logits, masks), expected)


def test_the_loss_of_bfloat16_logits_is_computed_in_float32():
    """Autocast hands over bfloat16; sums over a batch must not lose their digits."""
    logits, masks = _batch(10)
    low = logits.bfloat16()
    assert torch.equal(_loss("jaccard")(low, masks), _loss("jaccard")(low.float(), masks))


def test_an_unknown_loss_and_wrong_class_weights_are_named():
    """The message says what is allowed."""
    with pytest.raises(BadInput, match="'lovasz' is unknown; choose from jaccard, dice"):
        _loss("lovasz")
    with pytest.raises(BadInput, match="2 entries; the label map has 3 classes"):
        _loss("dice", classes=4, weights=(1.0, 1.0), undefined="as_paper")


def test_an_own_loss_is_spared_batches_without_a_defined_pixel(tmp_path):
    """torch's cross-entropy alone gives NaN for them; with one defined pixel its value is its own."""
    (tmp_path / "own_plain_loss.py").write_text(
        "from torch.nn import CrossEntropyLoss\n"
        "def build(classes, ignore_index):\n    return CrossEntropyLoss(ignore_index=ignore_index)\n"
    )
    part = located(ImportedPart(target="own_plain_loss:build", name="own"), [tmp_path])
    loss = build_loss(part, classes=2, class_weights=None, undefined="ignore")
    logits_NKHW = torch.zeros(1, 2, 1, 2, requires_grad=True)
    nothing = loss(logits_NKHW, torch.tensor([[[IGNORE, IGNORE]]]))
    (gradient,) = torch.autograd.grad(nothing, logits_NKHW)
    assert (nothing.item(), gradient.abs().max().item()) == (0, 0)
    assert loss(logits_NKHW, torch.tensor([[[IGNORE, 1]]])).item() == pytest.approx(math.log(2))
