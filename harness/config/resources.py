"""What one slot asks of a cluster: `resources:` in the YAML. Where trials run is no part of what they compute."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from harness.config.base import Frozen
from harness.config.durations import Duration

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([MGT])(?:i?B)?$")
_BYTES = {"M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(value: object) -> int:
    """Bytes from `800M`, `32G` or `1T` (powers of 1024, as Slurm counts), or a plain number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.match(str(value).strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{value!r} is not a size; write 800M, 32G or 1T")
    return int(float(match[1]) * _BYTES[match[2]])


Size = Annotated[int, BeforeValidator(parse_size)]
# What reaches a scheduler's command line: no blanks, quotes or line ends.
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,:&|@=+-]{0,127}$")]


class Resources(Frozen):
    """Per slot, that is per trial that runs. `local` and `inline` take the machine as it is and read nothing of it.

    `gpus` may be a fraction for Ray (.5: two slots share one); null: one where the devices are GPUs, else none. `time`
    and what follows are Slurm's: a lease that ends there continues in the next one.
    """

    gpus: Annotated[float, Field(ge=0, le=64, allow_inf_nan=False)] | None = None
    cpus: Annotated[int, Field(ge=1, le=1024)] = 1
    memory: Size | None = None
    time: Duration | None = None
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    setup: tuple[str, ...] = ()  # shell lines before Python starts, such as `module load cuda`
