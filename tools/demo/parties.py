"""The parties of a demo, each with its own process, home, key and wallet; and the money that they use."""

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
# Long, since a busy machine answers late and is not wrong for it.
TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Money:
    """The money of a demo: play money of the playbank, or real Lightning on a private chain.

    `links` are wallet links by the name of a party; for play money there are none.
    """

    network: str = "play"
    links: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        return {"PYLON_NETWORK": self.network}


def real_lightning() -> Money:
    """Starts the wallets of `scripts/regtest`, which keep running. Raises `SetupError`, `UnreachableError`."""
    links = Regtest(default_folder(), lambda text: say(f"{text} …")).up()["links"]
    of = dict(zip((CUSTOMER, *PROVIDERS), ("buyer", "provider", "provider-2"), strict=True))
    return Money("regtest", {name: Path(links[link]).read_text(encoding="utf-8") for name, link in of.items()})


async def set_up(swarm: LocalSwarm, slots: int, money: Money, sats: int) -> dict[str, str]:
    """Starts a relay with its playbank and the providers, and gives the customer money; returns its environment."""
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
    """The environment of commands in the home of a provider."""
    return swarm.environment(name, **PRICES, **money.settings)
