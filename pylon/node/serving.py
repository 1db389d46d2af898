"""The serving side of a node: its model, its provider, and the owner's rules that this one keeps."""

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
from pylon.provider.service import Provider, Takings


@dataclass(frozen=True, slots=True)
class Serving:
    """Made by `open_serving`, and ended by its stack."""

    inference: InferenceService
    provider: Provider
    watch: OwnerWatch


async def open_serving(
    stack: AsyncExitStack, opened: OpenHome, *, attended: bool, machine: Machine | None = None
) -> Serving:
    """Serves from when it returns. `attended`: a person started it in a terminal. `machine` is what owner rules read,
    by default this one. Raises `ModelError`, and `SetupError` where it shall be paid and cannot be."""
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
        takings=takings(opened),
        since=opened.begun_at,
    )
    if config.provider.pricing == "free" and opened.wallet is not None:
        run_in_background(stack, collect_late(_receiver(opened, opened.wallet)), "late payments")
    rules = owner_rules(config, attended=attended)
    watch = OwnerWatch(machine or this_machine(), rules, provider, config.owner, opened.clock)
    # Pushed before they start: a start that fails may have taken jobs up, which would outlive the model and fail.
    stack.push_async_callback(watch.close)
    stack.push_async_callback(provider.close)
    # Before anybody is told that jobs are taken on here.
    await watch.start()
    await provider.start()
    return Serving(inference, provider, watch)


def takings(opened: OpenHome) -> Takings | None:
    """How payment is taken, or None when work is free. Raises `SetupError` without a wallet."""
    if opened.config.provider.pricing == "free":
        return None
    opened.need_permission('Or serve for free: set `provider.pricing = "free"`.')
    wallet = opened.need_money().wallet
    return Takings(opened.database, wallet, _receiver(opened, wallet))


def _receiver(opened: OpenHome, wallet: Wallet) -> Receiver:
    allowance = opened.allowance
    return Receiver(opened.database, wallet, opened.clock, network=opened.network, live=lambda: allowance.live)
