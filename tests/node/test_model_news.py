"""What `pylon start` says of its model until that is ready."""

from contextlib import AsyncExitStack

import pytest

from pylon.cli import model_news as news
from pylon.cli.model_news import model_news, tell_of_model
from pylon.inference.service import EngineStatus
from tests.node.programs import environment, run, talking, tells


def status(state, **known):
    return EngineStatus(state, None, 0, 1, 0, 0.0, 0.0, **known)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (status("loading"), "the model is loading: no job begins before it is ready"),
        (
            status("loading", reason="no answer", hint="Start it."),
            "loading it is tried again: no answer\n  Start it.",
        ),
        (status("failed", failure="no room", hint="Close some."), "every job is refused: no room\n  Close some."),
        (status("ready", reason="crashed"), "the model is ready after 3 s"),
    ],
)
def test_each_state_has_its_words(now, said):
    assert model_news(now, 3.2).endswith(said)


def test_a_model_that_was_there_at_once_is_ready_and_no_time_is_told():
    assert model_news(status("ready"), 0.2) == "the model is ready"


async def test_each_news_is_told_once_and_nothing_after_the_model_is_ready(monkeypatch):
    monkeypatch.setattr(news, "_LOOK_S", 0.0)
    states = iter(["loading", "loading", "failed", "failed", "loading", "ready"])
    told = []
    await tell_of_model(lambda: status(next(states)), told.append)
    assert [" ".join(each.split()[:4]) for each in told] == [
        "the model is loading:",
        "the model failed, so",
        "the model is loading:",
        "the model is ready",
    ]
    assert not list(states)


async def test_an_engine_that_has_ended_is_not_followed():
    told = []
    await tell_of_model(lambda: status("stopped"), told.append)
    assert told == []


async def test_a_node_says_when_its_model_is_ready(tmp_path, unused_tcp_port):
    env = environment(tmp_path / "home", f"ws://127.0.0.1:{unused_tcp_port}")
    await run("init", env=env)
    async with AsyncExitStack() as stack:
        await tells(await talking("start", env=env, stack=stack), "the model is ready")
