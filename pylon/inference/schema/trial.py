"""A schema's first compilation, in a process of its own: `python -I trial.py`, the schema on standard input.

llguidance cannot be interrupted, and a few lines of JSON can keep it busy for hours and take all memory. A process
can be ended: what has not compiled within these limits never comes near the one that serves others. It exits with 0
when the compiler came to an end, whatever it said.
"""

import resource
import subprocess
import sys

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

# Of a processor; and in all, for a machine that is busy with answers of others.
CPU_S, WALL_S = 2, 20
MEMORY_BYTES = 2**30
# What a guide may take while its answer grows, for each token and in memory (1 to 2 kB a state): masks are computed
# between two steps of everybody's batch.
_STEP_FUEL, _STATES = 100_000, 50_000
# Between tokens of JSON: enough to lay it out, too few to spend an answer on.
_BLANKS = r"[ \n]{0,20}"


def compiled(vocabulary: LLTokenizer, schema: str) -> LLMatcher:
    """May take for ever, without the GIL; `LLMatcher.get_error` says what is wrong. Raises ValueError for no JSON."""
    grammar = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": _BLANKS})
    limits = LLParserLimits(step_lexer_fuel=_STEP_FUEL, max_lexer_states=_STATES)
    return LLMatcher(vocabulary, grammar, log_level=0, limits=limits)


def ends(schema: str) -> bool:
    """Whether the compiler comes to an end within the limits, which takes as long as they say at the most."""
    try:
        # By its path: it needs nothing of ours, and starts in a tenth of a second.
        tried = subprocess.run(  # noqa: S603 - our own interpreter and file
            (sys.executable, "-I", __file__), input=schema.encode(), capture_output=True, timeout=WALL_S
        )
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0


def _main() -> None:
    # Not by whoever waits: when that is killed this still ends.
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
