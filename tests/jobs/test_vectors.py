"""The published vectors hold for our code, and for nostr-sdk as a reader that shares nothing with it."""

import base64
import importlib.machinery
import importlib.util
import json
from pathlib import Path

import nostr_sdk as sdk
import orjson
import pytest
import zstandard

from pylon.jobs.announcement import parse_announcement
from pylon.jobs.cancel import parse_cancel
from pylon.jobs.codes import RequestError
from pylon.jobs.feedback import parse_feedback
from pylon.jobs.heartbeat import parse_heartbeat
from pylon.jobs.request import parse_request
from pylon.jobs.result import parse_result
from pylon.nostr.crypto import nip44
from pylon.nostr.event import parse_event, verify
from pylon.nostr.keys import SecretKey

ROOT = Path(__file__).parents[2]
FILE = json.loads((ROOT / "tests" / "vectors" / "pylon-1.json").read_text(encoding="utf-8"))
KEYS = {name: SecretKey(bytes.fromhex(pair["secret"])) for name, pair in FILE["keys"].items()}
CUSTOMER, PROVIDER = (nip44.ConversationKeys(KEYS[name]) for name in ("customer", "provider"))
READERS = {
    "request": lambda event: parse_request(event, PROVIDER).job,
    "result": lambda event: parse_result(event, CUSTOMER),
    "feedback": lambda event: parse_feedback(event, CUSTOMER),
    "announcement": parse_announcement,
    "heartbeat": parse_heartbeat,
    "cancellation": parse_cancel,
}


def each(section: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", FILE[section], ids=[vector["name"] for vector in FILE[section]])


def script():
    path = str(ROOT / "scripts" / "make-vectors")
    loader = importlib.machinery.SourceFileLoader("make_vectors", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("make_vectors", loader))
    loader.exec_module(module)
    return module


def test_the_script_writes_the_file_that_is_published():
    assert json.loads(orjson.dumps(script().vectors())) == FILE


def test_the_public_keys_are_those_of_the_secrets():
    for name, pair in FILE["keys"].items():
        assert KEYS[name].public == pair["public"] == sdk.Keys.parse(pair["secret"]).public_key().to_hex()


@each("events")
def test_each_event_verifies_and_reads_as_its_value(vector):
    event = parse_event(vector["event"])
    verify(event)
    assert sdk.Event.from_json(json.dumps(vector["event"])).verify()
    if vector["value"] is not None:
        value = READERS[vector["name"].split(",")[0]](event)
        assert script().plain(value) == vector["value"]


@each("private")
def test_each_private_payload_is_sealed_and_opened_as_it_says(vector):
    key = bytes.fromhex(vector["conversation_key"])
    plaintext = vector["plaintext"].encode()
    assert nip44.decrypt(key, vector["content"]) == plaintext
    assert nip44.encrypt(key, plaintext, nonce=bytes.fromhex(vector["nonce"])) == vector["content"]
    secret = sdk.SecretKey.parse(FILE["keys"]["provider"]["secret"])
    opened = sdk.nip44_decrypt(secret, sdk.PublicKey.parse(FILE["keys"]["customer"]["public"]), vector["content"])
    assert opened == vector["plaintext"]
    if vector["encoding"] == "zstd":
        opened = zstandard.ZstdDecompressor().decompress(base64.b64decode(opened)).decode()
    assert opened == vector["json"]
    assert set(json.loads(opened)) == {"text", "tags"}


def test_private_vectors_are_with_and_without_compression():
    assert {vector["encoding"] for vector in FILE["private"]} == {None, "zstd"}


@each("refused")
def test_each_broken_request_is_refused_with_its_code(vector):
    event = parse_event(vector["event"])
    verify(event)
    assert sdk.Event.from_json(json.dumps(vector["event"])).verify()
    with pytest.raises(RequestError) as caught:
        parse_request(event, PROVIDER)
    assert caught.value.code == vector["code"]
