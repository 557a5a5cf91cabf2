"""Rules over parameter combinations: `not (patch_px == 512 and architecture == "unet_plain")`.

A small language with a checked grammar, never `eval`: names of parameters, numbers, strings, lists, `null`,
`true`, `false`, the comparisons `== != < <= > >= in not in`, and `and or not`. An inactive parameter is null;
ordering a null is false, so that a rule about an inactive parameter does not apply by accident.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_WORDS: dict[str, Any] = {"null": None, "none": None, "true": True, "false": False}
# Python's parser recurses; a rule of this length is far from its limit.
_MAX_CHARACTERS = 1000

_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(frozen=True)
class Rule:
    """A parsed rule; `holds(values)` says whether a combination meets it."""

    text: str
    tree: ast.expr

    @property
    def names(self) -> frozenset[str]:
        """The parameters the rule speaks of."""
        return frozenset(
            node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and node.id not in _WORDS
        )

    def compared(self) -> Iterator[tuple[str, Any]]:
        """Every (parameter, constant) pair that is compared for equality or membership, to find misspelt values."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Compare):
                yield from _equalities(node)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether `values` (null for what is inactive or missing) meets the rule."""
        return bool(_evaluate(self.tree, values))


def parse_rule(text: str) -> Rule:
    """Parse a rule; ValueError says what is not understood and what is."""
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"a rule has at most {_MAX_CHARACTERS} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(
            f'not a rule: {text!r}; write e.g. `not (patch_px == 512 and architecture == "unet")`'
        ) from None
    _check(tree)
    return Rule(text=text, tree=tree)


def _check(node: ast.expr) -> None:
    match node:
        case ast.BoolOp(values=values):
            for value in values:
                _check(value)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _check(operand)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
            pass
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for operand in (left, *comparators):
                _check(operand)
            for op, right in zip(ops, comparators, strict=True):
                if isinstance(op, ast.Is | ast.IsNot):
                    raise ValueError("use == or != instead of `is`")
                if isinstance(op, ast.In | ast.NotIn) and not isinstance(right, ast.List | ast.Tuple):
                    raise ValueError("`in` needs a list on its right, such as `in [128, 256]`")
        case ast.List(elts=items) | ast.Tuple(elts=items):
            for item in items:
                _check(item)
        case ast.Name() | ast.Constant(value=str() | int() | float() | bool() | None):
            pass
        case _:
            shown = ast.unparse(node)
            raise ValueError(
                f"{shown!r} is not allowed in a rule; use comparisons, and, or, not, in, numbers and strings"
            )


def _evaluate(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_evaluate(part, values) for part in parts)
        case ast.BoolOp(values=parts):
            return any(_evaluate(part, values) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _evaluate(operand, values)
        case ast.UnaryOp(operand=ast.Constant(value=number)):
            return -number  # type: ignore[operator]  # _check let only numbers through
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            operands = [_evaluate(part, values) for part in (left, *comparators)]
            return all(_compare(op, a, b) for op, a, b in zip(ops, operands, operands[1:], strict=False))
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_evaluate(item, values) for item in items]
        case ast.Name(id=name):
            return _WORDS[name] if name in _WORDS else values.get(name)
        case ast.Constant(value=value):
            return value
    raise AssertionError(f"unchecked rule: {ast.dump(node)}")


def _compare(op: ast.cmpop, left: Any, right: Any) -> bool:
    if isinstance(op, ast.Eq):
        return bool(left == right)
    if isinstance(op, ast.NotEq):
        return bool(left != right)
    if isinstance(op, ast.In):
        return left in right
    if isinstance(op, ast.NotIn):
        return left not in right
    comparable = all(isinstance(side, int | float) for side in (left, right)) or (
        isinstance(left, str) and isinstance(right, str)
    )
    return comparable and _ORDER[type(op)](left, right)


def _equalities(node: ast.Compare) -> Iterator[tuple[str, Any]]:
    sides = [node.left, *node.comparators]
    for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
        if not isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn):
            continue
        for name, other in ((left, right), (right, left)):
            if isinstance(name, ast.Name) and name.id not in _WORDS:
                items = other.elts if isinstance(other, ast.List | ast.Tuple) else [other]
                for item in items:
                    if isinstance(item, ast.Constant):
                        yield name.id, item.value
