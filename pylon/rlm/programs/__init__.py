"""Programs for the REPL that need no root model. They run there as text; `strategies.py` puts them together.

Each file is a part of a cell: first `common`, then one that chooses pieces, then one that asks about them. Names in
capitals, and those of the REPL (`context`, `llm_query_batched`, `answer`), come from outside.
"""
