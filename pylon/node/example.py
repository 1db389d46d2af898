"""The config file of a new home: every setting, commented out, with its default and what it does.

It is generated from `pylon.sections`, so that it shows exactly the settings that exist.
"""

from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pylon.sections import Config

_HEAD = """\
# Pylon's settings. To change one, remove the `#` in front of it; commented-out settings have the value shown.
# Environment variables override this file: PYLON_INFERENCE__SLOTS sets `slots` in `[inference]`.
"""


def example_toml() -> str:
    """The text of `config/pylon.example.toml`."""
    lines = [_HEAD]
    sections: list[tuple[str, type[BaseModel]]] = []
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections.append((name, field.annotation))
        else:
            lines += _setting(name, field)
    for name, section in sections:
        doc = (section.__doc__ or "").partition(":")[2].strip()
        lines += [f"[{name}]", f"# {doc[:1].upper()}{doc[1:]}", ""]
        for setting, field in section.model_fields.items():
            lines += _setting(setting, field)
    return "\n".join(lines).rstrip() + "\n"


def _setting(name: str, field: FieldInfo) -> list[str]:
    return [f"# {field.description}", f"# {name} = {_toml(field.default)}", ""]


def _toml(value: Any) -> str:
    # JSON and TOML write booleans, numbers, strings and lists of strings in the same way.
    return orjson.dumps(value).decode()
