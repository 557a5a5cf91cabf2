"""What every worker imports, imported once in the process that workers are forked from: for its effect alone.

Nothing here may start a thread that stays, or ask for a CUDA device: neither survives a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import threading
from collections.abc import Iterator

LOOK_EVERY_S = 0.2


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What libraries print while they are imported is for a worker's log; a worker that lacks one imports it again."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def _only_while_wanted() -> Iterator[None]:
    """End this process when its parent does: it looks for that by itself only once all is imported, after 5 to 20 s."""
    parent, imported = os.getppid(), threading.Event()

    def watch() -> None:
        while not imported.wait(LOOK_EVERY_S):
            if os.getppid() != parent:
                os._exit(0)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        imported.set()
        watcher.join()


# Ctrl-C reaches the whole terminal group, and Slurm's warning every process of a job; what either means is for the
# controller or the lease to decide. Forks ignore them, too.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's starts its threads when it is imported
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # `torch.cuda.is_available` leaves the driver alone then
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it asks the network otherwise
with _silent(), _only_while_wanted(), contextlib.suppress(Exception):
    import albumentations  # noqa: F401
    import captum.attr  # noqa: F401

    import harness.trial.run  # noqa: F401
gc.collect()
gc.freeze()  # a collection would write into every object, and so copy pages that all workers share
# By Python's own way out, which forks do not take, a library complains on the terminal of what it finds frozen.
atexit.register(os._exit, 0)
