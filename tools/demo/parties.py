"""Who takes part, each with a process, a home, a key and a wallet of its own; and what they pay in."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from pylon.bench.local_swarm import LocalSwarm
from tools.demo.say import say
from tools.regtest.stack import Regtest, default_folder

PROVIDERS = ("provider-1", "provider-2")
CUSTOMER = "customer"
# Half a play sat a job and a little for each token of the answer.
PRICES = {
    "PYLON_PROVIDER__PRICING": "paid",
    "PYLON_PROVIDER__BASE_MSAT": "500",
    "PYLON_PROVIDER__OUT_MSAT_PER_1K": "10000",
}
BID_MSAT = 5_000
LEAST_FAUCET_SAT, MOST_FAUCET_SAT = 5_000, 100_000
# A machine that is busy with other things answers late, and is not wrong for it.
TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Money:
    """Play money from the playbank, or coins of a private chain over real Lightning, with a link for each name."""

    network: str = "play"
    links: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        return {"PYLON_NETWORK": self.network}


def real_lightning() -> Money:
    """Two wallets on a private chain, as `scripts/regtest` keeps them; they stay up afterwards."""
    links = Regtest(default_folder(), lambda text: say(f"{text} …")).up()["links"]
    of = dict(zip((CUSTOMER, *PROVIDERS), ("buyer", "provider", "provider-2"), strict=True))
    return Money("regtest", {name: Path(links[link]).read_text(encoding="utf-8") for name, link in of.items()})


async def set_up(swarm: LocalSwarm, slots: int, money: Money, sats: int) -> dict[str, str]:
    """A relay with its playbank, providers that are ready, and a customer with money: its environment."""
    keeper = await swarm.open_relay()
    settings = {"PYLON_INFERENCE__SLOTS": str(slots), **PRICES, **money.settings}

    async def provider(name: str) -> None:
        env = await swarm.move_in(name, link=money.links.get(name, ""), PYLON_PROVIDER__NAME=name, **settings)
        await swarm.serve("start", env=env, log=f"{name}.log")

    customer, _ = await asyncio.gather(
        swarm.move_in(
            CUSTOMER, link=money.links.get(CUSTOMER, ""), PYLON_CUSTOMER__BID_MSAT=str(BID_MSAT),
            PYLON_CUSTOMER__TIMEOUT_S=str(TIMEOUT_S), **money.settings,
        ),
        asyncio.gather(*map(provider, PROVIDERS)),
    )  # fmt: skip
    if not money.links:
        given = min(MOST_FAUCET_SAT, max(LEAST_FAUCET_SAT, sats))
        await swarm.run("wallet", "faucet", str(given), "--account", CUSTOMER, env=keeper)
    await swarm.wait_for_providers(len(PROVIDERS), customer)
    return customer


def provider_environment(swarm: LocalSwarm, name: str, money: Money) -> dict[str, str]:
    """The environment of commands to a provider that runs."""
    return swarm.environment(name, **PRICES, **money.settings)
