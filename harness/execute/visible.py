"""Whether another machine sees the same files: a word is written here, read there, and answered the other way.

Trials on a cluster write their folders themselves, so the home has to lie on a file system that every node sees; the
same goes for the data and for imported parts. Whoever does not see them is named before the first trial.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from harness.files import write_text

# A network file system may show a new file late: NFS caches a folder's entries for 3 to 60 s, unless it is listed.
ANSWER_TIMEOUT_S = 15.0
_STEP_S = 0.2


@dataclass(frozen=True, slots=True)
class Proof:
    """What every node must see: a folder with a word in it, and other paths that only need to be there."""

    folder: Path
    word: str
    others: tuple[Path, ...] = ()
    harness: str = ""  # the version that the controller runs

    @property
    def question(self) -> Path:
        """The file with the word."""
        return self.folder / "word"


def offered(folder: Path, others: Sequence[Path] = ()) -> Proof:
    """Write a fresh word into `folder`."""
    proof = Proof(folder, secrets.token_hex(16), tuple(others), version("tissue-sweep-harness"))
    write_text(proof.question, proof.word)
    return proof


def objections(proof: Proof, node: str) -> list[str]:
    """For the node: write an answer, and say what is missing there; nothing when all is well."""
    here = f"{socket.gethostname()}, process {os.getpid()}"
    if version("tissue-sweep-harness") != proof.harness:
        return [f"harness {version('tissue-sweep-harness')} is installed there, and {proof.harness} here"]
    if not _comes(proof.question, proof.word):
        return [f"{proof.folder} is not the same folder there: choose a home that every node sees"]
    try:
        write_text(proof.folder / node, here)
    except OSError as error:
        return [f"{proof.folder} cannot be written to from there: {error.strerror}"]
    return [f"{path} is not there" for path in proof.others if not path.exists()]


def answered(proof: Proof, node: str) -> bool:
    """Whether the node's answer is to be seen here, now or soon."""
    return _comes(proof.folder / node, None)


def _comes(file: Path, content: str | None) -> bool:
    """Wait for a file (with that content) to appear."""
    deadline = time.monotonic() + (ANSWER_TIMEOUT_S if file.parent.is_dir() else 0.0)
    while True:
        try:
            list(file.parent.iterdir())  # makes a network file system ask its server, where a look at the name does not
            if file.is_file() and content in (None, file.read_text(encoding="utf-8")):
                return True
        except OSError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(_STEP_S)
