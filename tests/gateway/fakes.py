"""A stand-in for a node's core behind the gateway: it fills the seam `Upstream` that `GatewayCore` fills."""

import asyncio
from contextlib import asynccontextmanager

import httpx

from pylon.errors import UnreachableError
from pylon.gateway.access import AccessRules
from pylon.gateway.app import Gateway, GatewaySettings
from pylon.gateway.upstream import Begun, Ended, Said
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.nostr.bech32 import nip19

TOKEN = "pylon-a-token-for-tests"
PROVIDER = nip19.npub("2adcd850437115539bf41303253e8638caa1c316aecf92311c9a9a749691422b")
# A body that any client may send.
CHAT = {"model": "any", "messages": [{"role": "user", "content": "q"}]}


def answer(text="a", *, charged=0, most=None, usage=(3, 2), **more):
    return {
        "index": 0, "text": text, "provider": PROVIDER, "model": "m-1", "sha256": "ab" * 32, "finish": "stop",
        "usage": usage and {"prompt_tokens": usage[0], "completion_tokens": usage[1]}, "queue_ms": 1, "run_ms": 2,
        "latency_ms": 3, "attempts": 1, "request_id": "cd" * 32, "result_id": "ef" * 32, "paid_msat": charged,
        "verified": ["signature"], "error": None, "charged_msat": charged,
        "most_msat": charged if most is None else most, **more,
    }  # fmt: skip


def cost(charged=0, most=None, *, over=True):
    """What the core says of a reservation; decided where nothing more can come."""
    most = charged if most is None else most
    return {"charged_msat": charged, "most_msat": most, "over": over, "decided": over and most == charged}


def failure(reason, code=None, *, most=0, hint="do this"):
    error = {"reason": reason, "code": code, "message": "it failed", "hint": hint}
    return {"index": 0, "text": None, "attempts": 1, "error": error, "charged_msat": 0, "most_msat": most}


def listing(model="m-1", *, price=(0, 0, 0), state="ready", name="p", slots=4, context=4096, plain=False, own=False):
    return {
        "provider": "npub1x", "name": name, "models": [model], "weights": ["ab" * 32], "contexts": [context],
        "kinds": [5940],
        "slots": slots, "slots_free": slots, "queue_s": 0.0, "tokens_in_per_s": 1.0, "tokens_out_per_s": 1.0,
        "price": price and Price(*map(Msat, price)).rates(), "network": "play", "plain": plain, "state": state,
        "trust": 0.5, "expires_at": 0, "own": own, "rests": None,
    }  # fmt: skip


class FakeCore:
    """`says` gives for a job what is heard of it; by default one answer. `asked` is what came."""

    def __init__(self, says=None, *, bid=0, providers=None):
        self.says = says or (lambda job: [Ended(answer(f"echo {job.get('prompt')}"))])
        self.seen = {"providers": [listing()] if providers is None else providers, "heard_of": 1, "caught_up": True}
        self.seen["bid_msat"] = bid
        self.asked = []
        self.budgets = []
        # What each question came to by its reservation, as the core tells it: those that are not answered have none.
        self.reserved = []
        self.costs = {}
        self.asked_after = []
        self.unreached = False
        self.cancelled = 0
        self.under_way = 0
        self.answers = {
            "status": {"running": True, "npub": "npub1me", "provider": None, "network": "play"},
            "totals": {"earned_msat": 5, "paid_msat": 7, "unit": "play sat"},
            "jobs": {"jobs": []},
        }

    async def ask(self, job, *, reservation, budget_msat, stream):
        self.asked.append(job)
        self.reserved.append(reservation)
        self.budgets.append(budget_msat)
        self.under_way += 1
        whole = False
        try:
            yield Begun()
            for one in self.says(job):
                if isinstance(one, Exception):
                    raise one
                if isinstance(one, asyncio.Event):
                    await one.wait()
                elif not isinstance(one, Said) or stream:
                    whole = isinstance(one, Ended)
                    yield one
        finally:
            self.under_way -= 1
            self.cancelled += not whole

    async def result(self, method, params=None):
        await asyncio.sleep(0)
        if method == "providers":
            return self.seen
        if method == "reservations":
            if self.unreached:
                raise UnreachableError("no node is running here")
            self.asked_after.append(params["names"])
            return {"reservations": {name: self.costs.get(name, cost()) for name in params["names"]}}
        if self.answers.get(method) is None:
            raise UnreachableError("no node is running here")
        return self.answers[method]


def gateway_of(
    core, tmp_path, *, most_msat=1_000_000, token=TOKEN, names=(), loopback=True, clock=None, rules=None, **settings
):
    rules = rules or AccessRules(token, frozenset(names), loopback)
    return Gateway(core, GatewaySettings(tmp_path, most_msat, **settings), rules, clock)


@asynccontextmanager
async def client_of(gateway, *, token=TOKEN, host="127.0.0.1:7448", **more):
    """A client within the process: everything but the server's sockets is real."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(gateway.app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}", headers=headers, **more) as client:
        yield client
