"""A script in place of the root model, behind a real endpoint, since no model of that size ships with Pylon.

It drives the whole RLM loop: looks at the text, gives parts of it to child loops, and combines their answers. It
knows the question, and of the text only what its code prints.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from pylon.bench.planted_fact import Task
from pylon.inference.models import needle
from pylon.rlm import prompts

NAME = "scripted"

type Chat = list[dict[str, Any]]

_ROOT = (
    """\
```repl
print(type(context).__name__, len(context))
print(context[:160])
```""",
    """\
```repl
size = len(context) // 4 + 1
parts = [context[at:at + size + 150] for at in range(0, len(context), size)]
said = rlm_query_batched([{question!r} + "\\n\\n" + part for part in parts])
print(said)
```""",
    """\
```repl
found = [one for one in said if not isinstance(one, SubCallError) and one != {absent!r}]
FINAL(max(found, key=found.count) if found else {absent!r})
```""",
)
# A plain loop: the REPL sends its calls at the same time.
_CHILD = (
    """\
```repl
import re
part = context.split("\\n\\n", 1)[1]
places = [found.start() for found in re.finditer(re.escape({key!r}), part)]
print(f"{{len(places)}} places in {{len(part):,}} characters")
```""",
    """\
```repl
answers = []
for place in places:
    for wording in {wordings!r}:
        for around in (250, 500):
            answers.append(llm_query(wording + part[max(0, place - around):place + around]))
print(answers)
```""",
    """\
```repl
stated = [one for one in answers if one.strip() and one in part]
FINAL(max(stated, key=stated.count) if stated else {absent!r})
```""",
)


def script(task: Task) -> Callable[[Chat], str]:
    """A function from a chat of the loop to the script's next reply, for this task's question."""
    names = {
        "question": task.question,
        "key": task.key,
        "absent": needle.ABSENT,
        "wordings": [needle.ask(one.format(key=task.key)) for one in needle.QUESTIONS],
    }

    def said(chat: Chat) -> str:
        turns = _CHILD if chat[1]["content"].startswith(prompts.task(None, "")[:20]) else _ROOT
        turn = sum(message["role"] == "assistant" for message in chat)
        return turns[min(turn, len(turns) - 1)].format(**names)

    return said


@contextlib.contextmanager
def endpoint(said: Callable[[Chat], str]) -> Iterator[str]:
    """Serves the replies as chat completions on loopback; yields the address for `rlm.root_url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
            choice = {"message": {"role": "assistant", "content": said(asked["messages"])}}
            body = orjson.dumps({"model": NAME, "choices": [choice]})
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def settings(url: str) -> dict[str, str]:
    """The environment that makes the endpoint the root model."""
    return {
        "PYLON_RLM__ROOT": "endpoint",
        "PYLON_RLM__ROOT_URL": url,
        "PYLON_RLM__ROOT_MODEL": NAME,
        "PYLON_RLM__SUB_MAX_TOKENS": "16",
    }
