"""optuna-dashboard over the studies in HARNESS_STORAGE, for the hosts in DASHBOARD_ALLOWED_HOSTS only."""

from __future__ import annotations

import os


def main() -> None:
    """Serve until ended."""
    from optuna.storages import RDBStorage

    from harness.dashboard import serve

    # Otherwise the first requests after a restart of the database fail on connections that are gone.
    storage = RDBStorage(os.environ["HARNESS_STORAGE"], engine_kwargs={"pool_pre_ping": True})
    host, port = os.environ["DASHBOARD_HOST"], int(os.environ["DASHBOARD_PORT"])
    serve(storage, host=host, port=port, allowed=os.environ["DASHBOARD_ALLOWED_HOSTS"].split(","))


if __name__ == "__main__":
    main()
