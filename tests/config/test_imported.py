"""Imported parts: found, hashed without being run, gathered from YAML, and refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.config.cells import DataFacts, combinations, resolve, strata_of
from harness.config.imported import ImportedPart, call_part, load_part, located
from harness.config.load import load_space
from harness.config.space import SearchSpace
from harness.config.spec import Split, TrialSpec
from harness.errors import BadInput
from harness.sweep.firstjobs import specs_to_try
from harness.sweep.vocabulary import CHECKS

EXAMPLE = Path(__file__).parents[2] / "docs" / "own_parts"
FACTS = DataFacts("/data", "0" * 16, "other", (0, 1, 2), (), Split(train=("a",), validation=("b",)))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nets.py, which imports blocks.py; and a third file that nobody imports."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "labnets.py").write_text(
        "from labblocks import WIDTH\n\ndef build(classes, more=0):\n    return WIDTH + more\n"
    )
    (tmp_path / "labblocks.py").write_text("WIDTH = 8\n")
    (tmp_path / "apart.py").write_text("X = 1\n")
    return tmp_path


def part(target: str = "labnets:build", **more: object) -> ImportedPart:
    return ImportedPart.model_validate({"import": target, "name": "ours", **more})


def test_the_hash_follows_what_the_module_imports_and_nothing_else(lab: Path) -> None:
    """Editing blocks.py, which nets.py imports, changes the hash; editing apart.py does not."""
    before = located(part(), [lab]).sha256
    (lab / "apart.py").write_text("X = 2\n")
    assert located(part(), [lab]).sha256 == before
    (lab / "labblocks.py").write_text("WIDTH = 9\n")
    assert located(part(), [lab]).sha256 != before


def test_locating_runs_nothing(lab: Path) -> None:
    """A module that ends the process when imported is found and hashed all the same."""
    (lab / "labnets.py").write_text("raise SystemExit('ran')\ndef build(classes): ...\n")
    assert len(located(part(), [lab]).sha256) == 64


def test_relative_imports_and_packages_are_followed(tmp_path: Path) -> None:
    """`from .blocks import x` and the package's __init__.py count."""
    package = tmp_path / "labpack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("from .blocks import x\nbuild = x\n")
    (package / "blocks.py").write_text("def x(): ...\n")
    hashes = set()
    for name, text in (("nets.py", None), ("blocks.py", "def x(): return 1\n"), ("__init__.py", "y = 1\n")):
        if text is not None:
            (package / name).write_text(text)
        hashes.add(located(part("labpack.nets:build"), [tmp_path]).sha256)
    assert len(hashes) == 3


def test_an_edited_source_is_run_afresh_and_an_old_hash_is_refused(lab: Path) -> None:
    """A process that has imported version 8 runs version 9 for a spec of version 9, and refuses one of version 8."""
    old = located(part(options={"more": 1}), [lab])
    assert call_part(old, classes=3) == 9
    (lab / "labblocks.py").write_text("WIDTH = 10\n")
    with pytest.raises(BadInput, match="has changed since this trial was made"):
        load_part(old)
    assert call_part(located(part(), [lab]), classes=3) == 10


def test_a_failure_inside_names_the_line_of_theirs(lab: Path) -> None:
    """An exception becomes one line with file and line number."""
    (lab / "labnets.py").write_text("def build(classes):\n    return {}['missing']\n")
    with pytest.raises(BadInput, match=r"labnets:build\(classes=3\): KeyError: 'missing' \(labnets.py:2\)"):
        call_part(located(part(), [lab]), classes=3)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothing.here:build", "no module nothing.here"),
        ("labnets:biuld", "defines no 'biuld'; did you mean 'build'"),
        ("broken:build", r"broken.py:1: not valid Python"),
    ],
)
def test_what_cannot_be_located_is_one_clear_line(lab: Path, target: str, message: str) -> None:
    """Missing module, missing function, and broken source each say so."""
    (lab / "broken.py").write_text("def build(:\n")
    with pytest.raises(BadInput, match=message):
        located(part(target), [lab])


def test_a_module_of_the_same_name_elsewhere_is_not_mistaken_for_it(lab: Path) -> None:
    """A file called json.py: Python has its own json loaded; refused instead of running the wrong code."""
    (lab / "json.py").write_text("def build(classes): ...\n")
    with pytest.raises(BadInput, match="another module of that name"):
        load_part(located(part("json:build"), [lab]))


def test_the_example_of_the_docs_resolves_into_specs_that_carry_the_parts() -> None:
    """Names in parameters, parts in specs; a spec survives JSON; where the files lie is not part of its fingerprint."""
    space = load_space(EXAMPLE / "sweep.yaml", checks=CHECKS)
    assert sorted(space.imports) == ["flips", "tiny", "tversky"]
    cells = [cell for stratum in strata_of(space) for cell in combinations(space, stratum)]
    assert {(cell["architecture"], cell["loss"]) for cell in cells} == {
        (net, loss) for net in ("unet_plain", "tiny") for loss in ("cross_entropy", "tversky")
    }
    own = resolve(
        space, FACTS, next(c for c in cells if c["architecture"] == "tiny" and c["loss"] == "tversky"), seed=1
    )
    assert [p.target for p in own.imported_parts] == [
        "mylab.nets:build",
        "mylab.losses:tversky",
        "mylab.augments:flips",
    ]
    assert (own.parameters()["architecture"], own.parameters()["loss"], own.parameters()["augment"]) == (
        "tiny", "tversky", "flips",
    )  # fmt: skip
    again = TrialSpec.model_validate_json(own.model_dump_json())
    assert again == own
    elsewhere = own.model_copy(
        update={
            "model": own.model.model_copy(
                update={"architecture": space.imports["tiny"].model_copy(update={"folder": "/x"})}
            )
        }
    )
    assert elsewhere.fingerprint == own.fingerprint
    assert SearchSpace.model_validate(space.model_dump(mode="json")).key == space.key


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "  architecture: {value: {import: labnets:build, name: unet}}",
            "3: imports.unet: 'unet' is the name of a part",
        ),
        (
            "  architecture: {value: {import: labnets.build}}",
            "3: parameters.architecture.value: 'labnets.build' is not `package.module:function`",
        ),
        (
            "  architecture: {value: unet_plain}\n  optimizer: {value: {import: labnets:build}}",
            "4: .*cannot be imported",
        ),
        (
            "  architecture: {value: {import: labnets:build}}\n  loss: {value: {import: labblocks:W, name: a}}",
            "4: .*labblocks.py: defines no 'W'",
        ),
        (
            "  architecture: {value: {import: labnets:build, name: a}}\n  encoder: {value: resnet18}",
            "4: parameters.encoder: a is imported and takes no encoder",
        ),
        (
            "  architecture: {value: {import: labnets:build, name: a}}\n  decoder_channels: {value: [8, 8, 8, 8, 8]}",
            "4: parameters.decoder_channels: a is imported and takes no decoder_channels",
        ),
        (
            "  architecture: {value: {import: labnets:build, name: a}}\n  decoder_attention: {values: [none, scse]}",
            "4: parameters.decoder_attention: a is imported and takes no decoder_attention",
        ),
        (
            "  architecture: {value: {import: labnets:build, name: a}}\n  encoder_weights: {value: imagenet}",
            "4: parameters.encoder_weights: a is imported and takes no encoder_weights",
        ),
        (
            "  architecture: {value: unet_plain}\n  class_weights: {value: balanced}\n"
            "strata: {loss: [jaccard, {import: labnets:build, name: a}]}",
            "4: parameters.class_weights: an imported loss takes no class_weights",
        ),
        (
            "  architecture: {value: unet_plain}\nimport: labnets:build",
            "4: import: unknown key; did you mean 'imports'",
        ),
    ],
)
def test_mistakes_about_imports_name_file_and_line(lab: Path, line: str, message: str) -> None:
    """Every mistake is listed with its line and what is allowed."""
    file = lab / "space.yaml"
    file.write_text(f"data: {{root: .}}\nparameters:\n{line}\nlabels: {{tiger7: builtin}}\n")
    with pytest.raises(BadInput, match=message) as raised:
        load_space(file, checks=CHECKS)
    if "optimizer" not in line:  # which also has choices of its own to name
        assert len(raised.value.problems) == 1  # nothing further about a name that is not known then


def test_loading_a_space_with_imports_loads_no_torch() -> None:
    """The controller reads their source and never runs it: torch stays out of its process."""
    code = (
        "import sys; from pathlib import Path; from harness.config.load import load_space; "
        f"load_space(Path({str(EXAMPLE / 'sweep.yaml')!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_class_weights_may_stand_beside_an_own_loss_that_they_never_meet(lab: Path) -> None:
    """`when` keeps them to the harness's loss."""
    file = lab / "space.yaml"
    file.write_text(
        "data: {root: .}\nlabels: {tiger7: builtin}\nparameters:\n  architecture: {value: unet_plain}\n"
        "  loss: {values: [jaccard, {import: labnets:build, name: a}]}\n"
        "  class_weights: {value: balanced, when: {loss: [jaccard]}}\n"
    )
    assert list(load_space(file, checks=CHECKS).imports) == ["a"]


def test_every_own_part_is_tried_however_many_combinations_there_are(lab: Path) -> None:
    """4 x 6^7 combinations, the second network behind half of them: one spec for each network, label map and size."""
    file = lab / "space.yaml"
    many = "".join(
        f"  {name}: {{values: [{', '.join(map(str, values))}]}}\n"
        for name, values in {
            "learning_rate": [0.1, 0.01, 0.02, 0.03, 0.04, 0.05],
            "batch_size": range(1, 7),
            "epochs": range(1, 7),
            "weight_decay": [0, 0.1, 0.2, 0.3, 0.4, 0.5],
            "plateau_patience": range(1, 7),
            "stop_patience": range(1, 7),
            "plateau_factor": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        }.items()
    )
    file.write_text(
        "data: {root: .}\nlabels: {tiger7: builtin, unicorn3: builtin}\nstrata: {labels: [tiger7, unicorn3]}\n"
        "parameters:\n  architecture:\n    values: [{import: labnets:build, name: a}, unet_plain, "
        "{import: labnets:build, name: b}]\n  patch_px: {values: [64, 128]}\n" + many
    )
    specs = specs_to_try(load_space(file, checks=CHECKS), FACTS)
    assert sorted((s.parameters()["architecture"], s.classes, s.dataset.cut.input_px) for s in specs) == [
        (name, classes, side) for name in "ab" for classes in (3, 7) for side in (64, 128)
    ]
