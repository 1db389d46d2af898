"""A refusing server's words."""

import base64
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pylon.rlm.refusals import unwanted, words

KEY = "Zq7-long-and-secret-9kX"


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": "too long", "type": "invalid_request_error"}},
        {"error": "too long"},
        {"object": "error", "message": "too long"},
        {"detail": "too long"},
        {"detail": [{"msg": "too long", "loc": []}]},
        [{"error": {"message": "too long"}}],
        {"error": {"message": "too\n\x1b  long "}},
    ],
)
def test_the_words_are_found_wherever_servers_have_them(answer):
    assert words(json.dumps(answer).encode(), "") == "too long"


@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"[]", b"7", b"[" * 99_999, b'{"error": {"code": 5}}'])
def test_where_there_are_no_words_nothing_is_said(body):
    assert words(body, "") == "" and unwanted(body, ["a"]) == ""


def test_long_words_are_cut():
    assert words(json.dumps({"error": "x y" * 1_000_000}).encode(), "").endswith("…")
    assert len(words(json.dumps({"error": "x y" * 1_000_000}).encode(), "")) == 301


@pytest.mark.parametrize(
    "said",
    [
        f"bad header Authorization: Bearer {KEY}",
        f"{KEY} is no key",
        f"key {KEY[:8]}…{KEY[-7:]} is unknown",
        f"key {KEY[:12]} and {KEY[3:]}",
        KEY.replace("-", "-\x00"),
    ],
)
def test_a_key_that_the_server_quotes_is_not_shown(said):
    shown = words(json.dumps({"error": said}).encode(), f"Bearer {KEY}")
    assert "***" in shown
    assert not any(KEY[at : at + 6] in shown for at in range(len(KEY) - 5))


@pytest.mark.parametrize(
    "said", ["Incorrect API key: sk-proj-****wxyz.", "got 'Bearer abcdefgh'", "Basic dXNlcjpwYXNz"]
)
def test_keys_of_others_are_not_shown(said):
    shown = words(json.dumps({"error": said}).encode(), f"Bearer {KEY}")
    assert "***" in shown and not {"wxyz", "abcdefgh", "dXNlcjpwYXNz"} & set(shown.replace("'", " ").split())
    assert "wxyz" not in shown


def test_a_password_in_the_address_is_not_shown():
    quoted = base64.b64encode(b"me:opensesame").decode()
    shown = words(json.dumps({"error": f"{quoted} or opensesame"}).encode(), f"Basic {quoted}")
    assert shown == "*** or ***"


@pytest.mark.parametrize(
    "said",
    [
        "The model `unsloth/Qwen3-4B-Instruct-2507-GGUF` does not exist",
        "Invalid api-version or key-values",
        "This is basic authentication",
    ],
)
def test_what_is_no_key_is_shown(said):
    assert words(json.dumps({"error": {"message": said}}).encode(), f"Bearer {KEY}") == said


@given(
    st.text(max_size=60),
    st.text(st.characters(codec="ascii", exclude_categories=["Cc", "Zs"]), min_size=1),
    st.text(),
)
def test_no_part_of_a_key_is_shown_whatever_stands_around_it(before, key, after):
    assume("*" not in key)
    shown = words(json.dumps({"error": before + key + after}).encode(), f"Bearer {key}")
    size = min(6, len(key))
    assert not any(key[at : at + size] in shown for at in range(len(key) - size + 1))


@given(st.recursive(st.none() | st.text() | st.integers(), lambda one: st.lists(one) | st.dictionaries(
    st.sampled_from(["error", "message", "detail", "msg", "loc", "param"]), one)))  # fmt: skip
def test_an_answer_of_any_shape_is_read(answer):
    body = json.dumps(answer).encode()
    assert isinstance(words(body, ""), str) and isinstance(unwanted(body, ["max_tokens"]), str)


FIELDS = ["max_completion_tokens", "max_tokens"]


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        ({"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
          " 'max_completion_tokens' instead.", "param": "max_tokens"}}, "max_tokens"),
        ({"error": {"message": "Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead."}}, "max_tokens"),
        ({"error": {"message": "Unrecognized request argument supplied: max_completion_tokens"}}, FIELDS[0]),
        ({"error": {"message": "'max_tokens' and 'max_completion_tokens' at the same time are not supported."}},
         "max_tokens"),
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"],
          "msg": "Extra inputs are not permitted"}]}, FIELDS[0]),
        ({"error": {"message": "max_tokens is too large: 4096; 2048 is the most.", "param": "max_tokens"}}, ""),
        ({"error": {"message": "Unsupported parameter: 'temperature'", "param": "temperature"}}, ""),
    ],
)  # fmt: skip
def test_a_field_that_the_server_does_not_take_is_named_and_one_with_a_wrong_value_is_not(answer, field):
    assert unwanted(json.dumps(answer).encode(), FIELDS) == field
