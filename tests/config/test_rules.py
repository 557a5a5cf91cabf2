"""Rules: a small language, checked, never eval."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.rules import parse_rule


@pytest.mark.parametrize(
    ("rule", "values", "holds"),
    [
        (
            'not (patch_px == 512 and architecture == "unet")',
            {"patch_px": 512, "architecture": "unet"},
            False,
        ),
        ('not (patch_px == 512 and architecture == "unet")', {"patch_px": 256, "architecture": "unet"}, True),
        ("batch_size * 1 == 1", None, None),
        ("learning_rate < 1e-3 or epochs >= 10", {"learning_rate": 0.1, "epochs": 10}, True),
        ("64 <= patch_px < 256", {"patch_px": 256}, False),
        ("encoder in ['b0', 'b1']", {"encoder": "b1"}, True),
        ("encoder not in ['b0', 'b1']", {"encoder": "b1"}, False),
        ("encoder == null", {"encoder": None}, True),
        ("weight_decay > -1", {"weight_decay": 0}, True),
    ],
)
def test_rules_mean_what_they_say(rule: str, values: dict[str, object] | None, holds: bool | None) -> None:
    """Worked by hand; None: the rule is refused."""
    if values is None:
        with pytest.raises(ValueError, match="not allowed in a rule"):
            parse_rule(rule)
    else:
        assert parse_rule(rule).holds(values) is holds


def test_ordering_an_inactive_parameter_is_false() -> None:
    """Null is neither below nor above anything, so a rule about an inactive parameter does not apply by accident."""
    assert not parse_rule("input_px < 128").holds({"input_px": None})
    assert not parse_rule("input_px >= 128").holds({"input_px": None})


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.b == 1",
        "a[0] == 1",
        "(lambda: 1)()",
        "a := 1",
        "f'{a}'",
        "a is None",
    ],
)
def test_code_is_refused(text: str) -> None:
    """Nothing but comparisons and their connectives is understood."""
    with pytest.raises(ValueError):
        parse_rule(text)


@given(st.text(max_size=80))
def test_any_text_is_a_rule_or_a_value_error(text: str) -> None:
    """And evaluating a rule over nothing gives a truth value."""
    try:
        rule = parse_rule(text)
    except ValueError:
        return
    assert rule.holds({}) in (True, False)
