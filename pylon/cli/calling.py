"""One call to the node of this home, for commands that print its result."""

from typing import Any

from pylon.node.calls.protocol import result_of
from pylon.node.home import open_home
from pylon.node.session import open_node


async def call(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result of a method of the control socket: of the running node, or of one that is made for this call.

    Raises `PylonError`.
    """
    home, config = open_home()
    async with open_node(home, config) as node:
        return await result_of(node, method, params)
