"""Runs a demo: one question in two ways, or many questions one after the other; and makes its report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pylon.bench.local_swarm import LocalSwarm
from pylon.bench.planted_fact import Task, make_task
from pylon.inference.models import needle
from pylon.inference.models.weights import model_directory, weights_sha256
from tools.demo import script
from tools.demo.asking import SATS_A_PIECE, Asked, ask, figures, pieces
from tools.demo.checks import settle_up, verify
from tools.demo.parties import PROVIDERS, Money, set_up
from tools.demo.say import say, step

SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Plan:
    """What to show: a text of `chars` characters, in which `seed` chooses the fact and its place.

    `seeds` is the number of questions, with seeds from `seed` on. `slots` is the jobs that a provider runs at once.
    """

    chars: int = 250_000
    seed: int = 1
    seeds: int = 1
    slots: int = 16


class Demo:
    """A demo in a swarm that is still empty. Call `one` or `many`, once."""

    def __init__(self, swarm: LocalSwarm, plan: Plan, money: Money) -> None:
        self._swarm = swarm
        self._plan = plan
        self._money = money
        self._customer: dict[str, str] = {}
        self._charged_msat = 0
        self._sha256 = weights_sha256(model_directory(needle.MODEL_ID, swarm.folder))

    async def one(self) -> dict[str, Any]:
        """Asks by map-reduce, then by the RLM loop with a script as root model; returns what `--json` prints."""
        await self._set_up()
        task, file = self._task(self._plan.seed)
        with step("pylon rlm --strategy map-reduce"):
            mapped = await self._ask(self._customer, task, file, "map-reduce")
        with script.endpoint(script.script(task)) as url, step("pylon rlm with a script as its root model"):
            rooted = await self._ask({**self._customer, **script.settings(url)}, task, file, "rlm")
        with step("reading the results from the relay again, to check them"):
            verified = await self._verify(mapped)
            verified_too = await self._verify(rooted)
        return {
            **figures(mapped),
            "verified": verified,
            "model": needle.MODEL_ID,
            "question": task.question,
            "answer": mapped.report["answer"],
            "expected": task.value,
            "context_chars": mapped.report["context_chars"],
            **await self._books(),
            "trajectory": mapped.report["trajectory"],
            "scripted": {
                "root": script.NAME,
                "answer": rooted.report["answer"],
                **figures(rooted),
                "verified": verified_too,
                **{name: rooted.report[name] for name in ("turns", "loops", "paid_msat", "trajectory")},
            },
        }

    async def many(self) -> dict[str, Any]:
        """Asks by map-reduce for each seed; returns how many answers are right."""
        await self._set_up()
        wrong: list[dict[str, Any]] = []
        jobs = answered = verified = 0
        wall_s = 0.0
        seeds = range(self._plan.seed, self._plan.seed + self._plan.seeds)
        for seed in seeds:
            task, file = self._task(seed)
            asked = await self._ask(self._customer, task, file, "map-reduce")
            head = figures(asked)
            jobs, answered = jobs + head["jobs"], answered + head["answered"]
            verified, wall_s = verified + await self._verify(asked), wall_s + head["wall_s"]
            told = {"seed": seed, "expected": task.value, "answer": asked.report["answer"]}
            if not asked.right:
                wrong.append({**told, "trajectory": asked.report["trajectory"]})
            say(f"seed {seed}: planted {task.value}, answer {told['answer']}, {head['jobs']} sub-calls")
        return {
            "seeds": len(seeds),
            "right": len(seeds) - len(wrong),
            "share": round(1 - len(wrong) / len(seeds), 3),
            "wrong": wrong,
            "jobs": jobs,
            "answered": answered,
            "verified": verified,
            "wall_s": round(wall_s, 3),
            "model": needle.MODEL_ID,
            "context_chars": self._plan.chars,
            **await self._books(),
        }

    async def _set_up(self) -> None:
        sats = SATS_A_PIECE * pieces(self._plan.chars) * self._plan.seeds
        with step("a relay, two providers and a customer, each with its own process, key, home and wallet"):
            self._customer = await set_up(self._swarm, self._plan.slots, self._money, sats)

    def _task(self, seed: int) -> tuple[Task, Path]:
        task = make_task(self._plan.chars, seed)
        file = self._swarm.folder / f"text-{seed}.txt"
        file.write_text(task.text, encoding="utf-8")
        say(f"{len(task.text):,} characters: {task.question}")
        return task, file

    async def _ask(self, env: dict[str, str], task: Task, file: Path, strategy: str) -> Asked:
        asked = await ask(self._swarm, env, task, file, strategy)
        self._charged_msat += sum(event["msat"] for event in asked.answers)
        return asked

    async def _verify(self, asked: Asked) -> int:
        return await verify(self._swarm, asked, self._sha256, self._money.network)

    async def _books(self) -> dict[str, Any]:
        with step("the books of all three"):
            return await settle_up(self._swarm, self._customer, self._charged_msat, self._money)


def holds(report: dict[str, Any]) -> bool:
    """Whether the demo succeeded, by a report of either kind."""
    clean = report["audit"] == "clean" and report["answered"] == report["verified"] == report["jobs"]
    if "seeds" in report:
        return bool(clean and report["share"] >= SHARE)
    scripted = report["scripted"]
    return bool(
        clean
        and report["answer"] == scripted["answer"] == report["expected"]
        and report["providers"] == len(PROVIDERS)
        and 0 < scripted["jobs"] == scripted["answered"] == scripted["verified"]
    )
