"""A trajectory in the form that the viewer of the paper's engine (`rlms`) reads: JSONL.

Its rules: one `metadata` line, then `iteration` lines and nothing else; times are numbers; every call tells
`prompt_tokens` and `completion_tokens`; `locals` are short texts. It knows one loop: of deeper ones it shows the
calls that began them.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pylon.rlm.rlm import ROOT_LOOP
from pylon.rlm.runs import Run
from pylon.rlm.trajectory import Event

type Line = dict[str, Any]


def export_rlm(run: Run) -> Iterator[Line]:
    """The lines. A run that died has no final answer."""
    export = _Export(run)
    for event in run.events():
        if event["type"] == "run":
            yield _metadata(event)
        elif event.get("loop", ROOT_LOOP) == ROOT_LOOP:
            export.take(event)
    yield from export.lines


class _Export:
    def __init__(self, run: Run) -> None:
        self.lines: list[Line] = []
        self._run = run
        self._chat: list[dict[str, str]] = []
        self._calls: list[Line] = []
        self._prompts: dict[str, Event] = {}

    def take(self, event: Event) -> None:
        """An event of the first loop."""
        match event["type"]:
            case "loop":
                self._chat = [
                    {"role": "system", "content": self._run.text(event["system"])},
                    {"role": "user", "content": self._run.text(event["opening"])},
                ]
            case "turn":
                self._turn(event)
            case "submitted":
                self._prompts[event["call"]] = event
            case "returned":
                self._calls.append(self._call(event))
            case "cell" if self.lines:
                self.lines[-1]["code_blocks"].append(self._cell(event))
                self._calls = []
            case "shown" if self.lines:
                reply = self.lines[-1]["response"]
                shown = self._run.text(event["text"])
                self._chat += [{"role": "assistant", "content": reply}, {"role": "user", "content": shown}]
            case "final" if self.lines and event["answer"] is not None:
                self.lines[-1]["final_answer"] = self._run.text(event["answer"])

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
            "rlm_calls": self._calls,
            "final_answer": self._run.text(answer["content"]) if answer and answer["ready"] else None,
        }
        self.lines[-1]["iteration_time"] += event["wall_s"]
        return {"code": self._run.text(event["code"]), "result": result}

    def _call(self, event: Event) -> Line:
        asked = self._prompts.get(event["call"])
        answered = "code" not in event
        taken = 0.0 if asked is None else max(0.0, event["at"] - asked["at"])
        tokens = (event.get("prompt_tokens", 0), event.get("completion_tokens", 0))
        model = event["model"] if answered else ""
        call = {
            "root_model": model,
            "prompt": self._run.text(event["prompt"]),
            "response": self._run.text(event["text"]) if answered else "",
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "usage_summary": {
                "model_usage_summaries": {
                    model: {"total_calls": 1, "total_input_tokens": tokens[0], "total_output_tokens": tokens[1]}
                }
            },
            "execution_time": round(taken, 3),
        }
        return call if answered else {**call, "error": event["message"]}


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
