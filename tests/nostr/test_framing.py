"""However frames are cut, what is read here is what the library alone would have read."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side
from websockets.typing import BytesLike

from pylon.nostr.websocket.framing import _FRAMES_A_TURN, _READ_BYTES, Framing, text_frame

MOST = 70_000
DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class Transport:
    """What a connection needs of one; what was written stays in `written`, whether it was to be read in `calls`."""

    def __init__(self) -> None:
        self.written = b""
        self.calls: list[str] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Listening(Framing):
    """Notes what it was given, as the library would tell it."""

    def __init__(self, side: Side) -> None:
        super().__init__(Protocol(side, max_size=MOST), ping_interval=None)
        self.heard: list[tuple[Opcode, bytes, bool]] = []
        self.at_once = 0
        self._parts = False
        self._head = None
        self.wire = Transport()
        self.connection_made(self.wire)  # type: ignore[arg-type]

    def _came(self, data: BytesLike, is_text: bool) -> None:
        assert is_text
        self.at_once += 1
        self.heard.append((Opcode.TEXT, bytes(data), True))

    def _in_fragments(self) -> bool:
        return self._parts

    def process_event(self, event: object) -> None:
        assert isinstance(event, Frame)
        if event.opcode in DATA:
            self._parts = not event.fin
        self.heard.append((event.opcode, bytes(event.data), event.fin))


def read(side: Side, pieces: list[bytes]) -> Listening:
    async def listen() -> Listening:
        listening = Listening(side)
        for piece in pieces:
            listening.data_received(piece)
        # As many turns of the loop as that takes.
        while listening._holds_back:
            await asyncio.sleep(0)
        return listening

    return asyncio.run(listen())


def read_by_library(side: Side, data: bytes) -> tuple[list[tuple[Opcode, bytes, bool]], Protocol]:
    protocol = Protocol(side, max_size=MOST)
    protocol.receive_data(data)
    frames = [event for event in protocol.events_received() if isinstance(event, Frame)]
    return [(frame.opcode, bytes(frame.data), frame.fin) for frame in frames], protocol


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(ends)]


sizes = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 65_535, 65_536, MOST, MOST + 1]))
frames = st.builds(
    lambda opcode, size, fin: Frame(opcode, b"x" * (min(size, 125) if opcode not in DATA else size), fin),
    st.sampled_from([Opcode.TEXT] * 5 + [Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG, Opcode.CLOSE]),
    sizes,
    st.sampled_from([True, True, True, False]),
)


def serialized(frame: Frame, masked: bool) -> bytes:
    # Not `check`ed: a peer may send what it must not.
    frame.check = lambda: None  # type: ignore[method-assign]
    return frame.serialize(mask=masked)


small = st.lists(st.sampled_from([Frame(Opcode.TEXT, b"x"), Frame(Opcode.PING, b"")]), max_size=3 * _FRAMES_A_TURN)


@given(
    st.sampled_from(Side),
    st.lists(frames, max_size=8),
    small,
    st.integers(0, 8),
    st.lists(st.integers(0, 10**6), max_size=12),
)
def test_frames_cut_anywhere_are_read_as_the_library_reads_them(side, sent, many, at, places):
    sent[at:at] = many
    data = b"".join(serialized(frame, masked=side is Side.SERVER) for frame in sent)
    ours = read(side, cut(data, places))
    theirs, protocol = read_by_library(side, data)
    assert ours.heard == theirs
    assert ours.protocol.state is protocol.state
    assert ours.protocol.close_sent == protocol.close_sent


@given(st.sampled_from(Side), st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_garbage_is_read_as_the_library_reads_it(side, garbage, places):
    begin = serialized(Frame(Opcode.TEXT, b"hello"), masked=side is Side.SERVER)
    ours = read(side, cut(begin + garbage, places))
    assert ours.heard == read_by_library(side, begin + garbage)[0]


@pytest.mark.parametrize("side", Side)
def test_a_wrongly_masked_message_is_refused(side):
    ours = read(side, [text_frame(b"hello", masked=side is Side.CLIENT)])
    assert ours.heard == []
    assert ours.protocol.state is not OPEN


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("side", Side)
def test_our_text_frames_are_read_by_the_library_and_by_us(side, size):
    frame = text_frame(b"x" * size, masked=side is Side.SERVER)
    assert read_by_library(side, frame)[0] == [(Opcode.TEXT, b"x" * size, True)]
    ours = read(side, [frame, frame])
    assert ours.heard == [(Opcode.TEXT, b"x" * size, True)] * 2
    assert ours.at_once == 2


def test_a_message_that_is_too_long_is_refused_at_its_first_bytes():
    ours = read(Side.SERVER, [text_frame(b"x" * (MOST + 1), masked=True)[:20]])
    assert ours.protocol.close_sent is not None
    assert ours.protocol.close_sent.code == 1009


def test_a_peer_that_sends_byte_by_byte_is_read():
    frame = text_frame(b"x" * 1_000, masked=True)
    ours = read(Side.SERVER, [frame[n : n + 1] for n in range(len(frame))] * 2)
    assert [data for _, data, _ in ours.heard] == [b"x" * 1_000] * 2


def test_only_of_a_long_frame_a_read_takes_more_than_usual():
    ours = read(Side.SERVER, [b""])
    assert len(ours.get_buffer(-1)) == _READ_BYTES
    long = text_frame(b"x" * MOST, masked=True)
    ours.data_received(long[:1_000])
    # Behind it may come thousands of short ones.
    assert len(ours.get_buffer(-1)) == len(long) - 1_000
    ours.data_received(long[1_000:-1])
    assert len(ours.get_buffer(-1)) == _READ_BYTES
    ours.data_received(long[-1:])
    assert ours.at_once == 1
    assert len(ours.get_buffer(-1)) == _READ_BYTES


@pytest.mark.parametrize(
    "frame",
    [text_frame(b"", masked=True), Frame(Opcode.PING, b"").serialize(mask=True)],
    ids=["messages", "pings"],
)
async def test_one_turn_takes_a_bounded_number_of_frames_and_reads_nothing_before_all_are_through(frame):
    many = 3 * _FRAMES_A_TURN + 1
    ours = Listening(Side.SERVER)
    ours.data_received(frame * many + frame[:3])
    for turn in (1, 2, 3):
        assert len(ours.heard) == turn * _FRAMES_A_TURN
        assert ours.wire.calls == ["pause_reading"]
        await asyncio.sleep(0)
    assert len(ours.heard) == many
    assert ours.wire.calls == ["pause_reading", "resume_reading"]
    ours.data_received(frame[3:])
    assert len(ours.heard) == many + 1


async def test_what_is_held_back_for_another_reason_waits_for_that_too():
    ours = Listening(Side.SERVER)
    ours.data_received(text_frame(b"", masked=True) * (_FRAMES_A_TURN + 2))
    ours._hold_back("no room")
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(ours.heard) == _FRAMES_A_TURN
    ours._read_on("no room")
    assert ours.wire.calls == ["pause_reading"]
    await asyncio.sleep(0)
    assert len(ours.heard) == _FRAMES_A_TURN + 2
    assert ours.wire.calls == ["pause_reading", "resume_reading"]


async def test_however_often_there_was_no_room_for_a_moment_a_turn_takes_no_more():
    ours = Listening(Side.SERVER)
    ours.data_received(text_frame(b"", masked=True) * (5 * _FRAMES_A_TURN))
    for _ in range(3):
        ours._hold_back("no room")
        ours._read_on("no room")
    await asyncio.sleep(0)
    assert len(ours.heard) == 2 * _FRAMES_A_TURN


async def test_a_message_that_is_too_long_is_refused_in_a_later_turn_too_and_the_goodbye_is_read():
    ours = Listening(Side.SERVER)
    ours.data_received(
        text_frame(b"", masked=True) * (_FRAMES_A_TURN + 1) + text_frame(b"x" * (MOST + 1), masked=True)
    )
    await asyncio.sleep(0)
    assert len(ours.heard) == _FRAMES_A_TURN + 1
    assert ours.protocol.close_sent is not None
    assert ours.protocol.close_sent.code == 1009
    assert ours.wire.calls == ["pause_reading", "resume_reading"]


@pytest.mark.parametrize("end", ["eof_received", "connection_lost"])
async def test_what_waits_for_its_turn_when_the_connection_ends_is_read_before_the_end(end, caplog):
    ours = Listening(Side.SERVER)
    many = 5 * _FRAMES_A_TURN + 1
    ours.data_received(text_frame(b"", masked=True) * many)
    ours._hold_back("no room")
    if end == "eof_received":
        ours.eof_received()
    else:
        ours.connection_lost(ConnectionResetError())
    assert len(ours.heard) == many
    await asyncio.sleep(0)
    assert len(ours.heard) == many
    assert not caplog.records
