"""Search space files broken at random: read, or refused in lines that say where; never a traceback.

HARNESS_MUTATIONS sets how many (`make mutations`: 10,000, some five minutes); the same number, the same files.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from harness.config.cells import at_lower_ends, combinations, resolve, strata_of
from harness.config.load import load_space
from harness.errors import BadInput
from harness.sweep.vocabulary import CHECKS
from tests.spaces import FACTS

REPO = Path(__file__).resolve().parents[2]
COUNT = int(os.environ.get("HARNESS_MUTATIONS", "200"))

# What people mistype, what YAML reads in its own way, and what no one writes by accident.
TYPED = """
null ~ true no '' "" [] {} [[]] [null] {a: 1} {1: 2} [1, [2]] 0 -0 -1 00 0x1F 0o17 1_000 1e3 1e400 -1e-400 .nan .inf
-.inf 99999999999999999999 1e-3 3.7 '1' 1.0 2026-11-23 12:30:00 !!str !!int !!set !!binary !!python/object:os.system
!import &a *a << | > - ? : # @ % ` \\t "\\0" "\\e[31m" "\\n" "\\U0001F52C" naive_café unet fpn pan dpt tu- tu-test_vit
imagenet-package scse tiger7 tiger3 builtin {import:x:y} {import:json:loads,name:ours} undefined val/loss val/yardstick
val/iou_tumor grid random top:3 top:0 36h 0s 512 16 8192 phantom min max values value when steps log
"""
VALUES = TYPED.split()


def _byte(text: bytes, rng: random.Random) -> bytes:
    place, new = rng.randrange(len(text)), bytes([rng.choice((*b":,[]{}#'\"-\n\t *&!|>%@`?\\", rng.randrange(256)))])
    return rng.choice((text[:place] + new + text[place + 1 :], text[:place] + new + text[place:], text[:place]))


def _lines(text: bytes, rng: random.Random) -> bytes:
    lines = text.split(b"\n")
    first, second = sorted(rng.sample(range(len(lines)), 2))
    changed = {
        "drop": lines[:first] + lines[first + 1 :],
        "double": [*lines[:second], lines[first], *lines[second:]],
        "swap": [*lines[:first], lines[second], *lines[first + 1 : second], lines[first], *lines[second + 1 :]],
        "indent": [*lines[:first], b" " * rng.randrange(1, 5) + lines[first], *lines[first + 1 :]],
        "undent": [*lines[:first], lines[first].lstrip(), *lines[first + 1 :]],
    }
    return b"\n".join(rng.choice(list(changed.values())))


def _word(text: bytes, rng: random.Random) -> bytes:
    """A word gives way to a nasty value or to another word of the file."""
    words = list(re.finditer(rb"[\w./+-]+", text))
    old, other = rng.choice(words), rng.choice(words).group()
    new = rng.choice((rng.choice(VALUES).encode(), rng.choice(VALUES).encode(), other))
    return text[: old.start()] + new + text[old.end() :]


def _section(text: bytes, rng: random.Random) -> bytes:
    """A bracketed value, or what follows a key, gives way."""
    places = list(re.finditer(rb"\[[^\[\]]*\]|\{[^{}]*\}|(?<=: )[^\n{\[]+", text))
    old = rng.choice(places)
    return text[: old.start()] + rng.choice(VALUES).encode() + text[old.end() :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (_byte, _lines, _word, _word, _section)


def _mutated(text: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 3))):
        text = rng.choice(MUTATIONS)(text, rng) if len(re.findall(rb"[\w]+: ", text)) > 3 else text
    return text


def test_a_broken_file_is_read_or_refused_in_lines_that_say_where(tmp_path: Path) -> None:
    """Each line is `file:line: ...` or `file: key: ...`, and printable; what is read becomes specs."""
    originals = [path.read_bytes() for path in sorted((REPO / "search_spaces").glob("*.yaml"))]
    file = tmp_path / "space.yaml"
    located = re.compile(re.escape(str(file)) + r"(:\d+)?: (\S+: )?\S")
    read = 0
    for number in range(COUNT):
        file.write_bytes(_mutated(originals[number % len(originals)], random.Random(number)))
        try:
            space = load_space(file, checks=CHECKS)
            for stratum in strata_of(space):
                for cell in islice(combinations(space, stratum), 3):
                    assert resolve(space, FACTS, at_lower_ends(space, cell), seed=1).fingerprint
            read += 1
        except BadInput as error:
            for problem in error.problems:
                assert located.match(problem), (number, problem)
                assert problem.isprintable(), (number, problem)
                assert len(problem) < 1200, (number, problem)
        except Exception as error:
            raise AssertionError(f"mutation {number}: {file.read_text(errors='replace')}") from error
    assert COUNT / 10 < read < COUNT * 0.9
