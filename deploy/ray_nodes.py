"""Print the nodes that the Ray cluster at RAY_ADDRESS knows, dead ones too, as JSON: [{name, id, alive, started}]."""

from __future__ import annotations

import json
import os

from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled

if __name__ == "__main__":
    nodes = GcsClient(address=os.environ["RAY_ADDRESS"]).get_all_node_info(timeout=5)
    # State 0 is ALIVE in Ray's protocol.
    found = [
        {"name": info.node_name, "id": key.hex(), "alive": info.state == 0, "started": info.start_time_ms / 1000}
        for key, info in nodes.items()
    ]
    print(json.dumps(found))
