"""Compiles a schema for the first time in a separate process: `python -I trial.py`, the schema on standard input.

llguidance cannot be interrupted, and a few lines of JSON can keep it busy for hours and use all memory. A process can
be ended: a schema that does not compile within the limits never reaches the process that serves others. The exit
status is 0 if the compiler came to an end, whatever its result.
"""

import resource
import subprocess
import sys

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

# Limits: processor seconds, and seconds in all, as the machine may be busy with other answers.
CPU_S, WALL_S = 2, 20
MEMORY_BYTES = 2**30
# Limits of a guide while its answer grows: work for each token, and states (1 to 2 kB each). Masks are computed
# between two steps of a batch that others share.
_STEP_FUEL, _STATES = 100_000, 50_000
# White space between tokens of JSON: enough to format it, too little to waste an answer on.
_BLANKS = r"[ \n]{0,20}"


def compiled(vocabulary: LLTokenizer, schema: str) -> LLMatcher:
    """Compiles a schema, which may take for ever (without the GIL). `LLMatcher.get_error` tells what is wrong.

    Raises ValueError if it is not JSON.
    """
    grammar = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": _BLANKS})
    limits = LLParserLimits(step_lexer_fuel=_STEP_FUEL, max_lexer_states=_STATES)
    return LLMatcher(vocabulary, grammar, log_level=0, limits=limits)


def ends(schema: str) -> bool:
    """Whether the compilation of a schema ends within the limits. Takes at most `WALL_S`."""
    try:
        # By path: without importing the package it starts in a tenth of a second.
        tried = subprocess.run(  # noqa: S603 - our own interpreter and file
            (sys.executable, "-I", __file__), input=schema.encode(), capture_output=True, timeout=WALL_S
        )
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0


def _main() -> None:
    # Set here and not by the parent, so that this ends even if the parent is killed.
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere it is refused or not kept to
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    schema = sys.stdin.buffer.read().decode()
    try:
        compiled(LLTokenizer("byte"), schema)
    except ValueError:
        return


if __name__ == "__main__":
    _main()
