"""The memory of an idle node and of the processes beside it."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import psutil

from pylon.bench.local_swarm import local_swarm

# By then a node has loaded its model and only sends heartbeats.
SETTLE_S = 20.0
_MODEL_LIBRARIES = ("libmlx", "libllama")


async def idle_node() -> dict[str, Any]:
    """Resident sizes in MB of a node's process, of its engine with the packaged model, and of a relay.

    On Linux also the model libraries in the node's process, of which there should be none. Raises
    `UnreachableError` when one of the processes does not start.
    """
    async with local_swarm("pylon-idle-") as swarm:
        await swarm.open_relay()
        env = swarm.environment("node")
        await swarm.run("init", env=env)
        node = psutil.Process((await swarm.serve("start", env=env, log="node.log"))["pid"])
        await asyncio.sleep(SETTLE_S)
        return {
            "node_mb": _mb(node),
            "engine_idle_mb": sum(_mb(child) for child in node.children(recursive=True)),
            "relay_mb": _mb(psutil.Process(swarm.processes[0].pid)),
            "node_libraries": _model_libraries(node),
        }


def _mb(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 1e6, 1)


def _model_libraries(process: psutil.Process) -> list[str]:
    if sys.platform != "linux":
        return []
    names = {Path(area.path).name for area in process.memory_maps()}
    return sorted(name for name in names if name.startswith(_MODEL_LIBRARIES))
