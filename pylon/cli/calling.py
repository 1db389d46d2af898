"""One question to the node of this home, for commands that print its answer."""

from typing import Any

from pylon.node.calls.control import result_of
from pylon.node.home import open_home
from pylon.node.session import open_node


async def call(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """What this method of the control socket answers, of the node that runs or of one made for this call.

    Raises `PylonError`.
    """
    home, config = open_home()
    async with open_node(home, config) as node:
        return await result_of(node, method, params)
