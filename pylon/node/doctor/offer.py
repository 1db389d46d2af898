"""Price, wallet and payments, judged. Values in, findings out.

A running node has the price and the wallet of its start. The settings file counts from its next start on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pylon.node.doctor.finding import RESTART, Finding, Verdict, ok, warning, wrong


@dataclass(frozen=True, slots=True)
class WalletReading:
    """`fault` and `hint` are those of the error in asking the wallet; `said` is what it holds, in words. `unused`: it
    was connected after the running node had started."""

    connected: bool
    fault: str = ""
    hint: str = ""
    said: str = ""
    unused: bool = False


@dataclass(frozen=True, slots=True)
class OfferReading:
    """Who is served at what price.

    `terms` are those of the settings and `now` those of the running node (see `settings.terms`), None if no node
    serves. `price_changed`: the settings have a price other than the default. `strangers`: a household serves others
    too. `live_not_allowed`: the network is live, and nobody has allowed live money.
    """

    terms: Mapping[str, Any]
    price_changed: bool
    household: bool
    strangers: bool
    live_not_allowed: bool = False
    now: Mapping[str, Any] | None = None

    @property
    def pricing(self) -> str:
        """`free` or `paid`, as it is now."""
        return str((self.terms if self.now is None else self.now)["pricing"])


def judge_offer(read: OfferReading, wallet: WalletReading) -> Finding:
    """Who is served at what price, and whether that price is meant and can be charged."""
    planned = _judge_planned(read, wallet)
    if read.now is None or (read.household and not read.strangers):
        return planned
    both_free = read.now["pricing"] == read.terms["pricing"] == "free"
    if both_free or read.now == read.terms:
        # What would keep a node from starting did not; but permission for live money can be withdrawn while it runs.
        return replace(planned, no_jobs=planned.no_jobs and read.live_not_allowed)
    said = f"the node serves {_at(read.now)}, but from its next start on {_at(read.terms)}"
    if planned.verdict is Verdict.WRONG:
        return wrong("offer", f"{said}: {planned.said}", planned.todo)
    return warning("offer", said, f"To apply the settings: {RESTART}.")


def _judge_planned(read: OfferReading, wallet: WalletReading) -> Finding:
    """The offer of a node that started now."""
    pricing = read.terms["pricing"]
    free_price = not any(rate for name, rate in read.terms.items() if name != "pricing")
    if read.household and not read.strangers:
        return ok("offer", "serves only its household (`household.strangers`)")
    if pricing == "paid" and read.live_not_allowed:
        todo = 'Run `pylon wallet go-live`, or set `pricing = "free"`.'
        return wrong("offer", "paid in live money, which is not allowed here", todo, no_jobs=True)
    if pricing == "paid" and not wallet.connected:
        todo = 'Run `pylon wallet connect`, or set `pricing = "free"` in [provider] of config.toml.'
        return wrong("offer", "paid, but no wallet is connected, so the node cannot start", todo, no_jobs=True)
    if pricing == "paid" and free_price:
        return warning("offer", "paid, but the price is 0", "Set a price with `pylon price set`.")
    if pricing == "free" and read.price_changed:
        todo = 'Set `pricing = "paid"` in [provider] of config.toml to apply it.'
        return warning("offer", "a price is set, but everyone is served for free", todo)
    return ok("offer", f"everyone is served, {'for money' if pricing == 'paid' else 'for free'}")


def _at(terms: Mapping[str, Any]) -> str:
    if terms["pricing"] == "free":
        return "for free"
    rates = (terms["base_msat"], terms["in_msat_per_1k"], terms["out_msat_per_1k"])
    return "for {:,} msat per job, {:,} and {:,} per 1,000 tokens in and out".format(*rates)


def judge_wallet(read: WalletReading, pricing: str, bid_msat: int) -> Finding:
    """Whether the wallet answers and is of the right network. `pricing` is `free` or `paid`, as it is now; `bid_msat`
    is the most that this customer pays for a job."""
    if not read.connected and bid_msat:
        todo = "Run `pylon wallet connect`, or set `bid_msat = 0` in [customer] to ask only free providers."
        return warning("wallet", f"none connected, so nothing pays the bid of {bid_msat:,} msat per job", todo)
    if not read.connected:
        return ok("wallet", f"none connected{'' if pricing == 'paid' else ', and none needed for free work'}")
    if read.unused:
        return warning("wallet", "connected after the node started; the node does not use it yet", f"{RESTART}.")
    if read.fault:
        return wrong("wallet", read.fault, read.hint or "Check that its relay is running.", no_jobs=pricing == "paid")
    return ok("wallet", read.said)


def judge_payments(unknown: int) -> Finding | None:
    """Whether there are payments of unknown outcome; None if not. `unknown` counts them."""
    if not unknown:
        return None
    return warning(
        "payments",
        f"{unknown} of unknown outcome; {'its money stays' if unknown == 1 else 'their money stays'} reserved",
        "`pylon wallet decide` asks the wallet again, and tells you what to do if it never answers.",
    )
