"""Starts the inference service of a node, from its settings."""

from contextlib import AsyncExitStack

from pylon.clock import Clock
from pylon.inference.capacity import load_capacity
from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.service import InferenceService
from pylon.node.home import Home
from pylon.node.settings import engine_spec
from pylon.sections import Config


async def open_inference(stack: AsyncExitStack, home: Home, config: Config, clock: Clock) -> InferenceService:
    """Starts the child process that loads the model; `stack` ends it. Raises `ModelError`."""
    spec = engine_spec(home, config)
    inference = InferenceService(
        spec,
        clock,
        limits=ChildLimits(unload_s=config.inference.unload_after_s),
        expected=_expected_speed(home, spec.model),
    )
    await inference.start()
    stack.push_async_callback(inference.close)
    return inference


def _expected_speed(home: Home, model: str) -> tuple[float, float]:
    """What `pylon bench engine` measured here, in tokens per second in and out, 0 if unknown. It is announced until
    the engine has shown its speed."""
    known = load_capacity(home.capacity_file, model)
    return (known.tokens_in_per_s, known.tokens_out_per_s) if known is not None else (0.0, 0.0)
