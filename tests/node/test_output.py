"""What people read: keys that they can type again, and numbers of things."""

import io
import os
from pathlib import Path

import orjson
import pytest
import typer
from rich.console import Console
from rich.table import Table

from pylon.cli.output import brief, out, short, speed, table
from pylon.cli.running import fail, print_json, print_text, run
from pylon.errors import SetupError, UnreachableError
from pylon.nostr.bech32 import nip19
from pylon.nostr.keys import SecretKey
from pylon.store.database import Database, Schema
from pylon.text import counted


def test_a_key_in_a_table_is_the_beginning_of_its_npub_and_names_it_again() -> None:
    key = SecretKey.generate().public
    assert short(key) == short(nip19.npub(key))
    assert nip19.public_key_among(short(key), [key, SecretKey.generate().public]) == key


def test_a_key_of_another_kind_shows_both_its_ends() -> None:
    payee = "02" + "ab" * 30 + "cdef12"
    assert short(payee) == "02abababab…cdef12"


def test_one_thing_is_not_many() -> None:
    assert [counted(number, "provider") for number in (0, 1, 2_000)] == [
        "0 providers",
        "1 provider",
        "2,000 providers",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "[/x]",
        "[bold",
        "[red]Bob[/red]",
        "\x1b]0;owned\x07Bob",
        "Bob\x9b2J",
        "Good\nnpub1other  Good\u202e",
        "fd00:a:b",
        ":skull:",
    ],
)
def test_what_strangers_call_themselves_is_shown_as_it_stands_and_gives_no_orders(name: str) -> None:
    made = table("name", "state")
    made.add_row(name, "ready")
    clean = name.replace("\n", " ").translate({ord(sign): None for sign in "\x1b\x07\x9b\u202e"})
    with out.capture() as shown:
        out.print(made)
        out.print(f"{clean} joined")
    assert clean in shown.get() and f"{clean} joined" in shown.get()
    assert not any(sign in shown.get() for sign in "\x1b\x07\x9b\u202e")


def test_an_error_in_which_a_relay_had_a_say_gives_no_orders(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        fail(UnreachableError("it closed: \x1b[2Jgone", hint="look \x9bhere"))
    assert "\x1b[2J" not in (told := capsys.readouterr().err) and "\x9b" not in told and "[2Jgone" in told


def test_an_answer_gives_no_orders_to_a_terminal_and_reaches_a_file_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, seen in ((Terminal(), "a[31mb\n"), (io.StringIO(), "a\x1b[31mb\n")):
        monkeypatch.setattr("sys.stdout", stream)
        print_text("a\x1b[31mb")
        assert stream.getvalue() == seen


def test_json_gives_no_orders_to_a_terminal_either(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    said = {"name": "a\x1b\x7f\x9b\u202eö\U0001f600\U000e0001"}
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stdout", stream)
        print_json(said)
        assert orjson.loads(stream.getvalue()) == said
        orders = [sign for sign in "\x1b\x7f\x9b\u202e" if sign in stream.getvalue()]
        assert orders == ([] if stream.isatty() else ["\x7f", "\x9b", "\u202e"])


def test_json_of_a_file_whose_name_is_no_text_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode("/tmp/ö\xff".encode("latin-1"))
    print_json({"folder": name, "made": [Path(name), True, None, 1.5]})
    with pytest.raises(typer.Exit):
        fail(SetupError(f"{name} already exists"), as_json=True)
    made, failed = capsys.readouterr().out.splitlines()
    shown = "/tmp/\ufffd\ufffd"
    assert orjson.loads(made) == {"folder": shown, "made": [shown, True, None, 1.5]}
    assert orjson.loads(failed)["error"]["message"] == f"{shown} already exists"


def test_a_command_that_meets_damage_in_its_database_ends_as_one_that_cannot_open_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.db"
    notes = Schema("notes", ("CREATE TABLE note (text TEXT) STRICT;",))

    async def damage() -> None:
        database = await Database.open(path, [notes])
        async with database.transaction() as tx:
            await tx.execute_many("INSERT INTO note VALUES (?)", [("x" * 3_000,) for _ in range(60)])
        await database.close()
        with path.open("r+b") as file:
            file.seek(40 * 4_096)
            file.write(b"\xa5" * 300)

    async def read() -> None:
        database = await Database.open(path, [notes])
        try:
            await database.fetch_all("SELECT * FROM note")
        finally:
            await database.close()

    run(damage())
    with pytest.raises(typer.Exit) as caught:
        run(read())
    assert caught.value.exit_code == 3
    said = capsys.readouterr().err
    assert f"{path} cannot be opened as a database" in said and "restore it from a backup" in said


def test_what_is_to_be_copied_is_one_line_however_narrow_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"pylon join {'c0de' * 60}"
    monkeypatch.setattr(out, "width", 40)
    monkeypatch.setattr(out, "_force_terminal", True)
    with out.capture() as shown:
        out.whole(line)
    assert shown.get() == f"{line}\n"
    with out.capture() as shown:
        out.print(f"or: {line}")
    assert shown.get().splitlines()[0] == "or: pylon join"


def test_a_speed_that_nobody_measured_is_no_figure() -> None:
    assert (speed(0.0), speed(61.7)) == ("?", "62")


def test_what_is_small_keeps_two_digits_and_is_never_shown_as_nothing() -> None:
    assert [speed(one) for one in (0.0004, 0.0234, 3.456, 9.96, 12.4)] == ["under 0.01", "0.023", "3.5", "10", "12"]
    assert [brief(one) for one in (0.0, 0.0001, 0.04, 3.14, 140.4)] == [
        "under 1 ms",
        "under 1 ms",
        "0.04 s",
        "3.1 s",
        "140 s",
    ]


@pytest.mark.parametrize("setting", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_an_error_has_no_colour_where_none_is_wanted(setting, monkeypatch: pytest.MonkeyPatch) -> None:
    styles: list[dict] = []
    monkeypatch.setattr(typer, "secho", lambda _text, *, nl, err, **style: styles.append(style))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for wished in ({}, setting):
        for name, value in wished.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(typer.Exit):
            fail(SetupError("no home"))
    assert styles == [{"fg": "red", "bold": True}, {}]


def rendered(made: Table, width: int, *, terminal: bool = True) -> str:
    console = Console(
        file=io.StringIO(), width=width, soft_wrap=True, force_terminal=terminal, color_system=None, no_color=True
    )
    with console.capture() as shown:
        console.print(made)
    return shown.get()


def test_no_figure_or_key_is_cut_off_by_a_narrow_terminal() -> None:
    made = table("|provider", "model", ">slots free", ">tok/s", ">price")
    made.add_row("npub1aaaaaaaaa…", "a-model-with-a-long-name", "1,000/1,000", "1,234", "free")
    made.add_row("npub1bbbbbbbbb…", "", "2/2", "5", "0.5+")
    assert rendered(made, 80).splitlines()[0].split() == ["provider", "model", "slots", "free", "tok/s", "price"]
    assert rendered(made, 40).splitlines() == [
        "npub1aaaaaaaaa…",
        "  model a-model-with-a-long-name, slots ",
        "  free 1,000/1,000, tok/s 1,234, price  ",
        "  free                                  ",
        "npub1bbbbbbbbb…",
        "  slots free 2/2, tok/s 5, price 0.5+   ",
    ]


def test_a_row_is_one_line_for_a_program_that_reads_lines() -> None:
    made = table("|provider", "model", ">price")
    made.add_row("npub1aaaaaaaaa…", "a model with a name of several words", "free")
    lines = rendered(made, 20, terminal=False).splitlines()
    assert lines == [
        "provider         model                                 price",
        "npub1aaaaaaaaa…  a model with a name of several words   free",
    ]
