"""Exports a trajectory in the form that the viewer of the paper's engine (`rlms`) reads: JSONL.

Its rules: one `metadata` line, then only `iteration` lines; times are numbers; every call has `prompt_tokens` and
`completion_tokens`; `locals` are short texts. The viewer knows a single loop, so of child loops it shows the calls
that began them, with the tokens of everything within. Calls are in the order in which the code made them, including
those that share the answer of an equal one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pylon.rlm.rlm import ROOT_LOOP
from pylon.rlm.runs import Run
from pylon.rlm.table import call_place
from pylon.rlm.trajectory import Event

type Line = dict[str, Any]
# For each model: calls, tokens in and out.
type _Used = dict[str, Counter[str]]


def export_rlm(run: Run) -> Iterator[Line]:
    """The lines of the export. A run that died has no final answer."""
    export = _Export(run, _inside(run))
    for event in run.events():
        if event["type"] == "run":
            yield _metadata(event)
        elif event.get("loop", ROOT_LOOP) == ROOT_LOOP:
            export.take(event)
    yield from export.lines


class _Export:
    def __init__(self, run: Run, inside: dict[str, _Used]) -> None:
        self.lines: list[Line] = []
        self._run = run
        self._inside = inside
        self._chat: list[dict[str, str]] = []
        # The calls of the current cell that have returned, and those that share the outcome of an equal one.
        self._calls: list[tuple[str, Line]] = []
        self._repeated: list[Event] = []
        self._submitted: dict[str, Event] = {}
        # The last outcome of each prompt by its hash: of the calls to a model that was asked for, and of all.
        self._outcomes: dict[tuple[str | None, str], Line] = {}
        self._last: dict[str, Line] = {}

    def take(self, event: Event) -> None:
        """Takes in an event of the first loop."""
        match event["type"]:
            case "loop":
                # A program is told nothing.
                told = (("system", self._run.text(event["system"])), ("user", self._run.text(event["opening"])))
                self._chat = [{"role": role, "content": content} for role, content in told if content]
            case "turn":
                self._turn(event)
            case "submitted":
                self._submitted[event["call"]] = event
            case "repeated":
                self._repeated.append(event)
            case "returned":
                self._returned(event)
            case "cell" if self.lines:
                self.lines[-1]["code_blocks"].append(self._cell(event))
            case "shown" if self.lines:
                reply = self.lines[-1]["response"]
                shown = self._run.text(event["text"])
                self._chat += [{"role": "assistant", "content": reply}, {"role": "user", "content": shown}]
            case "final" if self.lines and event["answer"] is not None:
                self.lines[-1]["final_answer"] = self._run.text(event["answer"])

    def _returned(self, event: Event) -> None:
        call, sha256 = self._call(event), event["prompt"]["sha256"]
        self._calls.append((event["call"], call))
        self._last[sha256] = call
        if (sent := self._submitted.get(event["call"])) is not None and sent["kind"] == "llm":
            self._outcomes[sent["model"], sha256] = call

    def _turn(self, event: Event) -> None:
        self.lines.append(
            {
                "type": "iteration",
                "iteration": len(self.lines) + 1,
                "timestamp": _time(event),
                "prompt": list(self._chat),
                "response": self._run.text(event["reply"]),
                "code_blocks": [],
                "final_answer": None,
                "iteration_time": event["ms"] / 1_000,
                "prompt_tokens": event["prompt_tokens"],
                "completion_tokens": event["completion_tokens"],
            }
        )

    def _cell(self, event: Event) -> Line:
        answer = event["answer"]
        error = "" if event["error"] is None else event["error"]["text"]
        result = {
            "stdout": self._run.text(event["stdout"]),
            "stderr": "\n".join(part for part in (self._run.text(event["stderr"]), error) if part),
            "locals": {one["name"]: one["preview"] for one in event["variables"]},
            "execution_time": event["wall_s"],
            "rlm_calls": self._taken(),
            "final_answer": self._run.text(answer["content"]) if answer and answer["ready"] else None,
        }
        self.lines[-1]["iteration_time"] += event["wall_s"]
        return {"code": self._run.text(event["code"]), "result": result}

    def _taken(self) -> list[Line]:
        """The calls of the cell that has ended, in the order in which its code made them; resets them."""
        calls = self._calls + [(event["call"], self._shared(event)) for event in self._repeated]
        self._calls, self._repeated = [], []
        return [call for _, call in sorted(calls, key=lambda one: call_place(one[0]))]

    def _shared(self, event: Event) -> Line:
        """The line of a call that was not sent, as it shares the outcome of an equal one, which was paid for."""
        sha256 = event["prompt"]["sha256"]
        # Earlier versions named no model here, and a call that was refused before it was sent names none.
        known = self._outcomes.get((event.get("model"), sha256)) or self._last.get(sha256, {})
        model = known.get("root_model", "")
        call = {
            "root_model": model,
            "prompt": self._run.text(event["prompt"]),
            "response": known.get("response", ""),
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "usage_summary": _summary({}),
            "execution_time": 0.0,
            "repeated": True,
        }
        return {**call, "error": known["error"]} if "error" in known else call

    def _call(self, event: Event) -> Line:
        asked = self._submitted.get(event["call"])
        answered = "code" not in event
        taken = 0.0 if asked is None else max(0.0, event["at"] - asked["at"])
        used = self._inside.get(event["call"]) or _used_by(event)
        call = {
            "root_model": event["model"] if answered else "",
            "prompt": self._run.text(event["prompt"]),
            "response": self._run.text(event["text"]) if answered else "",
            "prompt_tokens": sum(counts["in"] for counts in used.values()),
            "completion_tokens": sum(counts["out"] for counts in used.values()),
            "usage_summary": _summary(used),
            "execution_time": round(taken, 3),
        }
        if event.get("finish") is not None:
            call["finish"] = event["finish"]
        return call if answered else {**call, "error": event["message"]}


def _used_by(event: Event) -> _Used:
    """What a turn or a call used. A call that began a child loop used nothing itself."""
    if "code" in event or event.get("provider") == "":
        return {}
    tokens = {"in": event.get("prompt_tokens", 0), "out": event.get("completion_tokens", 0)}
    return {event["model"]: Counter(calls=1, **tokens)}


def _inside(run: Run) -> dict[str, _Used]:
    """For each call of the first loop that began a child loop: what that loop, and all loops within it, used."""
    found: defaultdict[str, _Used] = defaultdict(dict)
    for event in run.events():
        if event["type"] not in ("turn", "returned") or event["loop"] == ROOT_LOOP:
            continue
        # The loop `0/c2.1/c1.0` is inside `0/c2.1`.
        call = "/".join(event["loop"].split("/")[:2])
        for model, counts in _used_by(event).items():
            found[call].setdefault(model, Counter()).update(counts)
    return dict(found)


def _summary(used: _Used) -> Line:
    return {
        "model_usage_summaries": {
            model: {
                "total_calls": counts["calls"],
                "total_input_tokens": counts["in"],
                "total_output_tokens": counts["out"],
            }
            for model, counts in used.items()
        }
    }


def _metadata(event: Event) -> Line:
    return {
        "type": "metadata",
        "timestamp": _time(event),
        "root_model": event["root"]["name"],
        "max_depth": event["limits"]["depth"],
        "max_iterations": event["turns"],
        "backend": "pylon",
        "backend_kwargs": {"strategy": event["strategy"], "question": event["question"]["preview"]},
        "environment_type": "pylon",
        "environment_kwargs": {"context_chars": event["context"]["chars"]},
        "other_backends": [event["sub"]["name"]],
    }


def _time(event: Event) -> str:
    return datetime.fromtimestamp(event["at"], UTC).isoformat()
