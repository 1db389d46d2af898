"""The serving side of a node: its model, its provider, and the owner rules."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from pylon.host.machine import this_machine
from pylon.host.readings import Machine
from pylon.inference.service import InferenceService
from pylon.money.invoices.late import collect_late
from pylon.money.invoices.receiver import Receiver
from pylon.money.wallet import Wallet
from pylon.node.background import run_in_background
from pylon.node.inference import open_inference
from pylon.node.open_home import OpenHome
from pylon.node.owner import OwnerWatch
from pylon.node.settings import model_id, owner_rules, provider_settings
from pylon.provider.parts import Payments
from pylon.provider.service import Provider


@dataclass(frozen=True, slots=True)
class Serving:
    """Created by `open_serving`; the stack given there closes it."""

    inference: InferenceService
    provider: Provider
    watch: OwnerWatch


async def open_serving(
    stack: AsyncExitStack, opened: OpenHome, *, attended: bool, machine: Machine | None = None
) -> Serving:
    """Starts to serve. `attended`: a person started the node in a terminal. `machine` is what the owner rules read,
    this machine by default. Raises `ModelError`, and `SetupError` if work is to be paid and payment cannot be
    taken."""
    config = opened.config
    inference = await open_inference(stack, opened.home, config, opened.clock)
    provider = Provider(
        secret=opened.secret,
        keys=opened.keys,
        pool=opened.pool,
        inference=inference,
        journal=opened.journal,
        settings=provider_settings(config, opened.secret.public, opened.household),
        model=model_id(config),
        clock=opened.clock,
        payments=payments(opened),
        since=opened.begun_at,
    )
    if config.provider.pricing == "free" and opened.wallet is not None:
        run_in_background(stack, collect_late(_receiver(opened, opened.wallet)), "late payments")
    rules = owner_rules(config, attended=attended)
    watch = OwnerWatch(machine or this_machine(), rules, provider, config.owner, opened.clock)
    # Pushed before they start: a start that fails may have taken up jobs already, and these must end before the
    # model.
    stack.push_async_callback(watch.close)
    stack.push_async_callback(provider.close)
    # First: the provider's start announces whether it takes jobs.
    await watch.start()
    await provider.start()
    return Serving(inference, provider, watch)


def payments(opened: OpenHome) -> Payments | None:
    """What takes payment, or None if work is free. Raises `SetupError` without a wallet or without permission for
    live money."""
    if opened.config.provider.pricing == "free":
        return None
    opened.need_permission('Or serve for free: set `provider.pricing = "free"`.')
    wallet = opened.need_money().wallet
    return Payments(opened.database, wallet, _receiver(opened, wallet))


def _receiver(opened: OpenHome, wallet: Wallet) -> Receiver:
    allowance = opened.allowance
    return Receiver(opened.database, wallet, opened.clock, network=opened.network, live=lambda: allowance.live)
