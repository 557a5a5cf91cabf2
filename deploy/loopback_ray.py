"""`ray start` for several nodes on this machine that nothing outside it can reach.

Ray binds a node to the loopback interface only where the node's address is 127.0.0.1, and on Linux it replaces that
address by the machine's own, unless told that clusters are not wanted, as on other systems; then it refuses a second
node. So: not wanted in general, and wanted by `ray start`. Clients need RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 as well.
"""

from __future__ import annotations

import os

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

from ray._private import ray_constants, services
from ray.scripts import scripts

if __name__ == "__main__":
    services.get_node_ip_address = lambda address=None: "127.0.0.1"
    ray_constants.ENABLE_RAY_CLUSTER = True
    scripts.main()  # type: ignore[no-untyped-call]
