"""The skill says what is true, and its installer touches nothing that it did not write."""

import re
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from pylon.cli.program import app
from pylon.errors import UsageError
from pylon.rlm import skill

ROOT = Path(__file__).resolve().parents[2]


def test_it_goes_where_each_assistant_looks_and_twice_changes_nothing(tmp_path):
    for assistant, folder in (("claude", ".claude"), ("codex", ".agents")):
        done = skill.install(assistant, tmp_path)
        assert done == skill.Installed(tmp_path / folder / "skills" / "pylon-rlm" / "SKILL.md", changed=True)
        assert done.path.read_text() == skill.skill()
        assert not skill.install(assistant, tmp_path).changed
    assert len(list(tmp_path.rglob("*.md*"))) == 2


def test_an_older_one_of_ours_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(skill, "_TEXT", "an older page\n")
    path = skill.install("claude", tmp_path).path
    monkeypatch.undo()
    assert skill.is_ours(path.read_text()) and skill.install("claude", tmp_path).changed
    assert path.read_text() == skill.skill()


@pytest.mark.parametrize(
    "change", [lambda text: text + "mine\n", lambda text: "mine\n" + text, lambda _: "mine", str.upper]
)
def test_a_file_that_somebody_wrote_or_changed_is_left_alone(tmp_path, change):
    path = skill.install("claude", tmp_path).path
    path.write_text(change(path.read_text()))
    before = path.read_text()
    with pytest.raises(UsageError, match="not written by Pylon"):
        skill.install("claude", tmp_path)
    assert path.read_text() == before


def test_a_link_is_not_followed(tmp_path):
    path = skill.install("claude", tmp_path).path
    path.rename(tmp_path / "elsewhere.md")
    path.symlink_to(tmp_path / "elsewhere.md")
    with pytest.raises(UsageError):
        skill.install("claude", tmp_path)
    assert path.is_symlink()


def test_the_command_tells_where_and_refuses_with_a_typed_error(tmp_path):
    arguments = ["skill", "install", "--for", "codex", "--project", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, arguments)
    told = orjson.loads(done.stdout)
    assert (done.exit_code, told["changed"]) == (0, True)
    Path(told["path"]).write_text("mine")
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2 and orjson.loads(refused.stdout)["error"]["type"] == "UsageError"
    assert CliRunner().invoke(app, ["skill", "show"]).stdout == skill.skill()


def test_it_names_commands_and_options_that_exist():
    commands = (ROOT / "docs" / "commands.md").read_text()
    text = skill.skill()
    named = set(re.findall(r"`pylon ([a-z]+(?: show| install)?)", text))
    options = set(re.findall(r"--[a-z-]+", text.partition("## How")[2]))
    assert "rlm" in named and "--context" in options
    for command in named:
        assert re.search(rf"^## `pylon {command}(?: ask)?`$", commands, re.MULTILINE), command
    asked = commands.partition("## `pylon rlm ask`")[2].partition("\n## ")[0]
    for option in options:
        assert option in asked, option


def test_its_head_is_what_assistants_read():
    head = re.match(r"---\nname: ([a-z-]{1,64})\ndescription: (.{1,1024})\n---\n", skill.skill())
    assert head and head[1] == skill.NAME
