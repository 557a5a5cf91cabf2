"""YAML 1.2 in, located mistakes out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.base import choose_from, with_override
from harness.config.yaml_text import load_yaml, parse_value, parse_yaml
from harness.errors import BadInput


def test_exponents_are_numbers_and_no_is_a_string() -> None:
    """YAML 1.2, unlike 1.1, reads 1e-3 as a float and `no` as text."""
    assert parse_yaml("rate: 1e-3\nanswer: no\n", source="f").values == {"rate": 0.001, "answer": "no"}


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 'duplicate key "a"'),
        ("a: [1, 2\n", 2, "expected ',' or ']'"),
        ("a: &x 1\nb: *x\n", 2, "aliases"),
        ("a: 1\nb: !!set {c}\n", 2, "tags"),
        ("a: 1\nb:\n  c: {{d: 1}: 2}\n", 3, "a list or a mapping as a key"),
        ("a: 1\nb:\n  c: {[[d]]: 2}\n", 3, "a list or a mapping as a key"),
        ("a: 1\nb:\n  <<: {c: 1}\n", 2, "a merge (<<)"),
        ('a: 1\nb: "x\\0"\n', 2, "a null character"),
        ("- 1\n- 2\n", 1, "key: value"),
        ("", 1, "key: value"),
    ],
)
def test_every_yaml_mistake_names_its_line(text: str, line: int, what: str) -> None:
    """The message starts with file:line."""
    with pytest.raises(BadInput) as caught:
        parse_yaml(text, source="space.yaml")
    assert str(caught.value).startswith(f"space.yaml:{line}: ")
    assert what in str(caught.value)


def test_a_value_knows_its_line_and_a_missing_one_its_parents() -> None:
    """Keys and list items have lines; what is not in the file is located at the nearest parent."""
    document = parse_yaml("a:\n  b:\n    - 1\n    - 2\n", source="f")
    assert document.line(("a", "b", 1)) == 4
    assert document.line(("a", "b", 1, "x")) == 4
    assert document.line(("a", "zzz")) == 1
    assert document.line(("zzz",)) is None


def test_a_message_shows_control_characters_and_stays_one_line() -> None:
    """A key or value of the file cannot colour the terminal or fake a second line."""
    document = parse_yaml('"a\\e[31m\\nb": 1\n', source="f")
    (key,) = document.values
    assert document.problem((key,), "unknown key") == r"f:1: a\x1b[31m\nb: unknown key"


def test_an_override_that_is_not_yaml_is_a_text() -> None:
    """`--set` never gives a traceback; the check of its key says what is allowed."""
    for text in ("[1", "{{a: 1}: 2}", "!!int ''", "!!set", "a: b: c", "!!python/object:os.system"):
        assert parse_value(text) == text


def test_an_override_sets_one_value_and_leaves_the_original_alone() -> None:
    """Sections on the way are made."""
    document = parse_yaml("train: {epochs: 50, batch_size: 8}\n", source="f")
    changed = with_override(document, ("train", "epochs"), 2)
    made = with_override(document, ("budget", "trials"), 3)
    assert changed.values == {"train": {"epochs": 2, "batch_size": 8}}
    assert made.values["budget"] == {"trials": 3}
    assert document.values == {"train": {"epochs": 50, "batch_size": 8}}


def test_a_near_name_is_suggested() -> None:
    """The nearest allowed name comes first, then all of them."""
    assert choose_from("unett", ["unet", "fpn"]) == "did you mean 'unet'? Choose from fpn, unet"
    assert choose_from("zzz", ["unet", "fpn"]) == "choose from fpn, unet"


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    """No text gives a traceback."""
    try:
        parse_yaml(text, source="f")
    except BadInput as error:
        assert len(error.problems) == 1
        assert "\n" not in error.problems[0]


def test_a_file_of_a_terabyte_is_refused_without_reading_it(tmp_path: Path) -> None:
    """It is sparse; read, it would not fit any memory."""
    file = tmp_path / "huge.yaml"
    file.touch()
    os.truncate(file, 2**40)
    with pytest.raises(BadInput, match=r"huge.yaml: 1,099,511,627,776 bytes; a search space has at most 1,000,000"):
        load_yaml(file)
