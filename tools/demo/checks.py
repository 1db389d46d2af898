"""Checks a demo: reads the results from the relay again, and compares the books of all parties."""

import asyncio
from typing import Any

from pylon.bench.local_swarm import LocalSwarm
from pylon.jobs.kinds import RESULT_KINDS
from pylon.jobs.result import parse_result
from pylon.node import identity
from pylon.node.home import Home
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.rlm.trajectory import Event as Step
from tools.demo.asking import Asked
from tools.demo.parties import CUSTOMER, PROVIDERS, Money, provider_environment

# Event ids in one filter.
_AT_ONCE = 200
# Seconds. Where a job was sent twice, the second provider's charge may come after the answer: wait for its receipt.
_LATE_S = "2"


async def verify(swarm: LocalSwarm, asked: Asked, sha256: str, network: str) -> int:
    """How many answers of a run are genuine, checked apart from the customer's own code.

    The events that the trajectory names are read from the relay again. Signature, author, addressee, text and receipt
    must agree with the trajectory, and the weights with those of the model.
    """
    secret = identity.load(Home(swarm.folder / CUSTOMER, network).identity_file)
    wanted = {step["result_id"]: step for step in asked.answers}
    keys = ConversationKeys(secret)
    pool = RelayPool([swarm.relay], secret=secret)
    pool.start()
    try:
        ids, good = list(wanted), 0
        for at in range(0, len(ids), _AT_ONCE):
            some = frozenset(ids[at : at + _AT_ONCE])
            for event in await pool.query((Filter(ids=some, kinds=RESULT_KINDS),)):
                good += _holds(event, wanted[event.id], asked, secret, keys, sha256)
        return good
    finally:
        await pool.close()


def _holds(event: Event, step: Step, asked: Asked, secret: SecretKey, keys: ConversationKeys, sha256: str) -> bool:
    # The pool has checked the id and the signature.
    result = parse_result(event, keys)
    return (
        event.pubkey == step["provider"]
        and event.tag("p") == secret.public
        and event.tag("e") == step["request_id"]
        and result.text == asked.run.text(step["text"])
        and result.model is not None
        and result.model.sha256 == sha256
        and result.usage is not None
        and result.account is not None
        and result.account.charge_msat == step["msat"]
    )


async def settle_up(swarm: LocalSwarm, customer: dict[str, str], charged_msat: int, money: Money) -> dict[str, Any]:
    """The cost of the work by the books of customer and providers, and whether all of them are clean and agree.

    `charged_msat` is the charge by the trajectories. Of a job that was sent twice they lack the second charge.
    """
    await swarm.run("providers", "--wait", _LATE_S, env=customer)
    homes = [customer, *(provider_environment(swarm, name, money) for name in PROVIDERS)]
    books, *theirs = await asyncio.gather(*(swarm.run("wallet", "audit", env=env) for env in homes))
    agreed = charged_msat <= books["paid_msat"] == sum(one["earned_msat"] for one in theirs)
    agreed = agreed and all(one["audit"] == "clean" for one in (books, *theirs))
    return {
        "network": money.network,
        "sats": books["paid_msat"] / 1_000,
        "deposited_sats": books["sent_msat"] / 1_000,
        "lightning_payments": books["payments"],
        "audit": "clean" if agreed else "not clean",
    }
