"""What a warm worker keeps: copies of networks equal to a fresh one, and one copy of the patches on its device."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from harness.config.spec import ModelSpec, TrialSpec
from harness.train import initial_model
from harness.trial.warm import InitialModels, KeptPatches
from tests.toy import toy_spec, write_cohort
from tests.training import CPU, data_of, sha_of, trained

UNET = ModelSpec(architecture="unet", encoder="tu-test_efficientnet", encoder_weights="random",
                 decoder_channels=(16, 16, 8, 8, 4))  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"))


def sha(model: torch.nn.Module) -> str:
    return sha_of(model.state_dict())


@pytest.mark.parametrize("model", [UNET, ModelSpec(architecture="unet_plain", decoder_channels=(16, 16, 8, 8, 4))])
def test_every_copy_has_the_bits_and_the_names_of_a_fresh_network(root: Path, model: ModelSpec) -> None:
    """The first, and the next after that one was changed; modules, parameters and their order, too."""
    spec, models = toy_spec(root, model=model), InitialModels()
    fresh = initial_model(spec)
    for _ in range(3):
        copied = models.of(spec)
        assert [name for name, _ in copied.named_modules()] == [name for name, _ in fresh.named_modules()]
        assert [name for name, _ in copied.named_parameters()] == [name for name, _ in fresh.named_parameters()]
        assert sha(copied) == sha(fresh)
        assert copied.training
        with torch.no_grad():
            for value in copied.parameters():
                value.zero_()
    assert len(models) == 1


def test_training_on_a_copy_ends_in_the_weights_of_a_fresh_network(root: Path, tmp_path: Path) -> None:
    """Two epochs, the second time on a copy made after the first training."""
    spec, models = toy_spec(root, epochs=2), InitialModels()
    wanted = sha_of(trained(spec, tmp_path / "a.pt", model=initial_model(spec)).weights)
    assert [sha_of(trained(spec, tmp_path / "b.pt", model=models.of(spec)).weights) for _ in range(2)] == [wanted] * 2


def test_torchs_generator_is_left_as_building_leaves_it(root: Path) -> None:
    """Whatever draws next, such as an own loss, draws the same in the first and in the fifth trial."""
    spec, models = toy_spec(root), InitialModels()
    initial_model(spec)
    after = torch.rand(3).tolist()
    for _ in range(2):
        models.of(spec)
        assert torch.rand(3).tolist() == after


def test_learning_rate_is_data_seed_and_network_are_not(root: Path) -> None:
    """Trials that differ in their training share a network; another seed or decoder has its own."""
    models = InitialModels()
    specs = [toy_spec(root), toy_spec(root, learning_rate=0.1, epochs=9), toy_spec(root, seed=6)]
    one, same, other = (sha(models.of(spec)) for spec in specs)
    assert one == same != other
    assert len(models) == 2


def test_what_is_kept_is_bounded_and_the_oldest_goes(root: Path) -> None:
    """A network larger than the bound is not kept, and of two that do not fit together the one used last is."""
    first, second = toy_spec(root, seed=1), toy_spec(root, seed=2)
    size_bytes = sum(value.numel() * value.element_size() for value in initial_model(first).state_dict().values())
    none, one = InitialModels(size_bytes - 1), InitialModels(2 * size_bytes - 1)
    assert sha(none.of(first)) == sha(initial_model(first))
    assert len(none) == 0
    for spec in (first, second, first):
        assert sha(one.of(spec)) == sha(initial_model(spec))
        assert len(one) == 1
    one.forget()
    assert len(one) == 0


def test_a_file_of_weights_that_was_replaced_is_read_again(root: Path, tmp_path: Path) -> None:
    """The path is the same, the weights are the new file's."""
    file = tmp_path / "encoder.safetensors"

    def spec() -> TrialSpec:
        return toy_spec(root, model=UNET.model_copy(update={"encoder_weights": str(file)}))

    models, found = InitialModels(), []
    for seed in (1, 2):
        encoder = initial_model(toy_spec(root, model=UNET, seed=seed)).get_submodule("encoder").state_dict()
        file.write_bytes(safetensors.torch.save(encoder))
        found.append(sha_of(models.of(spec()).get_submodule("encoder").state_dict()))
        assert found[-1] == sha_of(encoder)
    assert found[0] != found[1]


def test_two_trials_on_the_same_patches_share_one_copy(root: Path) -> None:
    """The store is opened anew by the second, with another learning rate and policy; its patches are there already."""
    kept = KeptPatches(free=lambda device: 10**9)
    first, second = toy_spec(root, augment="none"), toy_spec(root, augment="paper_one_warp", learning_rate=0.1)
    copy = kept.of(first, data_of(first), CPU)
    assert copy is not None
    assert kept.of(second, data_of(second), CPU) is copy


def test_other_patches_take_the_place_of_those_that_are_kept(root: Path) -> None:
    """One copy at most: with a patch less it is another one, and the first is gone before that is made."""
    kept = KeptPatches(free=lambda device: 10**9)
    spec = toy_spec(root, augment="none")
    data = data_of(spec)
    first = weakref.ref(kept.of(spec, data, CPU))
    second = kept.of(spec, replace(data, training_indices=data.training_indices[1:]), CPU)
    assert second is not None
    assert first() is None


def test_a_trial_that_does_not_use_the_copy_has_its_memory(root: Path) -> None:
    """After a policy of the host's, and when told to forget, nothing is held."""
    kept = KeptPatches(free=lambda device: 10**9)
    spec, paper = toy_spec(root, augment="none"), toy_spec(root, augment="paper")
    data = data_of(spec)
    for let_go in (lambda: kept.of(paper, data, CPU), kept.forget):
        copy = weakref.ref(kept.of(spec, data, CPU))
        assert copy() is not None
        assert let_go() is None
        assert copy() is None


def test_on_a_cpu_no_patches_are_kept(root: Path) -> None:
    """Its memory has them: the store is mapped."""
    spec = toy_spec(root, augment="none")
    assert KeptPatches().of(spec, data_of(spec), CPU) is None
