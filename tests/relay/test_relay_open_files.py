"""A relay that runs out of open files says so once, and goes on."""

import asyncio
import socket
from contextlib import ExitStack

from pylon.clock import SystemClock
from pylon.relay.open_files import say_once
from pylon.relay.server import RelayServer
from tests.relay.relay_peer import note, peer


async def test_a_relay_without_files_left_says_so_once_and_takes_connections_again(monkeypatch, caplog):
    accept, short, refused = socket.socket.accept, True, asyncio.Event()

    def without(self):
        if short:
            refused.set()
            raise OSError(24, "Too many open files")
        return accept(self)

    async with RelayServer() as relay:
        monkeypatch.setattr(socket.socket, "accept", without)
        with ExitStack() as stack:
            host, _, port = relay.url.removeprefix("ws://").rpartition(":")
            for _ in range(3):
                stack.enter_context(socket.create_connection((host, int(port))))
            async with asyncio.timeout(10):
                await refused.wait()
            await asyncio.sleep(0.1)
            short = False
            async with peer(relay, open_timeout=20) as client:
                assert await client.publish(note()) == (True, "")
    said = [record for record in caplog.records if "ulimit" in record.getMessage() or record.name == "asyncio"]
    assert [record.levelname for record in said] == ["WARNING"]


async def test_what_else_goes_wrong_is_told_as_before_and_nothing_is_left_behind():
    loop, heard = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: heard.append(context["message"]))
    before = loop.get_exception_handler()
    end = say_once(loop, SystemClock())
    loop.call_exception_handler({"message": "something else"})
    end()
    assert heard == ["something else"] and loop.get_exception_handler() is before
    loop.set_exception_handler(None)
