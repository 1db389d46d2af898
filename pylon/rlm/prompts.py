"""The texts that a root model is sent: its instructions, and what it is shown after each turn. Pure.

There are two tiers: large root models are told everything that the REPL can do; small ones get one pattern and its
rules, because they misuse each further name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pylon.rlm.history import cut
from pylon.rlm.parsing import Final
from pylon.rlm.repl.protocol import CellOutcome, Variable

type Tier = Literal["large", "small"]

SMALL_BELOW_TOKENS = 32_000
# Prose has about four bytes for a token; three are safe. Other scripts have fewer characters for a token, but more
# bytes for each.
_BYTES_PER_TOKEN = 3
_MOST_VARIABLES = 24
# Less of the output of a block tells the root nothing.
_LEAST_SHOWN = 200
# The length of a piece of text in an example, and of the words around it in the prompt.
_SAMPLE_CHARS = 3_000
_AROUND_SAMPLE = 400
# Strangers name their models, and a root would take any text in a name as an instruction.
_MODEL_ID = re.compile(r"[A-Za-z0-9][\w.:/@+-]{0,79}", re.ASCII)
_MOST_MODELS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The figures of a run that its root is told.

    `sub_tokens` is the sub-models' window, 0 if unknown; `width` is how many sub-calls run at once; `deeper` tells
    whether `rlm_query` begins a child loop; `cell_s` is the time limit of a cell, in seconds; `temperature` is that
    of sub-calls; `prompt_bytes` is the longest prompt that is allowed, None if nothing bounds it.
    """

    sub_models: tuple[str, ...]
    sub_tokens: int
    answer_tokens: int
    width: int
    deeper: bool
    turns: int
    output_chars: int
    cell_s: float
    temperature: float
    prompt_bytes: int | None = None

    @property
    def piece_bytes(self) -> int:
        """The longest prompt, in bytes of UTF-8, that fits the sub-model's window and can be sent for certain."""
        window = self.sub_tokens or 4_096
        piece = max(500, (window - self.answer_tokens) * _BYTES_PER_TOKEN * 9 // 10)
        return piece if self.prompt_bytes is None else min(piece, self.prompt_bytes)

    @property
    def sample_chars(self) -> int:
        """The length of the pieces of text in the examples, which leaves room for the question around them."""
        return min(_SAMPLE_CHARS, max(self.piece_bytes - _AROUND_SAMPLE, self.piece_bytes // 2)) // 10 * 10


def tier_of(wish: Literal["auto", "large", "small"], context_tokens: int) -> Tier:
    """The tier for a root model: the one that is set, or by its window."""
    if wish != "auto":
        return wish
    return "small" if context_tokens < SMALL_BELOW_TOKENS else "large"


def system(facts: Facts, tier: Tier) -> str:
    """The system message."""
    return (_LARGE if tier == "large" else _SMALL).format(
        piece=f"{facts.piece_bytes:,}",
        window=f"{facts.sub_tokens:,} tokens" if facts.sub_tokens else "of unknown size",
        models=showable(facts.sub_models) or "whatever is there",
        width=facts.width,
        turns=facts.turns,
        shown=f"{facts.output_chars:,}",
        seconds=f"{facts.cell_s:g}",
        sample=facts.sample_chars,
        step=facts.sample_chars * 14 // 15,
        equal=_ASKED_ONCE if facts.temperature == 0 else _DRAWN,
        recursion=_RECURSION if facts.deeper else _NO_RECURSION,
    )


def showable(names: Sequence[str]) -> str:
    """A list of model names for a root: a few of those that are safe to show, and the number of the others; empty if
    none is."""
    said = [name for name in names if _MODEL_ID.fullmatch(name)][:_MOST_MODELS]
    others = len(names) - len(said)
    return ", ".join([*said, *([f"{others:,} more"] if others and said else [])])


_LARGE = """\
You answer a question about a text that is too long to read. The text is the variable `context` in a Python REPL; you
see only what your code prints. You write code that looks at the text, cuts it up and puts questions about the pieces
to other language models, and you put their answers together.

Write code in fences marked repl. It runs when your turn ends, and you are then shown what it printed, cut to {shown}
characters. Variables stay from turn to turn, also when a cell raises. A block may compute for {seconds} seconds, not
counting its calls; one that takes longer is ended, and all variables may be lost. You have {turns} turns.

In the REPL:
- `context`: what you work on. Look at its type, length and beginning first.
- `llm_query(prompt)`: one answer from a sub-model ({models}; window {window}); with `model="…"` from that
  one. A prompt may have up to {piece}
  bytes of UTF-8: as many characters of English, half of Cyrillic, a third of Chinese. A
  sub-model sees nothing but its prompt: put the question and the piece of text into it.
- `llm_query_batched(prompts)`: a list of answers in the prompts' order. Up to {width} run at once, so ask many small
  questions together rather than one after the other.
{recursion}
- A call that failed gives a `SubCallError`, which is a `str`: test with `isinstance(x, SubCallError)`. The other
  answers stand. An answer whose `finish` is `"length"` or `"size"` was cut off.
- `SHOW_VARS()` lists your variables. The standard library is there; files and the network are not.

What works well: print samples before you decide how to cut; use plain code (search, count, sort) wherever it can
decide; use sub-models where something has to be understood; keep answers in variables; check surprising ones by
asking again in other words. {equal}

When you know the answer, end with one of these, and not before you have seen what it rests on:
- in the REPL: `answer["content"] = ...; answer["ready"] = True`
- or outside of a fence, on a line of its own: FINAL(the answer) or FINAL_VAR(variable_name)
"""

_RECURSION = """\
- `rlm_query(prompt)` and `rlm_query_batched(prompts)`: like `llm_query`, but the prompt becomes the `context` of a
  loop like yours, with a REPL of its own. Dear and slow: for parts that need several steps themselves. An
  answer whose `finish` is `"partial"` is all that its loop came to before it had to end."""
_NO_RECURSION = "- `rlm_query(prompt)` is the same as `llm_query(prompt)` here."

_ASKED_ONCE = "Equal prompts are asked once."
_DRAWN = "Equal prompts are asked each time, and their answers may differ."

_SMALL = """\
A long text is in the Python variable `context`. You cannot see it. Write ONE code block each turn, like this:

```repl
print(type(context), len(context))
print(context[:500])
```

You will be shown what it prints. Then write the next block. You have {turns} turns. A block may compute for {seconds}
seconds; one that takes longer may lose all variables.

To ask a helper model about a piece of the text (at most {piece} characters a prompt; a third of that where the
text is not in Latin letters):

```repl
pieces = [context[i:i + {sample}] for i in range(0, len(context), {step})]
answers = llm_query_batched(["Question: ...?\\nAnswer from this text, or say none.\\n\\n" + p for p in pieces])
failed = [a for a in answers if isinstance(a, SubCallError)]
found = [a for a in answers if not isinstance(a, SubCallError) and "none" not in a.lower()]
print(len(found), found[:20], len(failed), failed[:1])
```

When you have seen the answer, write on a line of its own, outside of any block:
FINAL(the answer)

Rules: always write code until you know the answer. Put the real question into each prompt. Never guess.
"""


def task(question: str | None, context: str) -> str:
    """The first user message. `context` describes what the variable holds."""
    if question is None:
        return f"Your task stands in `context` itself, with what it needs. `context` is {context}. Look at it first."
    return f"Question: {question}\n\n`context` is {context}. Begin by looking at it."


NO_CODE = (
    "There was no code in your turn and no answer. Write a block that starts with ```repl and ends with ```, or, if"
    " you know the answer from what you were shown, a line FINAL(the answer)."
)
CUT_OFF = "Your code was cut off before its end and was not run. Write it again, shorter: one step a turn."
LAST_CUT_OFF = "Your last block was cut off before its end and was not run. Write it again: one step a turn."
ANSWER_CUT_OFF = (
    "Your answer was cut off before its end. Give it again, shorter; or put a long one together in a variable, in"
    " code, and name that: FINAL_VAR(variable_name)"
)
REPEATED = "This is the same code as before, and it was not run again. Take another way, or give your answer."
UNSEEN = (
    "You gave an answer in the same turn as code, before you had seen what the code printed. Look at its output"
    " above; then give FINAL(…) again, or go on."
)


def too_long(size: int, limit: int) -> str:
    """What the root is told of code over the limit."""
    return (
        f"Your code has {size:,} characters and was not run; {limit:,} is the most. The text is in `context` already."
    )


def too_many(blocks: int, limit: int) -> str:
    """What the root is told of a turn of more `blocks` than are run."""
    return (
        f"Your turn had {blocks:,} blocks, and {limit:,} are the most that are run: the rest was left out. Write one"
        " block that does it all, with a loop where there is much alike."
    )


def cut_short(tokens: int) -> str:
    """What the root is told of a turn that was cut off before it had code or an answer."""
    return (
        f"Your turn was cut off at its limit of tokens ({tokens:,} at most), before there was any code or answer."
        " Think less, and write one short block that starts with ```repl, or a line FINAL(the answer)."
    )


def unclear(final: Final, kind: str) -> str:
    """Asks the root whether it means a word or the variable, of type `kind`, with the same name."""
    name = final.variable
    return (
        f'Is your answer the word, or what the variable `{name}` ({kind}) holds? FINAL("{name}") gives the word,'
        f" FINAL_VAR({name}) the variable."
    )


def no_variable(final: Final, why: str) -> str:
    """What the root is told of a FINAL or FINAL_VAR that names no usable variable; `why` is a clause or sentences."""
    said = f"{'FINAL' if final.text else 'FINAL_VAR'}({final.variable}) was not understood"
    return f"{said}: {why.removesuffix('.')}. SHOW_VARS() lists the variables that there are."


MORE_TOKENS = "`rlm.root_max_tokens` gives a turn of the root model more tokens; thinking takes some of them too."
_LAST = "This was your last turn; no more code will be run."


def is_extraction(text: str) -> bool:
    """Whether a message asks for the last turn."""
    return text.startswith(_LAST)


def extraction(question: str | None) -> str:
    """Asks for the last turn, when turns or budget are used up."""
    asked = "" if question is None else f" The question was: {question}"
    return (
        f"{_LAST}{asked} Give the best answer that can be drawn from what"
        " you were shown, in plain words and without code. Say so if it is incomplete."
    )


def last_again() -> str:
    """Asks again after a last turn that was code."""
    return (
        f"{_LAST} That was code, and it was not run. Write the answer itself, in plain words: what you were shown is"
        " all that there is."
    )


def shown(outcomes: list[CellOutcome], output_chars: int, status: str) -> str:
    """What the root is shown of a turn: the output of its cells, their errors, the variables and the status line."""
    parts = []
    # The last ones, as the last of all may have failed.
    most = max(1, output_chars // _LEAST_SHOWN)
    left_out = outcomes[:-most]
    if left_out:
        blocks = "block 1" if len(left_out) == 1 else f"blocks 1 to {len(left_out)}"
        chars = sum(len(outcome.stdout) + len(outcome.stderr) for outcome in left_out)
        parts.append(f"[… the output of {blocks} is left out, {chars:,} characters …]")
    each = output_chars // min(most, len(outcomes))
    for number, outcome in enumerate(outcomes[-most:], len(left_out) + 1):
        head = f"Output of block {number}:" if len(outcomes) > 1 else "Output:"
        text = outcome.stdout if not outcome.stderr else f"{outcome.stdout}\n[stderr]\n{outcome.stderr}"
        parts.append(f"{head}\n{cut(text.strip(), each) or '(nothing was printed)'}")
        if outcome.error is not None:
            parts.append(f"Error ({outcome.error.kind}): {cut(outcome.error.text, 2_000)}")
    answer = outcomes[-1].answer
    if answer is not None and answer.partial:
        parts.append(f"`answer` is partial: {answer.partial}")
    parts.append(_variables(outcomes[-1].variables))
    parts.append(status)
    return "\n\n".join(part for part in parts if part)


def fault(text: str) -> str:
    """The last line of the error that a turn's cells ended with, from what the root was shown of that turn."""
    found = re.search(r"^Error \((\w+)\): (.*?)(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        return "it left none"
    line = found[2].strip().splitlines()[-1]
    return re.sub(r"\A\w+Error: ", "", line)


def _variables(variables: tuple[Variable, ...]) -> str:
    if not variables:
        return ""
    named = [
        f"{one.name}: {one.type}" + ("" if one.size is None else f"[{one.size}]")
        for one in variables[:_MOST_VARIABLES]
    ]
    more = f" and {len(variables) - _MOST_VARIABLES} more" if len(variables) > _MOST_VARIABLES else ""
    return f"Variables: {', '.join(named)}{more}"
