"""Text that every Python ships: docstrings, comments and code of its standard library. Offline and reproducible.

`pydoc_data.topics`, the language reference, is held out: verification reads it.
"""

from __future__ import annotations

import ast
import io
import random
import re
import sysconfig
import tokenize
from collections import Counter
from pathlib import Path

HELD_OUT = {"pydoc_data"}
USELESS = {"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "encodings", "__pycache__"}


def sources() -> list[Path]:
    """Every standard-library module in a fixed order, without what is held out."""
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(p for p in root.rglob("*.py") if not set(p.relative_to(root).parts) & (HELD_OUT | USELESS))


def _docstrings(tree: ast.Module) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return [doc for doc in docs if doc and len(doc) > 40]


def _comments(source: str) -> str:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = [re.sub(r"^#+ ?", "", token.string) for token in tokens if token.type == tokenize.COMMENT]
    return "\n".join(line for line in lines if len(line) > 20)


def documents() -> list[str]:
    """One document of docstrings, one of comments and one of plain code for each module, 200 characters or more."""
    found: list[str] = []
    for path in sources():
        try:
            source = path.read_text(encoding="utf-8")
            tree = ast.parse(source)
            parts = ["\n\n".join(_docstrings(tree)), _comments(source), source[:6000]]
        except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
            continue
        found += [part for part in parts if len(part) > 200]
    return found


def words(docs: list[str]) -> list[str]:
    """Words of three to nine small letters that occur five times or more, in a fixed order: what free keys are of."""
    found = Counter(word for doc in docs for word in re.findall(r"\b[a-z]{3,9}\b", doc))
    return sorted(word for word, times in found.items() if times >= 5)


class Filler:
    """Slices of ordinary text, at any length."""

    def __init__(self, docs: list[str]) -> None:
        self.docs = docs
        self.weights = [len(doc) for doc in docs]

    def slice(self, rng: random.Random, chars: int) -> str:
        """About `chars` characters of running text that starts and ends anywhere between two words."""
        out = ""
        while len(out) < chars:
            doc = rng.choices(self.docs, self.weights)[0]
            start = rng.randrange(max(1, len(doc) - 100))
            start = doc.find(" ", start) + 1
            out += doc[start : start + chars - len(out)] + "\n\n"
        cut = out[:chars]
        space = cut.rfind(" ")
        return cut[:space] if space > chars // 2 else cut
