"""A node that no relay carries says so, and says when one does."""

from contextlib import AsyncExitStack

from pylon.cli.start import relays_lines
from tests.node.programs import environment, run, serve, talking, tells


async def test_a_node_without_a_relay_says_what_to_do_and_when_one_opens(tmp_path, unused_tcp_port):
    url = f"ws://127.0.0.1:{unused_tcp_port}"
    env = environment(tmp_path / "home", url)
    await run("init", env=env)
    async with AsyncExitStack() as stack:
        node = await talking("start", env=env, stack=stack)
        said = await tells(node, "tells you when a relay connects")
        assert "no relay is connected" in said and f"tried {url}" in said and "`pylon relay`" in said
        assert "over ws" not in said
        await serve("relay", "--port", str(unused_tcp_port), env=env, stack=stack)
        assert f"{url} is connected" in await tells(node, "is connected")


def test_only_relays_that_are_open_are_served_over():
    said = relays_lines("serving m", ["ws://a"], ["ws://b"])
    assert said == "serving m\n  over ws://a\n  not connected yet: ws://b"
