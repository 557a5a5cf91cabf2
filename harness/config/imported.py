"""Parts that a person brings along: a function in a Python file of theirs, found, hashed, imported.

`{import: mylab.nets:build, name: ours}` in YAML. The module is looked for beside the YAML file, then in the current
folder, then where Python looks. What is found is part of a trial's fingerprint by the hash of its source: that module
and every module of the same folder that it imports, read without running any of it. Only `load_part`, in a worker,
runs it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from harness.config.base import Frozen, choose_from
from harness.errors import BadInput
from harness.files import fingerprint, sha256_file

Option = bool | int | float | str


class ImportedPart(Frozen):
    """A function `module:function`, called `name` everywhere, with fixed keyword `options`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    target: Annotated[str, Field(alias="import", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
    options: dict[str, Option] = {}
    folder: str = ""  # where the module was found; not part of a fingerprint
    sha256: str = ""  # of its source

    def __hash__(self) -> int:
        return hash((self.target, self.name, self.sha256))

    @property
    def module(self) -> str:
        """`mylab.nets` of `mylab.nets:build`."""
        return self.target.partition(":")[0]

    @property
    def function(self) -> str:
        """`build` of `mylab.nets:build`."""
        return self.target.partition(":")[2]


def is_import(value: object) -> bool:
    """Whether a YAML value asks for an imported part."""
    return isinstance(value, dict) and "import" in value


def without_places(value: Any) -> Any:
    """The same nested values, but no `folder` in imported parts: where they lie decides nothing."""
    if isinstance(value, dict):
        return {key: without_places(v) for key, v in value.items() if not (key == "folder" and is_import(value))}
    return [without_places(item) for item in value] if isinstance(value, list) else value


def located(part: ImportedPart, folders: Sequence[Path]) -> ImportedPart:
    """The part with the folder and the hash of its source; nothing is run.

    BadInput when no module is there, it is not Python, or it has no such function.
    """
    for folder in dict.fromkeys([*folders, *map(Path, sys.path)]):
        file = _module_file(folder, part.module)
        if file is not None:
            _check_defines(file, part.function)
            return part.model_copy(update={"folder": str(folder.resolve()), "sha256": _source_hash(file, folder)})
    looked = ", ".join(str(folder) for folder in dict.fromkeys(folders))
    raise BadInput(f"{part.target}: there is no module {part.module} in {looked} or among the installed packages")


def load_part(part: ImportedPart) -> Callable[..., Any]:
    """The function itself. BadInput when it cannot be imported, or its source is no longer the one that was hashed."""
    here = located(part, [Path(part.folder), Path.cwd()] if part.folder else [Path.cwd()])
    if part.sha256 and here.sha256 != part.sha256:
        raise BadInput(
            f"{part.target}: its source in {here.folder} has changed since this trial was made; run the sweep again "
            "(that makes a new generation), or bring the old source back"
        )
    function = getattr(_imported(part.module, Path(here.folder), here.sha256), part.function, None)
    if not callable(function):
        raise BadInput(f"{part.target}: {part.function} is not a function")
    return function  # type: ignore[no-any-return]  # callable by the line before


def call_part(part: ImportedPart, **given: object) -> Any:
    """What the part's function returns for these arguments and its options; BadInput in one line if it fails."""
    function = load_part(part)
    try:
        return function(**given, **part.options)
    except Exception as error:  # it is somebody else's code: anything may come
        said = ", ".join(f"{key}={_short(value)}" for key, value in {**given, **part.options}.items())
        raise BadInput(f"{part.target}({said}): {_failure(error, Path(part.folder))}") from error


# Module -> hash of the source it was imported from, so that a process that lives on does not run an old version.
_IMPORTED: dict[str, str] = {}


def _imported(module: str, folder: Path, sha256: str) -> Any:
    if module in sys.modules and _IMPORTED.get(module) not in (None, sha256):
        for source in _sources(_module_file(folder, module), folder):
            sys.modules.pop(_module_name(source, folder), None)
        importlib.invalidate_caches()
    # First in the path, so that the module found is the module imported; last afterwards, for its late imports.
    sys.path.insert(0, str(folder))
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        raise BadInput(f"{module}: cannot be imported: {_failure(error, folder)}") from error
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    expected = _module_file(folder, module)
    if expected is None or Path(loaded.__file__ or "").resolve() != expected.resolve():
        raise BadInput(
            f"{module}: Python has another module of that name ({loaded.__file__}); rename yours ({expected})"
        )
    _IMPORTED[module] = sha256
    return loaded


def _module_file(folder: Path, module: str) -> Path | None:
    """The file of a module below `folder`: a package's `__init__.py`, or `name.py`."""
    base = folder.joinpath(*module.split("."))
    for file in (base / "__init__.py", base.with_suffix(".py") if "." not in base.name else base):
        if file.is_file():
            return file
    return None


def _module_name(file: Path, folder: Path) -> str:
    parts = file.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise BadInput(f"{file}:{error.lineno or 1}: not valid Python: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: cannot be read: {error}") from None


def _check_defines(file: Path, function: str) -> None:
    statements = list(_top_level(_parsed(file).body))
    if function in _bound(statements) or "*" in _bound(statements):
        return
    defined = [node.name for node in statements if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [name for name in defined if not name.startswith("_")]
    raise BadInput(
        f"{file}: defines no {function!r}; {choose_from(function, public) if public else 'no function at all'}"
    )


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The module's own statements, also those under `if`, `try` and `with`; not what stands inside definitions."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            handlers = [inner for handler in getattr(node, "handlers", ()) for inner in handler.body]
            yield from _top_level(
                [*node.body, *getattr(node, "orelse", ()), *getattr(node, "finalbody", ()), *handlers]
            )


def _bound(statements: Iterable[ast.stmt]) -> set[str]:
    """The names that these statements give a value."""
    names: set[str] = set()
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names


def _source_hash(file: Path, folder: Path) -> str:
    return fingerprint({_module_name(source, folder): sha256_file(source) for source in _sources(file, folder)})


def _sources(file: Path | None, folder: Path) -> list[Path]:
    """The module's file and every file of the same folder that it imports, directly or not, sorted.

    Of an installed package only the package's own files: its libraries are named by their versions.
    """
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
    only = None
    if file is not None and folder.resolve() in installed:
        only = _module_name(file, folder).partition(".")[0]
    found: set[Path] = set()
    waiting = [file] if file is not None else []
    while waiting:
        source = waiting.pop()
        if source in found:
            continue
        found.add(source)
        for module in _imports(_parsed(source), package=_package(source, folder)):
            if only in (None, module.partition(".")[0]):
                waiting += [f for name in _parents(module) if (f := _module_file(folder, name)) is not None]
    return sorted(found)


def _package(file: Path, folder: Path) -> str:
    name = _module_name(file, folder)
    return name if file.name == "__init__.py" else name.rpartition(".")[0]


def _imports(tree: ast.Module, *, package: str) -> Iterator[str]:
    """Every module that may be meant by an import statement; `from a import b` may mean a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _parents(module: str) -> Iterable[str]:
    """`a`, `a.b`, `a.b.c` of `a.b.c`: importing a module runs its packages' `__init__.py`, too."""
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _failure(error: Exception, folder: Path) -> str:
    """`ValueError: text (nets.py:12)`: the last line of theirs that the error went through."""
    text = (str(error).strip().splitlines() or ["no message"])[0]
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(folder)
    ]
    where = f" ({Path(frames[-1].filename).relative_to(folder)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}"


def _short(value: object) -> str:
    return repr(value) if isinstance(value, bool | int | float | str) else type(value).__name__
