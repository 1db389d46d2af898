"""A process that has a home and hangs: whoever asks hears which one it is and what ends it, and soon."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from pylon import config as settings
from pylon.cli import start as start_command
from pylon.cli import status as status_command
from pylon.cli import stop as stop_command
from pylon.errors import NodeSilentError
from pylon.node import identity
from pylon.node.calls import client
from pylon.node.doctor import serving
from pylon.node.doctor.reading import read_node
from pylon.node.doctor.serving import ServiceReading
from pylon.node.home import Home, HomeLock, private_folder
from pylon.node.session import open_node


@pytest.fixture
async def silent(tmp_path, monkeypatch) -> AsyncIterator[Home]:
    """The home of a fake node, of this very process, which takes calls and never answers."""
    home = Home(tmp_path)
    home.create()
    identity.create(home.identity_file)
    monkeypatch.setenv("PYLON_HOME", str(tmp_path))
    monkeypatch.setattr(client, "AT_ONCE_S", 0.2)
    lock, over = HomeLock(home), asyncio.Event()
    lock.acquire()
    private_folder(home.socket.parent)

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_unix_server(hang, home.socket)
    yield home
    over.set()
    server.close()
    await server.wait_closed()
    lock.release()


async def opened(home: Home) -> None:
    async with open_node(home, settings.parse({})):
        pass


@pytest.mark.parametrize(
    "asking",
    [
        opened,
        lambda _: stop_command._stop(now=True, timeout=60, as_json=True),
        lambda _: status_command._status(as_json=True),
        lambda home: start_command._take_over(home, settings.parse({}), ""),
    ],
    ids=["any other command", "stop", "status", "start"],
)
async def test_every_command_names_the_process_that_hangs_and_what_ends_it(silent, asking):
    async with asyncio.timeout(10):
        with pytest.raises(NodeSilentError, match=f"process {os.getpid()}") as caught:
            await asking(silent)
    assert f"kill -9 {os.getpid()}" in caught.value.hint


async def test_the_doctor_goes_on_beside_a_node_that_hangs(silent):
    status, fault = await read_node(silent)
    assert status is None
    found = serving.judge_node(status, ServiceReading(), fault=fault)
    assert (found.verdict.value, found.no_jobs) == ("wrong", True)
    assert "does not answer" in found.said and "kill -9" in found.todo
