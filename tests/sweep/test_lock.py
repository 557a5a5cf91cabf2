"""Who holds a sweep, and whether that process is still there."""

from __future__ import annotations

import os
from dataclasses import replace

import psutil

from harness.sweep.lock import Holder, boot_id


def test_a_holder_of_before_the_machine_was_started_again_is_gone() -> None:
    """The same pid and start, another start of the machine; a note without one is believed."""
    me = Holder(os.getpid(), psutil.Process().create_time(), "here", "now", boot_id())
    assert me.alive
    assert not replace(me, boot="another start").alive
    assert replace(me, boot=None).alive
    assert not replace(me, started=me.started - 100).alive
