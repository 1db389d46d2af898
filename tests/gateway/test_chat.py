import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.gateway.chat import read
from pylon.gateway.problems import Problem
from pylon.jobs.parameters import parse_parameters
from pylon.swarm.job import JobSpec
from pylon.swarm.runs.question_checks import fault_in, spec_of
from tests.gateway.fakes import CHAT

USER = {"role": "user", "content": "q"}


def job(**more):
    return read(orjson.dumps({**CHAT, **more})).job


def refused(**more):
    with pytest.raises(Problem) as caught:
        job(**more)
    assert caught.value.status == 400
    return caught.value


def test_a_question_is_a_prompt_and_a_system_message_stands_beside_it():
    assert job() == {"prompt": "q"}
    assert job(messages=[{"role": "system", "content": "s"}, USER]) == {"prompt": "q", "system": "s"}
    assert job(messages=[{"role": "developer", "content": "s"}, USER]) == {"prompt": "q", "system": "s"}


def test_a_chat_goes_as_messages():
    turns = [USER, {"role": "assistant", "content": "a"}, USER]
    assert job(messages=turns) == {"messages": turns}
    alone = [{"role": "system", "content": "s"}]
    assert job(messages=alone) == {"messages": alone}


def test_parts_of_text_are_one_text():
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert job(messages=[{"role": "user", "content": parts}]) == {"prompt": "one two"}


@pytest.mark.parametrize("name", ["any", "default", None])
def test_any_model_may_answer_for_an_alias(name):
    assert "model" not in job(model=name)


def test_parameters_are_carried():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    made = job(
        model="sha256:" + "ab" * 32, max_completion_tokens=5, temperature=0, top_p=0.5, top_k=3, seed=7, stop="x",
        frequency_penalty=1, response_format=form,
    )  # fmt: skip
    assert made == {
        "prompt": "q", "model": "sha256:" + "ab" * 32, "max_tokens": 5, "temperature": 0.0, "top_p": 0.5, "top_k": 3,
        "seed": 7, "stop": ["x"], "frequency_penalty": 1.0, "schema": schema,
    }  # fmt: skip
    assert job(max_tokens=9)["max_tokens"] == 9
    assert job(response_format={"type": "json_object"})["schema"] == {"type": "object"}
    assert job(pylon={"timeout_s": 3, "bid_msat": 10, "votes": 3}) == {
        "prompt": "q", "timeout": 3.0, "bid_msat": 10, "votes": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2), ("tools", [{}]), ("logprobs", True), ("top_logprobs", 3), ("logit_bias", {"1": 2}),
        ("presence_penalty", 0.5), ("tool_choice", "required"), ("functions", [{}]), ("store", True),
        ("modalities", ["audio"]), ("reasoning_effort", "low"), ("audio", {}), ("whatever", 1), ("n", True),
        ("messages", []), ("messages", "q"), ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": ["user"], "content": "x"}]), ("messages", [{"role": "user"}]), ("model", ""),
        ("model", 5), ("max_tokens", 0), ("max_tokens", 1.5), ("temperature", 3), ("temperature", True),
        ("top_p", -1), ("seed", -1), ("stop", 5), ("stop", [""]), ("stop", ["x"] * 17), ("stream", 1),
        ("stream_options", {"include_usage": True}), ("response_format", "json"), ("pylon", {"x": 1}),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": []}}), ("pylon", []),
        ("response_format", {"type": "grammar"}), ("pylon", {"votes": 100}),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_refused_by_its_name(name, value):
    param = refused(**{name: value}).param
    assert param is not None and param.startswith(name)


def test_what_says_nothing_is_taken():
    assert job(n=1, tools=[], logprobs=False, presence_penalty=0, user="me", metadata={"a": "b"}, seed=None) == {
        "prompt": "q"
    }


def test_a_message_of_a_tool_s_call_is_refused():
    called = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    assert refused(messages=[USER, called]).param == "messages[1]"
    assert refused(messages=[{"role": "user", "content": [{"type": "image_url"}]}]).param == "messages[0].content"


def test_two_limits_that_differ_are_refused():
    assert refused(max_tokens=1, max_completion_tokens=2).param == "max_tokens"
    assert job(max_tokens=2, max_completion_tokens=2)["max_tokens"] == 2


def test_a_schema_that_cannot_be_written_is_refused():
    form = b'"response_format": {"type": "json_schema", "json_schema": {"schema": '
    body = orjson.dumps(CHAT)[:-1] + b", " + form + b'{"a":' * 300 + b"{}" + b"}" * 300 + b"}}}"
    with pytest.raises(Problem) as caught:
        read(body)
    assert caught.value.param == "response_format.json_schema.schema"
    large = {"type": "json_schema", "json_schema": {"schema": {"a": "x" * 100_001}}}
    assert "100000" in str(refused(response_format=large))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b'"x"', b"null", b"\xff", b"{}", b"[" * 5_000])
def test_what_is_no_request_is_refused(body):
    with pytest.raises(Problem) as caught:
        read(body)
    assert caught.value.status == 400


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "model", "messages", "max_tokens", "temperature", "top_p", "seed", "stop", "response_format", "stream",
    "stream_options", "pylon", "n", "tools", "top_k", "frequency_penalty",
]  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), json, max_size=6), st.booleans())
def test_whatever_comes_is_a_job_that_can_be_asked_or_a_problem(said, whole):
    body = orjson.dumps({**(CHAT if whole else {}), **said})
    try:
        made = read(body).job
    except Problem as problem:
        assert problem.status == 400  # noqa: PT017 - or it is none
        return
    spec = spec_of(JobSpec(), made)
    assert not fault_in(spec)
    # As the provider will read them.
    assert parse_parameters(spec.parameters.to_tags()) == spec.parameters
