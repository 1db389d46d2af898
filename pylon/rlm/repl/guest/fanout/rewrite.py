"""Rewrites a cell's syntax tree."""

import ast

from .runtime import Fan


def rewrite(tree: ast.Module, fan: Fan) -> ast.Module:
    return tree
