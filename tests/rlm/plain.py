"""The REPL's code in this very process, with and without fan-out: for comparing the two, not a sandbox."""

import ast
import io
import json
import re
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout

from pylon.rlm.repl.guest.calls import Calls, Query, SubCallError
from pylon.rlm.repl.guest.concurrency import POOLS, OneByOnePool
from pylon.rlm.repl.guest.fanout.runtime import Fan


class RecordingPort:
    """Answers by `answer(prompt)` and remembers which prompts came together.

    `varies`: what is asked once more is answered as if it ended with one more exclamation mark.
    """

    def __init__(self, answer, varies=False):
        self.answer = answer
        self.varies = varies
        self.batches = []
        self._times = Counter()

    def ask(self, requests):
        self.batches += [list(request["prompts"]) for request in requests]
        return [{"replies": [self._reply(request, prompt) for prompt in request["prompts"]]} for request in requests]

    def _reply(self, request, prompt):
        asked = (request["kind"], request["model"], prompt)
        self._times[asked] += 1
        return (*self.answer(prompt + "!" * (self._times[asked] - 1) * self.varies), None)

    @property
    def prompts(self):
        return [prompt for batch in self.batches for prompt in batch]


def shout(prompt):
    return (prompt.upper(), None)


def run(code, *, fan_out=True, answer=shout, given=(), limit=100_000, now=lambda: 0.0, varies=False):
    """The variables, what was printed, the error, and the port. `now` is the clock by which rehearsals end."""
    port = RecordingPort(answer, varies)
    calls = Calls(port)
    calls.start_cell(limit)
    llm, rlm = Query(calls, "llm"), Query(calls, "rlm")
    names = {"llm_query": llm, "llm_query_batched": llm.batch, "rlm_query": rlm, "SubCallError": SubCallError}
    output = io.StringIO()
    fan = Fan(calls, output, POOLS, now)
    names["ThreadPoolExecutor"] = OneByOnePool
    names |= {Fan.NAME: fan, **dict(given)}
    before = set(names)
    tree = fan.compiled_from(code, "<cell>") if fan_out else ast.parse(code)
    program = compile(tree, "<cell>", "exec")
    error = None
    kept = json.loads, re.sub
    re.purge()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            fan.start_cell()
            exec(program, names)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        finally:
            # Code may have put others in their places.
            json.loads, re.sub = kept
    variables = {name: value for name, value in names.items() if name not in before and not name.startswith("__")}
    return variables, "" if output.closed else output.getvalue(), error, port
