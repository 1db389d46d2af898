"""Settings: `config.toml` in PYLON_HOME, each overridable by an environment variable.

A setting `b` of the section `[a]` is `PYLON_A__B` in the environment, where a list is written as JSON. Unknown names
are an error: a misspelt setting that is silently ignored is a node that does something else than its owner believes.
`config/pylon.example.toml` shows every setting with its default.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pylon.errors import SetupError
from pylon.sections import Config

_PREFIX = "PYLON_"
_EVERY_SETTING = "The config.toml that `pylon init` writes into a new home shows every setting."


def home_directory() -> Path:
    """PYLON_HOME, or `~/.pylon`."""
    return Path(os.environ.get("PYLON_HOME") or Path.home() / ".pylon").expanduser().absolute()


def found_or_default(root: Path) -> Config:
    """A home's settings; those of the environment alone where there is no file yet. Raises `SetupError`."""
    file = root / "config.toml"
    return load(file) if file.exists() else parse({}, source="the environment")


def load(path: Path) -> Config:
    """The settings in a file and the environment. Raises `SetupError` that names the setting at fault."""
    text = ""
    try:
        # Editors of some systems begin a file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
        raw = tomllib.loads(text)
    except FileNotFoundError as error:
        raise SetupError(f"{path} does not exist", hint="Run `pylon init` first.") from error
    except OSError as error:
        raise SetupError(
            f"{path} cannot be read: {error.strerror}", hint="Check the file and its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise SetupError(f"{path} is not UTF-8 text", hint="Save it as UTF-8 and try again.") from error
    except tomllib.TOMLDecodeError as error:
        hint = _hint_at_section(text) or "Correct that line and try again."
        raise SetupError(f"{path} is not valid TOML: {error}", hint=hint) from error
    return parse(raw, source=str(path))


def _hint_at_section(text: str) -> str:
    """What to do if a line gives a value to the name of a section; empty if none does.

    TOML reports that mistake where the section begins, which may be far below.
    """
    for number, line in enumerate(text.splitlines(), 1):
        name, given, _ = line.partition("=")
        if name.lstrip().startswith("["):
            break
        if given and _settings_of(name.strip()):
            return f"Correct line {number}: `{name.strip()}` is a section; {_meant(name.strip())}"
    return ""


def _meant(section: str) -> str:
    """What may have been meant by a value for the name of a section."""
    plain = [name for name in Config.model_fields if not _settings_of(name)]
    like = get_close_matches(section, plain, n=1)
    return f"did you mean `{like[0]}`?" if like else f"its settings go below [{section}]"


def parse(raw: dict[str, Any], *, source: str = "the given values") -> Config:
    """The settings in decoded TOML and the environment. Raises `SetupError`."""
    settings = dict(raw)
    of_environment = from_environment(os.environ)
    for name, value in of_environment.items():
        of_file = settings.get(name)
        settings[name] = of_file | value if isinstance(of_file, dict) and isinstance(value, dict) else value
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise SetupError(_faults_by_source(error, source, of_environment), hint=_EVERY_SETTING) from error


def faults(error: ValidationError) -> str:
    """What is wrong with settings, each by its name."""
    return "; ".join(f"{_name(one)}: {_fault_in_words(one)}" for one in error.errors())


def _faults_by_source(error: ValidationError, source: str, of_environment: Mapping[str, Any]) -> str:
    of_file, of_variables = [], []
    for one in error.errors():
        variable = _variable(one["loc"], of_environment)
        if variable:
            of_variables.append(f"{variable} ({_name(one)}): {_fault_in_words(one)}")
        else:
            of_file.append(f"{_name(one)}: {_fault_in_words(one)}")
    told = [(source, of_file), ("the environment", of_variables)]
    return "; ".join(f"invalid settings in {where}: {'; '.join(what)}" for where, what in told if what)


def _variable(place: tuple[int | str, ...], of_environment: Mapping[str, Any]) -> str:
    """The variable that a setting came from, or empty when the file holds it."""
    section, *rest = map(str, place)
    value = of_environment.get(section)
    if isinstance(value, dict):
        # There is no such section: all of it came from variables.
        names = rest[:1] if rest else list(value)
        return " and ".join(f"{_PREFIX}{section}__{name}".upper() for name in names if name in value)
    return f"{_PREFIX}{section}".upper() if section in of_environment else ""


def _name(fault: ErrorDetails) -> str:
    return ".".join(map(str, fault["loc"]))


# By pydantic's types of errors, whose own messages speak of inputs and constraints.
_WORDS = {
    "greater_than": "{given} is too small: it must be more than {gt}",
    "greater_than_equal": "{given} is too small: the minimum is {ge}",
    "less_than": "{given} is too large: it must be less than {lt}",
    "less_than_equal": "{given} is too large: the maximum is {le}",
    "finite_number": "{given} is not a finite number",
    "int_parsing": "{given} is not a whole number",
    "int_parsing_size": "{given} has too many digits",
    "int_type": "{given} is not a whole number",
    "int_from_float": "{given} is not a whole number",
    "float_parsing": "{given} is not a number",
    "float_type": "{given} is not a number",
    "bool_parsing": "{given} is neither true nor false",
    "bool_type": "{given} is neither true nor false",
    "string_type": "{given} is not text: put it in quotes",
    "string_too_long": "it is longer than {max_length} characters",
    "list_type": "{given} is not a list",
    "too_short": "it has {actual_length} entries: the minimum is {min_length}",
    "too_long": "it has {actual_length} entries: the maximum is {max_length}",
    "literal_error": "{given} is not one of the choices: {expected}",
    "model_type": "{given} is not a section; {meant}",
}
_GIVEN_CHARS = 60


def _filled(words: str, fault: ErrorDetails) -> str:
    given = json.dumps(fault["input"], ensure_ascii=False, default=str)
    shown = given if len(given) <= _GIVEN_CHARS else f"{given[:_GIVEN_CHARS]}…"
    named = {name: _with_separators(value) for name, value in fault.get("ctx", {}).items()}
    return words.format(given=shown, **{"meant": _meant(str(fault["loc"][0]))} | named)


def _with_separators(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else value


def _fault_in_words(fault: ErrorDetails) -> str:
    if fault["type"] != "extra_forbidden":
        words = _WORDS.get(fault["type"])
        # The messages of our own validators are for people already.
        return _filled(words, fault) if words else fault["msg"].removeprefix("Value error, ")
    *section, name = map(str, fault["loc"])
    known = _settings_of(section[0]) if section else Config.model_fields
    like = get_close_matches(name, known, n=1)
    if not like and (homes := [f"[{each}]" for each in Config.model_fields if name in _settings_of(each)]):
        return f"there is no such setting in this section; it belongs in {' or '.join(homes)}"
    return f"there is no such setting{f'; did you mean `{like[0]}`?' if like else ''}"


def _settings_of(section: str) -> Mapping[str, FieldInfo]:
    """The fields of a section by name; empty if there is no such section."""
    field = Config.model_fields.get(section)
    kind = field.annotation if field is not None else None
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What `PYLON_…` variables say, nested as the file is. Raises `SetupError` for a list that is not JSON."""
    found: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX):
            continue
        section, _, name = variable.removeprefix(_PREFIX).lower().partition("__")
        field = Config.model_fields.get(section)
        if name:
            found.setdefault(section, {})[name] = _decoded(variable, text, _settings_of(section).get(name))
        elif field is not None:  # PYLON_HOME and the like are not settings
            found[section] = _decoded(variable, text, field)
    return found


def _decoded(variable: str, text: str, field: FieldInfo | None) -> object:
    """The value of a variable: its text, which pydantic converts, or the JSON of a list."""
    if field is None or get_origin(field.annotation) is not list:
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        shown = json.dumps(next(iter(field.examples or ()), []), ensure_ascii=False)
        raise SetupError(f"{variable} is not a JSON list", hint=f"Write it as {variable}='{shown}'.") from None
