"""Whether what a command prints is spelt as docs/json.md says."""

import re
from collections.abc import Iterator
from datetime import datetime

# Fields that may hold 64 hexadecimal digits, and what these are.
HEX = {
    "id": "a job, named by its request",
    "request_id": "an event",
    "result_id": "an event",
    "sha256": "a hash",
    "weights": "hashes of models",
    "payment": "a payment hash",
    "preimage": "of a payment",
    "reference": "what the books refer to: an event or a payment hash",
    "public_key": "this node's key, for what takes no npub",
    "text": "what a model answered",
    "prompt_sha256": "a hash",
    "answer_sha256": "a hash",
}
# What is a fraction and no duration, and what is money of another kind.
FRACTIONS = {"trust", "temperature", "kwh", "electricity", "worth"}
_HEX64 = re.compile(r"[0-9a-f]{64}")
# A moment that a test can meet, in seconds and in milliseconds.
_MOMENTS = ((1_500_000_000, 2_500_000_000), (1_500_000_000_000, 2_500_000_000_000))
_MONEY = re.compile(r"(^|_)m?sats?($|_)")
_MONEY_ENDS = ("_msat", "_msat_per_1k")
_SPAN = re.compile(r"(^|_)(seconds|secs|ms|millis|minutes)$")


def misspelt(value: object, name: str = "", path: str = "") -> Iterator[str]:
    """The fields that are spelt otherwise, each with why. `name` is the field that holds `value`."""
    if isinstance(value, dict):
        for key, each in value.items():
            where = f"{path}.{key}"
            if _HEX64.fullmatch(key.rpartition(":")[2]):
                yield f"{where}: a key in hex"
            yield from _misnamed(key, each, where)
            yield from misspelt(each, key, where)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from misspelt(each, name, f"{path}[{place}]")
    elif isinstance(value, str):
        if _HEX64.fullmatch(value.rpartition(":")[2]) and name not in HEX:
            yield f"{path}: 64 hex digits"
        if name.endswith("_local"):
            return
        if re.fullmatch(r"\d{4}-\d\d-\d\dT.*", value) and _is_moment(value):
            yield f"{path}: a moment that is no Unix time"
    elif isinstance(value, float) and not name.endswith(("_s", "_at")) and name not in FRACTIONS:
        yield f"{path}: neither seconds nor a moment"


def _misnamed(name: str, value: object, path: str) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if any(low < value < high for low, high in _MOMENTS) and not name.endswith(("_at", "_msat", "bytes")):
        yield f"{path}: a moment, which ends in _at"
    if _MONEY.search(name) and not (name.endswith(_MONEY_ENDS) and isinstance(value, int)):
        yield f"{path}: money, which is whole and ends in _msat"
    if _SPAN.search(name) and not name.endswith("_ms"):
        yield f"{path}: a duration, which ends in _s or _ms"


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
