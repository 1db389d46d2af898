"""The floor of an exchange: the work that one job cannot avoid, timed by calling the libraries underneath directly.

Per job: two signatures (request, result), four verifications (each event by the relay and by its reader), NIP-44
encryption and decryption of both events, and six websocket messages (request and result, each sent to the relay,
passed on, and acknowledged). For each new pair also one key agreement on either side: by `cryptography`, as is usual,
or, for a stricter floor, by Pylon's own faster code.
"""

import asyncio
import hmac
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle, islice

import coincurve
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from pylon.nostr.crypto.agreement import shared_x
from pylon.nostr.keys import SecretKey

ROUNDS = 300
MESSAGES = 1_200
OK_BYTES = 85


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one job: the plaintexts, and the websocket messages that carry them encrypted."""

    request_plain: int
    result_plain: int
    request_message: int
    result_message: int


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds of one core for each kind of work in a job; `agree_s` is for one side of a new pair."""

    sign_s: float
    verify_s: float
    agree_s: float
    own_agree_s: float
    seal_s: float
    websocket_s: float

    def of(self, jobs: int, agreements: int, *, own: bool = False) -> float:
        """Seconds of one core for so many jobs and key agreements; with `own` these are by Pylon's own code."""
        per_job = 2 * self.sign_s + 4 * self.verify_s + self.seal_s + self.websocket_s
        return jobs * per_job + agreements * (self.own_agree_s if own else self.agree_s)


async def measure(sizes: Sizes, seconds: Callable[[], float] = time.perf_counter) -> Floor:
    """Times each kind of work alone. `seconds` is the clock: wall time, or this process's processor time."""
    key = coincurve.PrivateKey()
    digest = os.urandom(32)
    signature = key.sign_schnorr(digest, os.urandom(32))
    public = key.public_key_xonly
    curve = ec.SECP256K1()
    mine, theirs = ec.generate_private_key(curve), ec.generate_private_key(curve).public_key()
    own, peer = SecretKey.generate(), SecretKey.generate().public
    request, result = os.urandom(sizes.request_plain), os.urandom(sizes.result_plain)
    return Floor(
        sign_s=_time(lambda: key.sign_schnorr(digest, digest), seconds),
        verify_s=_time(lambda: public.verify(signature, digest), seconds),
        agree_s=_time(lambda: mine.exchange(ec.ECDH(), theirs), seconds),
        own_agree_s=_time(lambda: shared_x(own, peer), seconds),
        seal_s=2 * _time(lambda: _seal(request), seconds) + 2 * _time(lambda: _seal(result), seconds),
        websocket_s=2 * await message(sizes.request_message, seconds)
        + 2 * await message(sizes.result_message, seconds)
        + 2 * await message(OK_BYTES, seconds),
    )


def _time(work: Callable[[], object], seconds: Callable[[], float]) -> float:
    started = seconds()
    for _ in range(ROUNDS):
        work()
    return (seconds() - started) / ROUNDS


def _seal(plain: bytes) -> bytes:
    # NIP-44's symmetric part: keys by HKDF, ChaCha20, HMAC. Opening costs the same.
    key = bytes(32)
    for _ in range(3):
        key = hmac.digest(key, plain[:32], "sha256")
    sealed = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(plain)
    return hmac.digest(key, sealed, "sha256")


async def message(size: int, seconds: Callable[[], float], connections: int = 1) -> float:
    """Seconds of one core to send and receive one message of `size` bytes: half of an echo, with many in flight.

    Messages go over the connections in turn.
    """
    text = "x" * size

    async def echo(socket: ServerConnection) -> None:
        async for received in socket:
            await socket.send(received)

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(echo, "127.0.0.1", 0, compression=None, max_size=None))
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        sockets = [
            await stack.enter_async_context(connect(url, compression=None, max_size=None)) for _ in range(connections)
        ]
        started = seconds()
        # Sending and reading at once: large messages would fill the buffers and block a sender that reads later.
        async with asyncio.TaskGroup() as group:
            group.create_task(_send(sockets, text))
            for socket in islice(cycle(sockets), MESSAGES):
                await socket.recv()
        elapsed = seconds() - started
    await asyncio.sleep(0)
    return elapsed / (2 * MESSAGES)


async def _send(sockets: list[ClientConnection], text: str) -> None:
    for socket in islice(cycle(sockets), MESSAGES):
        await socket.send(text)
