"""What runs inside the sandbox, beside code that is not trusted: the standard library only, CPython 3.12 to 3.14.

The process backend imports it; the wasm backend ships its files as text. Nothing here is a boundary: hostile code in
the same interpreter may change all of it, and then only harms its own REPL.
"""
