"""Imported parts that break their contract are named in one line; the example of the docs keeps to it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from harness.config.cells import DataFacts, combinations, resolve, strata_of
from harness.config.load import load_space
from harness.config.spec import Split, TrialSpec
from harness.errors import BadInput
from harness.trial.timing import time_steps
from harness.trial.tryout import try_parts

EXAMPLE = Path(__file__).parents[2] / "docs" / "own_parts"
FACTS = DataFacts("/data", "0" * 16, "other", (0, 1, 2, 3, 9), (), Split(train=("a",), validation=("b",)))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example that can be edited; nothing of it stays imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)
    return Path(shutil.copytree(EXAMPLE, tmp_path / "lab"))


def test_a_plan_says_what_is_wrong_with_a_part_in_one_line(lab: Path) -> None:
    """Its timed steps run the parts too: an own loss that fails is the person's mistake, not a crash of ours."""
    path = lab / "mylab" / "losses.py"
    path.write_text(path.read_text().replace("softmax(dim=1)", "softmax(dim=9)"))
    with pytest.raises(BadInput, match="the loss it returns fails: IndexError"):
        time_steps(spec_of(lab), "cpu")


def spec_of(lab: Path) -> TrialSpec:
    """The example's trial with all three parts imported."""
    space = load_space(lab / "sweep.yaml")
    cells = [cell for stratum in strata_of(space) for cell in combinations(space, stratum)]
    own = next(cell for cell in cells if (cell["architecture"], cell["loss"]) == ("tiny", "tversky"))
    return resolve(space, FACTS, own, seed=1)


def test_the_example_keeps_to_its_contracts(lab: Path) -> None:
    """Network, loss and augmentation of docs/own_parts: nothing to complain of."""
    try_parts(spec_of(lab))


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("nets.py", "return TinyUnet", "import nothing_here\n    return TinyUnet", r"\(mylab/nets.py:\d+\)"),
        ("nets.py", "return TinyUnet(classes, width)", "return TinyUnet(classes + 1, width)", "expected .*, 3, 64, 64"),
        ("nets.py", "return TinyUnet(classes, width)", "return classes", "returned a int; expected a torch.nn.Module"),
        ("nets.py", "classes: int, width: int = 16", "classes: int", "unexpected keyword argument 'width'"),
        ("losses.py", ") * defined_N1HW", ")", "has a gradient on undefined pixels"),
        ("losses.py", ".mean()", "", "expected one finite number"),
        ("augments.py", "rng.random()", "np.random.rand()", "draw from `rng` alone"),
        ("augments.py", "return image_HWC,", "return image_HWC[:8],", r"expected uint8 \(64, 64, 3\)"),
    ],
)
def test_a_broken_contract_is_one_line_that_says_which(lab: Path, file: str, old: str, new: str, said: str) -> None:
    """Each contract of docs/own-parts.md, broken by one edit of the example."""
    path = lab / "mylab" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BadInput, match=said) as raised:
        try_parts(spec_of(lab))
    assert len(str(raised.value).splitlines()) == 1
