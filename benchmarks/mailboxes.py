"""How long one look at the mailboxes of many Slurm leases takes, on this file system. Starts no job.

python benchmarks/mailboxes.py [LEASES] [FOLDER]
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.execute.base import Job
from harness.execute.mailbox import Box, Mailbox, Pulse
from harness.files import write_text

PASSES = 20


def measured(leases: int, folder: Path) -> dict[str, float]:
    """Seconds: of a look without news, and with a word in every mailbox; of a word and of a beat written."""
    boxes = []
    for number in range(leases):
        mailbox = Mailbox(folder / f"lease-{number}")
        sender = Box(mailbox.said)
        sender.put({"event": "started"})
        write_text(mailbox.beat, "host 1 1\n")
        boxes.append((sender, Box(mailbox.said), Pulse(mailbox.beat)))

    def look() -> float:
        began = time.perf_counter()
        for _, reader, pulse in boxes:
            reader.take()
            pulse.look()
        return time.perf_counter() - began

    with_news = look()
    quiet = statistics.median(look() for _ in range(PASSES))
    began = time.perf_counter()
    for sender, _, _ in boxes:
        sender.put({"event": "epoch", "job": str(Job(folder))})
    word = (time.perf_counter() - began) / leases
    return {
        "leases": leases,
        "look_s": round(quiet, 4),
        "look_with_news_s": round(with_news, 4),
        "word_s": round(word, 5),
    }


if __name__ == "__main__":
    count = int(sys.argv[1]) if sys.argv[1:] else 1000
    with TemporaryDirectory(prefix="mailboxes ", dir=sys.argv[2] if sys.argv[2:] else None) as name:
        print(json.dumps(measured(count, Path(name))))
