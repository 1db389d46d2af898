"""The Recursive Language Model: a root model that works on its prompt as a variable in a REPL (arXiv 2512.24601)."""
