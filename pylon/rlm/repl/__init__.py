"""The sandboxed REPL that the root model's code runs in."""
