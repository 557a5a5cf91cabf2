"""Imported parts of a YAML file, wherever they stand, gathered under `imports` and replaced by their names.

From here on they are names like any other: in rules, `when`, baselines, Optuna, MLflow and reports.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.base import Document, KeyPath
from harness.config.imported import ImportedPart, is_import, located
from harness.config.knobs import IMPORTABLE
from harness.errors import BadInput

FORM = "write `{import: package.module:function, name: ours}`"


def gather_imports(document: Document, folders: Sequence[Path]) -> tuple[Document, list[str]]:
    """The document with its imported parts located in `folders`, and every mistake about them as a line."""
    gathering = _Gathering(document, folders)
    values = {key: gathering.replaced(value, (key,)) for key, value in document.values.items()}
    if gathering.found:
        values["imports"] = {name: part.model_dump(mode="json") for name, part in gathering.found.items()}
    return Document(document.source, values, {**document.lines, **gathering.lines}), gathering.problems


class _Gathering:
    """One walk through a document."""

    def __init__(self, document: Document, folders: Sequence[Path]) -> None:
        self._document, self._folders = document, folders
        self.found: dict[str, ImportedPart] = {}
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[str] = []

    def replaced(self, value: Any, path: KeyPath) -> Any:
        """The value with every imported part in it replaced by what stands for it."""
        if is_import(value):
            return self._part(value, path)
        if isinstance(value, dict):
            return {key: self.replaced(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.replaced(inner, (*path, index)) for index, inner in enumerate(value)]
        return value

    def _part(self, value: dict[str, Any], path: KeyPath) -> Any:
        named = {"name": path[-1] if path[0] == "imports" else _last_word(value["import"]), **value}
        if path[0] != "imports" and not IMPORTABLE & set(path):
            self._problem(path, f"cannot be imported; only {', '.join(sorted(IMPORTABLE))} can")
            return str(named["name"])
        try:
            part = located(ImportedPart.model_validate(named), self._folders)
        except (ValidationError, BadInput) as error:
            self._problem(path, _said(error, value))
            # Stands in for the broken one, so that nothing further is said of a name that nobody knows.
            part = ImportedPart(target="stand:in", name=re.sub(r"[^A-Za-z0-9]", "", str(named["name"]))[:40] or "part")
        if self.found.setdefault(part.name, part) != part:
            self._problem(path, f"{part.name!r} is already {self.found[part.name].target}; give one another `name`")
        self.lines[("imports", part.name)] = self._document.line(path) or 1
        # `train:` is typed, so there the part itself stands; in lists of choices its name does.
        return part.model_dump(mode="json") if path[0] in ("train", "imports") else part.name

    def _problem(self, path: KeyPath, message: str) -> None:
        self.problems.append(self._document.problem(path, message))


def _said(error: ValidationError | BadInput, value: dict[str, Any]) -> str:
    """One line about a part that cannot be used."""
    if isinstance(error, BadInput):
        return str(error)
    item = error.errors(include_url=False)[0]
    if item["loc"] == ("import",):
        return f"{value['import']!r} is not `package.module:function`; {FORM}"
    return f"{'.'.join(map(str, item['loc']))}: {item['msg'][0].lower()}{item['msg'][1:]}; {FORM}"


def _last_word(target: object) -> str:
    """`nets` of `mylab.nets:build`: what a part is called that was given no name."""
    return str(target).partition(":")[0].rpartition(".")[2] or "imported"
