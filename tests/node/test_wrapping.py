"""Sentences in a terminal break between words; what is copied from it stays whole."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pylon.cli.output import _Terminal, table
from pylon.cli.program import _command, app
from pylon.cli.providers import _columns
from pylon.cli.wrapping import wrapped

WORDS = st.lists(st.text("ab-/:…", min_size=1, max_size=30), max_size=20)


@given(WORDS, st.integers(10, 40), st.integers(0, 4))
def test_no_word_is_lost_or_broken_and_no_line_of_several_is_too_long(
    words: list[str], width: int, indent: int
) -> None:
    lines = wrapped(" " * indent + " ".join(words), width).split("\n")
    assert " ".join(lines).split() == words
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines)
    assert all(line.startswith(" " * indent) for line in lines if line.strip())


def test_lines_that_fit_stay_as_they_are() -> None:
    text = "two  blanks\n\n  and an end \n"
    assert wrapped(text, 20) == text


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_terminal_has_lines_broken(terminal: bool) -> None:
    stream = io.StringIO()
    said = "a sentence that is longer than its line"
    _Terminal(file=stream, width=20, force_terminal=terminal).print(said)
    assert stream.getvalue().split("\n")[:-1] == (
        ["a sentence that is", "longer than its line"] if terminal else [said]
    )


def test_figures_are_not_broken_and_a_long_model_is_folded_and_not_cut() -> None:
    stream = io.StringIO()
    made = table("|provider", "model", ">price")
    made.add_row("npub1rmh2xcj27…", "mlx-community/Qwen3-4B-Instruct-2507-4bit", "0.5 play sat+")
    _Terminal(file=stream, width=50, force_terminal=True, color_system=None).print(made)
    lines = stream.getvalue().split("\n")
    assert "0.5 play sat+" in lines[1]
    assert "".join(line[17:35].strip() for line in lines[1:]) == "mlx-community/Qwen3-4B-Instruct-2507-4bit"


ROW = {
    "provider": "npub1rmh2xcj27dzq8xf3u287larxa7y62lwkyv6tqcg96e2fhf0k4xwqm00t0n", "name": "", "models": ["m"],
    "slots_free": 1, "slots": 2, "tokens_out_per_s": 3.0, "queue_s": 0.0, "price": {"base_msat": 500},
    "network": "play", "trust": 0.5, "state": "ready",
}  # fmt: skip


def test_a_column_of_providers_that_says_nothing_stays_out_and_one_unit_is_named_once() -> None:
    assert list(_columns([ROW])) == ["|provider", "model", ">slots free", ">tok/s", ">play sat", ">trust"]
    assert _columns([ROW])[">play sat"] == ["0.5+"]
    busy = _columns([ROW, {**ROW, "name": "Bob", "queue_s": 3.0, "state": "loading", "network": "mainnet"}])
    assert list(busy) == [
        "|provider", "name", "model", ">slots free", ">tok/s", ">queue", ">price", ">trust", "state",
    ]  # fmt: skip
    assert busy[">price"] == ["0.5 play sat+", "0.5 sat+"]
    free = _columns([{**ROW, "price": {"base_msat": 0}}, {**ROW, "price": None}])
    assert free[">price"] == ["free", "?"]


def test_paragraphs_of_help_are_broken_by_the_terminal_alone() -> None:
    def all_of(command: Any) -> Iterator[Any]:
        yield command
        for each in getattr(command, "commands", {}).values():
            yield from all_of(each)

    for name in ("map", "rlm"):
        for command in all_of(_command(name)):
            assert not any("\n" in paragraph for paragraph in (command.help or "").split("\n\n"))


def test_help_shows_no_value_where_a_switch_takes_none() -> None:
    for command in ([], ["map"], ["rlm", "show"]):
        told = CliRunner().invoke(app, [*command, "--help"]).output
        assert "--help" in told and "<bool>" not in told
    told = CliRunner().invoke(app, ["map", "--help"]).output
    assert "--resume" in told and "--output" in told and "<path>" in told
