"""The part of the REPL that runs inside the sandbox, beside the root model's code.

It uses the standard library only, of CPython 3.12 to 3.14. The process sandbox imports it; the wasm sandbox is given
its source. Nothing here is a security boundary: hostile code in the same interpreter may change all of it, and harms
only its own REPL by that.
"""
