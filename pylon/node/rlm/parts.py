"""Makes the parts of a run from the settings in `[rlm]`: limits, REPLs, root model, program."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import ValidationError

from pylon.clock import Clock
from pylon.config import faults
from pylon.errors import SetupError, UsageError
from pylon.inference.service import InferenceService
from pylon.jobs import fit
from pylon.node.home import Home, private_folder
from pylon.node.settings import engine_spec
from pylon.rlm import strategies
from pylon.rlm.budget import Limits
from pylon.rlm.endpoint import OpenAIRoot, read_key
from pylon.rlm.repl.backends import choose
from pylon.rlm.repl.folders import sweep
from pylon.rlm.repl.host import ChildRepl
from pylon.rlm.repl.life import Backend
from pylon.rlm.repl.protocol import MIB, CellLimits, Repl
from pylon.rlm.root import Root
from pylon.rlm.roots import EngineRoot, SwarmRoot
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.strategies import ProgramRoot, Strategy
from pylon.rlm.sublm import SubLM, SubModels
from pylon.sections import Config, RlmSection

# The least time limit of a cell that is a strategy's program: it goes through the whole text itself.
_PROGRAM_S = 600.0
# As in `pylon.rlm.root.estimate_tokens`.
_BYTES_PER_TOKEN = 4


def overridden(section: RlmSection, wishes: dict[str, Any]) -> RlmSection:
    """The settings with `wishes` in place of some; a wish of None changes nothing. Raises `UsageError`."""
    given = {name: value for name, value in wishes.items() if value is not None}
    unknown = set(given) - set(RlmSection.model_fields)
    if unknown:
        raise UsageError(f"there is no setting rlm.{', rlm.'.join(sorted(unknown))}")
    try:
        return RlmSection(**{**section.model_dump(), **given})
    except ValidationError as error:
        raise UsageError(
            f"invalid option: {faults(error)}",
            hint=("See docs/settings.md for the settings of [rlm], and `pylon rlm ask --help` for the options."),
        ) from error


def strategy_of(section: RlmSection, wished: Strategy | None, wishes: Mapping[str, Any]) -> Strategy:
    """The RLM where a root model is configured, and map-reduce otherwise, unless another one is wished for. Raises
    `UsageError` for wishes of a root model where none is configured.
    """
    strategy: Strategy = wished or ("map-reduce" if section.root == "none" else "rlm")
    check_root(section, strategy, wishes)
    return strategy


def check_root(section: RlmSection, strategy: Strategy, wishes: Mapping[str, Any]) -> None:
    """Raises `UsageError` for wishes of a root model where none is configured: the answer of a program would be taken
    for that model's."""
    named = [name for name in ("root_model", "root_temperature") if wishes.get(name) is not None]
    if named and section.root == "none" and strategy != "rlm":
        option = f"--{named[0].replace('_', '-')}"
        hint = f"Set `rlm.root` to swarm, local or endpoint, or leave out `{named[0]}` (`{option}`)."
        raise UsageError(f"`{named[0]}` was given, but there is no root model: `rlm.root` is none", hint=hint)


def limits_of(section: RlmSection) -> Limits:
    """The limits of a run's budget."""
    return Limits(
        msat=section.max_sats * 1_000,
        calls=section.max_calls,
        tokens=section.max_tokens or None,
        wall_s=section.max_wall_s,
        depth=section.max_depth,
        prompt_chars=section.max_prompt_chars,
        turns=section.max_root_turns,
        disk_bytes=section.keep_run_mb * MIB,
    )


def loop_settings(section: RlmSection, strategy: Strategy) -> LoopSettings:
    """The settings of a run's loops."""
    program = strategy != "rlm"
    cell = CellLimits(
        seconds=max(section.cell_s, _PROGRAM_S) if program else section.cell_s,
        memory_bytes=section.cell_memory_mb * MIB,
        # Calls over the limit should be refused by the budget, which says so; a cell's own limit only ends floods.
        calls=max(CellLimits().calls, 2 * section.max_calls),
    )
    return LoopSettings(
        # In its second turn a program says why it gave no answer.
        turns=2 if program else section.turns,
        root_timeout_s=section.root_timeout_s,
        last_s=min(section.root_timeout_s, section.max_wall_s / 10),
        tier=section.prompt,
        cell=cell,
    )


def sub_settings(
    section: RlmSection, strategy: Strategy, models: SubModels, timeout_s: float, event_bytes: int | None
) -> SubSettings:
    """The settings of a run's sub-calls. `event_bytes` is the largest event that relays accept; None if the calls do
    not travel in events."""
    tokens = section.sub_max_tokens
    if strategy != "rlm" and strategies.is_reader(models):
        tokens = min(tokens, strategies.READER_TOKENS)
    seed = seed_of(section)
    return SubSettings(section.sub_model or None, tokens, section.sub_temperature, timeout_s, event_bytes, seed)


@dataclass(frozen=True, slots=True)
class Repls:
    """Makes REPLs of one kind."""

    backend: Backend

    def __call__(self) -> Repl:
        return ChildRepl(self.backend)


async def open_repls(section: RlmSection, cache: Path, *, unsafe: bool = False) -> Repls:
    """Chooses a sandbox and returns what makes its REPLs; `cache` is the folder for files that every start needs.
    With `unsafe` there is no sandbox. Raises `SandboxError` when no sandbox works here."""
    private_folder(cache)
    # Removes the contexts that killed runs left behind.
    await asyncio.to_thread(sweep)
    return Repls(await choose(section.sandbox, cache=cache, unsafe=unsafe))


def about_root(section: RlmSection, strategy: Strategy) -> dict[str, object]:
    """What the trajectory says of the root besides its name, so that it can be asked in the same way again. Without
    the key, and without user and query of an address. Raises `SetupError`."""
    if strategy != "rlm":
        return {}
    temperature = section.root_temperature
    about: dict[str, object] = {
        "kind": section.root,
        "model": section.root_model,
        "temperature": None if temperature < 0 and section.root == "endpoint" else max(0.0, temperature),
        "seed": seed_of(section),
    }
    if section.root == "endpoint":
        try:
            url = urlsplit(section.root_url)
        except ValueError as error:
            raise SetupError("`rlm.root_url` is not an address", hint=_HINT) from error
        about["url"] = urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))
    return about


def seed_of(section: RlmSection) -> int | None:
    """The seed of a run; None if it has none."""
    return None if section.seed < 0 else section.seed


@asynccontextmanager
async def open_root(
    home: Home, config: Config, section: RlmSection, sub: SubLM, clock: Clock, event_bytes: int
) -> AsyncIterator[Root]:
    """A context manager that opens the root model of the settings. The chat with a model in the swarm has to fit an
    event of `event_bytes`. Raises `SetupError`, `ModelError`, `UnreachableError`."""
    root = await _root(home, config, section, sub, clock, event_bytes)
    try:
        yield root
    finally:
        await root.close()


def program_root(
    strategy: Literal["map-reduce", "search"],
    question: str,
    models: SubModels,
    settings: SubSettings,
    prompt_bytes: int | None,
) -> ProgramRoot:
    """The program of a strategy, in a root's place. `prompt_bytes` is the longest prompt that is allowed."""
    code = strategies.program(
        strategy, question, models, answer_tokens=settings.max_tokens, prompt_bytes=prompt_bytes
    )
    return ProgramRoot(strategy, code)


async def _root(home: Home, config: Config, section: RlmSection, sub: SubLM, clock: Clock, event_bytes: int) -> Root:
    model = section.root_model
    context, most = section.root_context, section.root_max_tokens
    temperature = max(0.0, section.root_temperature)
    match section.root:
        case "endpoint":
            if not section.root_url or not model:
                raise SetupError("`rlm.root_url` and `rlm.root_model` must both be set", hint=_HINT)
            key = read_key(Path(section.root_key_file)) if section.root_key_file else ""
            wished = None if section.root_temperature < 0 else section.root_temperature
            return OpenAIRoot(
                section.root_url, model, context, most, key=key, temperature=wished, seed=seed_of(section),
                timeout_s=section.root_timeout_s,
            )  # fmt: skip
        case "local":
            inference = config.inference.model_copy(update={"model": model or config.inference.model})
            spec = engine_spec(home, config.model_copy(update={"inference": inference}))
            service = InferenceService(spec, clock)
            await service.start()
            return EngineRoot(service, spec.model, context, most, temperature, seed_of(section))
        case "swarm":
            there = (await sub.describe(model or None)).context_tokens
            context = min(context, there or context, fit.prompt_bytes(event_bytes) // _BYTES_PER_TOKEN)
            most = min(most, context // 2)
            timeout_s = section.root_timeout_s
            seed = seed_of(section)
            return SwarmRoot(sub, model or None, context, most, temperature, timeout_s=timeout_s, seed=seed)
        case "none":
            raise SetupError("no root model is configured", hint=_HINT)


_HINT = "Set `rlm.root`, or use the strategy map-reduce or search (`--strategy`), which need no root model."
