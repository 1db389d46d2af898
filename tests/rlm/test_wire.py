"""What a sandbox says to its host is bounded before anything is made of it."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MalformedError
from pylon.rlm.repl.answering import Answering
from pylon.rlm.repl.protocol import SubReply
from pylon.rlm.repl.wire import Asked, check_value_count, from_sandbox

CALLS = {"type": "calls", "id": "c1", "kind": "llm", "model": None}
DONE = {"type": "done", "stdout": "", "stderr": "", "truncated": False, "error": None, "answer": None}
VARIABLE = {"name": "x", "type": "str", "preview": "'y'", "size": 1}


def test_the_fullest_messages_that_a_guest_sends_are_taken():
    assert len(from_sandbox({**CALLS, "prompts": [""] * 20}, most_prompts=20).prompts) == 20
    variables = [VARIABLE] * 500
    answer, error = {"content": "x", "ready": True, "partial": ""}, {"kind": "time", "text": ""}
    whole = {**DONE, "answer": answer, "error": error, "variables": variables}
    assert len(from_sandbox(whole, most_prompts=0).variables) == 500


MANY = 10_000
HEAVY = {
    "prompts": {**CALLS, "prompts": [""] * MANY},
    "prompts that are none": {**CALLS, "prompts": [[]] * MANY},
    "variables": {**DONE, "variables": [{}] * MANY},
    "fields": {"type": "ready"} | {f"{n:x}": 1 for n in range(MANY)},
    "fields of an answer": {**DONE, "variables": [], "answer": {f"{n:x}": 1 for n in range(MANY)}},
    "fields of a variable": {**DONE, "variables": [{f"{n:x}": 1 for n in range(MANY)}]},
    "a field of its own": {"type": "ready", "more": [[]] * MANY},
}


@pytest.mark.parametrize("heavy", HEAVY.values(), ids=HEAVY)
def test_a_message_with_too_many_values_is_refused_without_a_look_at_each(heavy):
    with pytest.raises(MalformedError, match="more values than any may"):
        from_sandbox(heavy, most_prompts=2_000)


@pytest.mark.parametrize("heavy", [*HEAVY.values(), {"z": [{}] * MANY}, {"z": ["\\"] * 9 * MANY}])
def test_json_of_too_many_values_is_refused_before_it_is_read(heavy):
    # Cut off, it is no JSON: whoever read it first would say that.
    with pytest.raises(MalformedError, match="more values than any may"):
        check_value_count(bytearray(orjson.dumps(heavy)[:-1]), 100)


SIGNS = st.text(alphabet='[]{},:"\\\n', max_size=200)


@given(st.lists(SIGNS, max_size=100), st.sampled_from([1, 100]))
def test_no_text_is_taken_for_values_whatever_stands_in_it(texts, often):
    message = {**CALLS, "prompts": [text * often for text in texts]}
    check_value_count(bytearray(orjson.dumps(message)), len(texts))
    check_value_count(bytearray(orjson.dumps({**DONE, "stdout": "[,{" * 100_000, "variables": [VARIABLE] * 500})), 0)


def test_a_text_that_has_no_end_is_looked_at_once():
    # Were each quote the begin of another text, this would take hours.
    check_value_count(bytearray(b'["' + b'[\\"' * 3_000_000), 0)
    check_value_count(bytearray(b'["' + b'[\\"' * 3_000_000 + b"\\"), 0)


def test_a_message_has_its_own_fields_and_no_others():
    with pytest.raises(MalformedError, match="1 wrong field"):
        from_sandbox({"type": "ready", "more": "x" * 1_000_000}, most_prompts=0)


@pytest.mark.parametrize("name", ["c1/c2", "c1.0", "../c1", "c1\n", "c", "", "\x1b[2J"])
def test_a_request_is_named_as_the_guest_names_them(name):
    with pytest.raises(MalformedError, match="1 wrong field"):
        from_sandbox({**CALLS, "id": name, "prompts": []}, most_prompts=0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)
NAMES = st.sampled_from(["calls", "done", "value", "printed", "ready", "unable", "x"])


@given(st.dictionaries(st.sampled_from([*CALLS, *DONE, "prompts", "variables", "z"]), JSON), NAMES)
def test_whatever_comes_is_a_message_or_malformed(message, name):
    try:
        made = from_sandbox({**message, "type": name}, most_prompts=3)
    except MalformedError:
        return
    assert made.type == name


async def test_requests_and_prompts_over_a_cells_limit_are_answered_to_a_bound():
    sent = []

    async def echo(calls):
        return [SubReply(prompt) for prompt in calls.prompts]

    for prompts, most in (([], 1_010), (["x"], 1_010), (["x"] * 100, 10), (["x"] * 1_011, 0)):
        answering = Answering(echo, sent.append, lambda: None, lambda: None)
        answering.start_cell(10)
        taken = 0
        while taken <= 2_000 and await answering.take(Asked("calls", "c1", "llm", prompts, None)):
            taken += 1
        assert taken == most
        # What a thread of that cell sends later, while a variable is read, is bounded alike.
        answering.start_cell(0)
        assert answering.most_prompts == 1_010
        await answering.cancel()
