"""The main function of the guest in WebAssembly, and its connection to the host.

Calls of the host are coroutines there, which plain functions could not make. So messages are written to standard
output, which carries nothing else, and arrive as numbered files in a folder that only the host writes to. Waiting for
a message means looking for the next file, which any function can do.
"""

import asyncio
import codecs
import json
import time
from collections.abc import Sequence

from . import deep_json, deep_source, shallow
from .port import Message, to_bytes
from .session import Session, not_json, without_memory

_REPLIES = "/replies"
_CONTEXT = "/context"
# Bytes that are read at once. Larger pieces do not fit into freed memory, and get in the way of the growing text.
_PIECE_BYTES = 64 * 1024
# The pause between two looks for a file, each of which costs a third of a millisecond: a fiftieth of the time waited
# so far, between a shortest and a longest pause in seconds.
_SHORT_S, _SHARE, _LONG_S = 0.001, 0.02, 0.2
# Memory that is kept free of the code's values. A cell that has used up all other memory leaves too little even to
# receive the next, and an error there would end the interpreter.
_RESERVE_BYTES = 4 * 1024 * 1024


class FilePort:
    """The guest's port: sends over standard output, and receives files."""

    def __init__(self) -> None:
        import _eryx  # type: ignore[import-not-found]  # the runtime's own module, in the guest alone

        self._write = _eryx._eryx_report_output
        self._number = 0

    def send(self, message: Message) -> None:
        body = to_bytes(message)
        self._write(0, len(body).to_bytes(4, "big") + body)

    def receive(self) -> Message:
        """Waits for the next message."""
        self._number += 1
        path = f"{_REPLIES}/{self._number}"
        began = time.monotonic()
        while True:
            try:
                message: Message = json.loads(_read(path))
            except FileNotFoundError:
                waited = time.monotonic() - began
                time.sleep(min(max(_SHORT_S, _SHARE * waited), _LONG_S))
            else:
                return message

    def ask(self, requests: Sequence[Message]) -> list[Message]:
        for request in requests:
            self.send(request)
        arrived: dict[str, list[object]] = {request["id"]: [] for request in requests}
        open_ids = set(arrived)
        while open_ids:
            message = self.receive()
            # Replies to requests of a cell that was ended by an error may still arrive, and are dropped.
            if message.get("id") in arrived:
                arrived[message["id"]] += message["replies"]
                if message["last"]:
                    open_ids.discard(message["id"])
        return [{"replies": arrived[request["id"]]} for request in requests]


def _context(hello: Message) -> object:
    texts = [_text(f"{_CONTEXT}/{n}") for n in range(len(hello["files"]))]
    if hello["context"] == "files":
        return {name: text for (name, _), text in zip(hello["files"], texts, strict=True)}
    return json.loads(texts[0]) if hello["context"] == "json" else texts[0]


def _text(path: str) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = ""
    # Files cannot be mapped here, and memory never shrinks: reading all bytes before decoding them would take their
    # size for good. In pieces the text grows in place.
    with open(path, "rb") as file:  # noqa: PTH123
        while piece := file.read(_PIECE_BYTES):
            text += decoder.decode(piece)
    text += decoder.decode(b"", final=True)
    return text


def _read(path: str) -> bytes:
    # Without pathlib, which is not loaded yet and takes longer to load than all of this module's imports.
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def _reserve() -> bytes | None:
    """The reserve, None if there is no memory for it yet."""
    try:
        return bytes(_RESERVE_BYTES)
    except MemoryError:
        return None


def main() -> None:
    """Loads the context, then runs what the host asks for, without end."""
    # This function runs in the runtime's own event loop, which must not keep the code from running one.
    asyncio.events._set_running_loop(None)
    deep_json.guard()
    deep_source.guard()
    port = FilePort()
    hello = port.receive()
    try:
        context = _context(hello)
    except (ValueError, RecursionError) as error:
        port.send(not_json(hello["files"], error))
        return
    except (OSError, MemoryError) as error:
        port.send({"type": "unable", "text": f"The context is unreadable: {error!r}"[:2000], "hint": ""})
        return
    session = Session(port, context, threads=False, within=shallow.within)
    del context
    reserve = _reserve()
    port.send({"type": "ready"})
    while True:
        message = port.receive()
        match message["type"]:
            case "run":
                try:
                    outcome = session.run(message["code"], message["output_bytes"], message["calls"])
                except MemoryError:
                    reserve = None
                    outcome = without_memory()
                if outcome["error"] and outcome["error"]["kind"] == "memory":
                    # For the next cell, which may delete what fills the rest.
                    reserve = None
                elif reserve is None:
                    reserve = _reserve()
                port.send(outcome)
            case "value":
                port.send(session.value(message["name"]))
