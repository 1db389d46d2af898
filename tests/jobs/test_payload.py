import base64
import random
import subprocess
import sys
import tracemalloc

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import DecryptionError, MalformedError, TooLargeError, WireError
from pylon.jobs.payload import (
    ENCRYPTED,
    MAX_DECOMPRESSED_BYTES,
    MAX_RATIO,
    ZSTD,
    Payload,
    decompress,
    load_json,
    open_payload,
    seal,
)

from . import examples as ex

MIB = 1024 * 1024


def pack(data: bytes, level: int = 3) -> bytes:
    return base64.b64encode(zstandard.ZstdCompressor(level=level).compress(data))


def peak_of(work) -> int:
    """The bytes that Python held at the most while it worked, whatever came of it."""
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def there_and_back(payload: Payload) -> tuple[Payload, tuple[tuple[str, ...], ...]]:
    content, tags = seal(ex.CUSTOMER_KEYS, ex.PROVIDER.public, payload)
    encoding = "zstd" if ZSTD in tags else None
    return open_payload(ex.PROVIDER_KEYS, ex.CUSTOMER.public, content, encoding), tags


@given(st.text(ex.unicode, max_size=4_000), st.lists(st.lists(st.text(ex.unicode, max_size=50), min_size=1)))
def test_what_is_sealed_opens_to_the_same(text, tags):
    payload = Payload(text, tuple(tuple(tag) for tag in tags))
    assert there_and_back(payload)[0] == payload


def test_short_payloads_are_not_compressed_and_long_ones_are():
    assert there_and_back(Payload("short"))[1] == (ENCRYPTED,)
    assert there_and_back(Payload("a longer text, with words. " * 40 + "".join(map(chr, range(33, 127)))))[1] == (
        ENCRYPTED,
        ZSTD,
    )


def test_a_text_that_shrinks_like_a_bomb_is_sent_as_it_is():
    payload = Payload("a" * 30_000)
    opened, tags = there_and_back(payload)
    assert opened == payload
    assert tags == (ENCRYPTED,)


def test_lone_surrogates_are_not_sealed():
    with pytest.raises(MalformedError):
        seal(ex.CUSTOMER_KEYS, ex.PROVIDER.public, Payload("a\ud800"))


def test_a_peer_that_is_no_key_cannot_be_read():
    with pytest.raises(DecryptionError):
        open_payload(ex.PROVIDER_KEYS, "ff" * 32, "A" * 200, None)


@pytest.mark.parametrize("zeros", [100_000, 10 * MIB, 1_000 * MIB])
def test_a_bomb_is_refused_and_costs_no_more_memory_than_the_limit(zeros):
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    block = bytes(MIB)
    packed = base64.b64encode(
        b"".join(compressor.compress(block[: min(MIB, zeros - at)]) for at in range(0, zeros, MIB))
        + compressor.flush()
    )
    peak = peak_of(lambda: decompress(packed))
    assert peak < 3 * MAX_DECOMPRESSED_BYTES, peak
    with pytest.raises(TooLargeError):
        decompress(packed)


def test_a_bomb_costs_the_whole_process_little():
    # tracemalloc does not see what zstd's own C code takes; the process's high-water mark does.
    script = """
import base64, resource, zstandard
from pylon.errors import TooLargeError
from pylon.jobs.payload import decompress
compressor = zstandard.ZstdCompressor(level=3, write_content_size=False).compressobj()
frame = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(2_000)) + compressor.flush()
packed = base64.b64encode(frame)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(20):
    try:
        decompress(packed)
    except TooLargeError:
        pass
    else:
        raise SystemExit("not refused")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # Kilobytes on Linux, bytes on macOS.
    grown = int(done.stdout) * (1 if sys.platform == "darwin" else 1_024)
    assert grown < 24 * MIB, grown


def test_the_limits_hold_to_the_byte():
    noise = random.Random(1).randbytes(4_000)
    for size in range(100_000, 900_000, 40_000):
        data = noise + bytes(size)
        packed = pack(data)
        ratio = len(data) / len(base64.b64decode(packed))
        if ratio > MAX_RATIO:
            with pytest.raises(TooLargeError):
                decompress(packed)
        else:
            assert decompress(packed) == data
    letters = base64.b64encode(random.Random(1).randbytes(MAX_DECOMPRESSED_BYTES))
    assert decompress(pack(letters[:MAX_DECOMPRESSED_BYTES])) == letters[:MAX_DECOMPRESSED_BYTES]
    with pytest.raises(TooLargeError):
        decompress(pack(letters[: MAX_DECOMPRESSED_BYTES + 1]))


@pytest.mark.parametrize("size", [0, 1_000, 20_000])
def test_a_frame_that_does_not_tell_its_size_is_read_all_the_same_and_bounded(size):
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    data = random.Random(size).randbytes(size)
    assert decompress(base64.b64encode(compressor.compress(data))) == data
    with pytest.raises(TooLargeError):
        decompress(base64.b64encode(compressor.compress(bytes(MAX_DECOMPRESSED_BYTES))))


def test_a_frame_that_tells_less_than_it_holds_is_no_payload():
    frame = bytearray(zstandard.ZstdCompressor().compress(random.Random(1).randbytes(200)))
    # RFC 8878, 3.1.1.1: with one segment of under 256 bytes the size is the byte behind magic number and descriptor.
    assert frame[5] == 200
    frame[5] = 100
    with pytest.raises(MalformedError):
        decompress(base64.b64encode(bytes(frame)))


def test_a_window_larger_than_any_payload_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=3)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = base64.b64encode(frame.compress(bytes(range(256)) * 40) + frame.flush())
    with pytest.raises(MalformedError):
        decompress(packed)


@pytest.mark.parametrize("packed", [b"", b"AAAA", b"!", "é".encode(), base64.b64encode(b"no zstd at all")])
def test_what_is_not_zstd_is_no_payload(packed):
    with pytest.raises(MalformedError):
        load_json(decompress(packed))


def test_a_frame_that_breaks_off_leaves_nothing_to_the_next():
    text = random.Random(1).randbytes(30_000)
    broken = base64.b64encode(zstandard.compress(text)[:-1_000])
    for _ in range(2):
        with pytest.raises(MalformedError):
            decompress(broken)
        assert decompress(pack(text)) == text


@pytest.mark.parametrize(
    "item", [b"[]", b"{}", b"0.1", b'["a"]', b'{"":1}', b'"ab"', b'{"a":[]}', b'"\\""', b'"\\\\"', b"\t"]
)
def test_structure_without_end_is_refused_before_it_becomes_objects(item):
    data = b'{"text":"","tags":[' + b",".join([item] * (MAX_DECOMPRESSED_BYTES // (len(item) + 1))) + b"]}"
    peak = peak_of(lambda: load_json(data))
    assert peak < MIB, peak


@pytest.mark.parametrize("data", [b'"' * 200_000, b'"' + b'\\"' * 200_000, b"\\" * 200_000, b'"' + b"\\\n" * 200_000])
def test_broken_strings_are_refused_in_one_pass(data):
    # In quadratic time this would not end within the suite's own time limit.
    with pytest.raises(WireError):
        load_json(data * 10)


def test_a_long_text_full_of_brackets_and_quotes_is_no_structure():
    payload = {"text": '[{"a": "\\\\"}, ' * 20_000, "tags": [["i", "", "text"]]}
    assert load_json(orjson.dumps(payload)) == payload
