"""A child whose engine does what its prompts say: `die`, `leave`, `hang`, `garbage` and so on.

With ` once` behind it, a prompt is answered when it comes again: what happened is marked by a file in
`options["marks"]`. One that begins with `held` is answered by any child but the first that has one of these.
"""

import os
import signal
import sys
import time
from pathlib import Path

from pylon.errors import EngineFailedError, ModelError, NoRoomError, PromptError
from pylon.inference.child import main as child
from pylon.inference.engine import Finished, Generation, ModelInfo, Progress, TokenCount

RAW_PIPE = os.dup(1)


class MisbehavingEngine:
    def __init__(self, spec):
        self.spec = spec
        self.requests = {}
        self.running = {}
        self.taken = 0

    def load(self):
        misdeed = self.spec.options.get("load", "")
        if misdeed == "unloadable":
            raise ModelError("the files do not load", hint="Fetch them again.")
        if misdeed == "no room":
            if not (Path(self.spec.options["marks"]) / "room").exists():
                raise NoRoomError("It does not fit now.", hint="End what uses memory.")
        elif misdeed == "no server":
            if not (Path(self.spec.options["marks"]) / "server").exists():
                raise EngineFailedError("the server does not answer", hint="Start it.")
        elif misdeed:
            self.do(str(misdeed))
        print("a library prints on standard output", flush=True)  # noqa: T201
        return ModelInfo("misbehaving", "00" * 32, "none", 100, "misbehaving")

    def prepare(self, request):
        prompt = request.messages[0].content
        if prompt == "too long":
            raise PromptError("the prompt has 200 tokens", hint="100 fit.")
        if prompt == "raise":
            raise RuntimeError("quoting the secret prompt")
        if " unprepared" in prompt:
            self.do(prompt.replace(" unprepared", ""))
        return request.id, prompt

    def take(self, ready):
        request_id, prompt = ready
        if prompt == "raise when taken":
            raise RuntimeError("quoting the secret prompt")
        self.requests[request_id] = prompt

    gathered = True

    def cancel(self, request_id):
        self.requests.pop(request_id, None)
        self.running.pop(request_id, None)

    @property
    def busy(self):
        return bool(self.requests or self.running)

    @property
    def tokens(self):
        return TokenCount(self.taken, self.taken)

    def step(self):
        while self.requests and len(self.running) < self.spec.slots:
            request_id = next(iter(self.requests))
            self.running[request_id] = self.requests.pop(request_id)
        events = []
        for request_id, prompt in list(self.running.items()):
            self.taken += 1
            if prompt == "endless" or (prompt.startswith("held") and self.holds()):
                events.append(Progress(request_id, "on and on", self.taken))
                continue
            self.do(prompt)
            del self.running[request_id]
            answer = f"{prompt}: answered by {os.getpid()}"
            events.append(Finished(request_id, Generation(answer, "stop", 1, 1, 0)))
        time.sleep(0.002)
        return events

    def holds(self):
        first = Path(self.spec.options["marks"]) / "held"
        if not first.exists():
            first.write_text(str(os.getpid()))
        return first.read_text() == str(os.getpid())

    def score(self, request):
        self.do(request.answer)

    def close(self):
        pass

    def do(self, prompt):
        deed = prompt.removesuffix(" once")
        if prompt.endswith(" once"):
            mark = Path(self.spec.options["marks"]) / deed
            if mark.exists():
                return
            mark.touch()
        if deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif deed == "hang":
            time.sleep(600)
        elif deed == "garbage":
            os.write(RAW_PIPE, b"\x00\x00\x00\x05hello")
            time.sleep(600)
        elif deed == "huge frame":
            os.write(RAW_PIPE, b"\xff\xff\xff\xff")
            time.sleep(600)
        elif deed == "wrong fields":
            os.write(RAW_PIPE, b'\x00\x00\x00\x13{"type":"finished"}')
            time.sleep(600)
        elif deed == "leave":
            sys.exit("the model is tired")
        elif deed == "take all memory":
            bytearray(2**60)


if __name__ == "__main__":
    child.main(MisbehavingEngine)
