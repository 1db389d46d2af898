import tomllib
from pathlib import Path

import pytest

from pylon.errors import SetupError
from pylon.node.example import example_toml
from pylon.node.settings_file import change


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(example_toml())
    return path


def test_only_the_line_of_the_setting_changes(path: Path) -> None:
    before = path.read_text().splitlines()
    change(path, "inference", {"model": "a/b-4bit"})
    after = path.read_text().splitlines()
    assert [(old, new) for old, new in zip(before, after, strict=True) if old != new] == [
        ('# model = "needle-1"', 'model = "a/b-4bit"')
    ]
    change(path, "inference", {"model": "needle-1"})
    assert path.read_text().count("\nmodel = ") == 1
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "[log]\nlevel = 'info'", "[inference]\nslots = 3"])
def test_a_file_without_the_line_or_the_section_gets_it(path: Path, text: str) -> None:
    path.write_text(text)
    change(path, "inference", {"model": 'odd "name"'})
    assert tomllib.loads(path.read_text())["inference"]["model"] == 'odd "name"'


def test_what_does_not_fit_changes_nothing(path: Path) -> None:
    before = path.read_text()
    with pytest.raises(SetupError):
        change(path, "inference", {"model": "a/b", "engine": "no such engine"})
    assert path.read_text() == before
