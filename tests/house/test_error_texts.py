"""What errors say: a clause that can stand behind `pylon:` or within a sentence, so no capital and no full stop."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pylon

PACKAGE = Path(pylon.__file__).parent
# What is raised in the sandbox is read by the root model, as a message of its own and in whole sentences.
GUEST = PACKAGE / "rlm" / "repl" / "guest"
# A capital that only the first word of a sentence has, unlike that of a name.
_SENTENCE = re.compile(r"(A|All|An|Another|Each|Every|It|No|Some|The|There|They|This|What|You)\b")


def _said(call: ast.Call) -> Iterator[str]:
    """The first argument of an error, where it is written out; what is filled in is `…`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    text = call.args[0] if name.endswith("Error") and call.args else None
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        yield text.value
    elif isinstance(text, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in text.values)


def _misspelt(source: str) -> list[str]:
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [text for call in calls for text in _said(call) if _SENTENCE.match(text) or text.endswith(".")]


@pytest.mark.parametrize(
    "source", ['raise FileError("The file is gone")', 'FileError(f"{name} is gone.", hint="Go.")']
)
def test_a_sentence_is_found(source):
    assert _misspelt(source)


def test_errors_say_what_happened_in_a_clause():
    found = {path: _misspelt(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py") if GUEST not in path.parents}
    assert {path.name: texts for path, texts in found.items() if texts} == {}
