"""Numbers and names as people read them: one place, so that the page, the tables and the terminal agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MINUS = "\N{MINUS SIGN}"
NOT_AVAILABLE = "n/a"
ABSENT = "\N{EN DASH}"  # nothing to show, as opposed to a score that is n/a

_UNITS = {"patch_px": "px", "input_px": "px input", "mpp": "µm/px"}
_PREFIXES = {"learning_rate": "lr", "batch_size": "batch", "encoder_weights": "weights"}
MODEL_KEYS = ("architecture", "encoder", "encoder_weights")


def score_text(value: float | None) -> str:
    """`.713`-like scores with three digits; n/a for None."""
    return NOT_AVAILABLE if value is None else f"{value:.3f}".replace("-", MINUS)


def difference_text(value: float | None) -> str:
    """Signed, three digits, with a real minus sign; an en dash for None."""
    if value is None:
        return ABSENT
    return f"{value:+.3f}".replace("-", MINUS) if abs(value) >= 0.0005 else "0.000"


def interval_text(low: float, high: float, *, signed: bool = False) -> str:
    """`0.495 to 0.716`, which no line breaks; with signs for a difference."""
    text = difference_text if signed else score_text
    return f"{text(low)}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{text(high)}"


def percent_text(share: float | None) -> str:
    """One digit after the point, without the sign."""
    return NOT_AVAILABLE if share is None else f"{100 * share:.1f}"


def count_text(number: int) -> str:
    """Thousands apart by a thin space."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def duration_text(seconds: float) -> str:
    """`42 s`, `3.5 min`, `1.8 h`, `2.1 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size or (unit == "min" and seconds >= 60):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def million_text(number: float) -> str:
    """Parameters of a network: `6.3 M`, `48 k`."""
    return f"{number / 1e6:.1f} M" if number >= 1e5 else f"{number / 1e3:.0f} k"


def plural(number: int, noun: str) -> str:
    """`1 trial`, `3 trials`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def value_text(value: object) -> str:
    """A parameter's value: floats with 2 or 3 significant digits, switches as yes or no, inactive as dash."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value == 0 or 0.01 <= abs(value) < 1e5:
            return f"{value:.3g}"
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return str(value)


def setting_text(key: str, value: object) -> str:
    """A value that says what it is: `lr 1e-3`, `256 px`, `all patches`."""
    text = value_text(value)
    if key in ("labels", "architecture", "encoder", "schedule", "optimizer", "loss"):
        return text
    if key == "patches":
        text = f"{text.replace('_', '-')} patches"
    elif key in _UNITS and value is not None:
        text = f"{text} {_UNITS[key]}"
    else:
        text = f"{_PREFIXES.get(key, key.replace('_', ' '))} {text}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def model_text(values: Mapping[str, object]) -> str:
    """`attention_unet · efficientnet-b0 · imagenet`, without inactive parts."""
    parts = [str(values[key]) for key in MODEL_KEYS if values.get(key) is not None]
    return " · ".join(parts) or "model"


def metric_text(metric: str) -> str:
    """`val/iou` -> IoU, `val/dice_tumor` -> Dice tumor, `val/yardstick` -> yardstick."""
    name = metric.removeprefix("val/").replace("non_homogeneous/", "non-homogeneous ")
    for short, long in (("iou", "IoU"), ("dice", "Dice")):
        if name == short or name.startswith(f"{short}_") or name.endswith(f" {short}"):
            name = name.replace(short, long, 1)
    return name.replace("_", " ")


def factor_text(factor: str) -> str:
    """`encoder_weights` -> encoder weights."""
    return factor.replace("_", " ")


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
