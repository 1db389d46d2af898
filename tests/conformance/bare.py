"""A provider of a hundred lines that keeps to the schema, except where a test tells it not to."""

import asyncio
import time
from collections import defaultdict

import orjson

from pylon.jobs.codes import RequestError
from pylon.jobs.request import JobRequest, ReceivedRequest, parse_request
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft, Tag, expiration
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool

KINDS = frozenset({5050, 5940})
STRANGER = SecretKey(bytes(31) + b"\x63")
MODEL = ("bare-model", "ab" * 32, "none")
# No fault: each refusal is one for many.
SHARES = "shares its refusals"
# How long after its cancellation a long answer is there: between `GRACE_S` and the end of the silence that is waited
# for, so that an ignored one is seen to be.
LONG_S = 1.4
EVERY_KIND = ("serves every kind", "bills every kind")
# Faults of reading: what is served nevertheless, by a word of our reader's objection; what is met with silence.
OVERLOOKS = {"overlooks parameters": "the parameter 'x-", "fetches inputs": "inputs of type"}
SILENT_ABOUT = {"passes over what does not open": "undecryptable", "passes over bombs": "too_large"}


class BareProvider:
    """An async context manager; `fault` names what it does wrong, or `SHARES`."""

    def __init__(self, relay: str, fault: str = "") -> None:
        self.secret = SecretKey.generate()
        self.fault = fault
        self._keys = ConversationKeys(self.secret)
        self._pool = RelayPool([relay], secret=self.secret)
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._customers: dict[str, str] = {}
        self._taken_back: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._task: asyncio.Task[None] | None = None

    @property
    def public(self) -> str:
        return self.secret.public

    async def __aenter__(self) -> "BareProvider":
        self._pool.start()
        await self._pool.wait_open()
        subscription = self._pool.subscribe(self._filters, name="jobs")
        await subscription.caught_up.wait()

        async def listen() -> None:
            async for received in subscription:
                await self._take(received.event)

        self._task = asyncio.create_task(listen())
        await self._announce()
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._jobs.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.close()

    def _filters(self) -> tuple[Filter, ...]:
        mine = Filter(tags={"p": frozenset({self.public})})
        return (mine, Filter(kinds=KINDS)) if self.fault == "serves others' requests" else (mine,)

    # --- being seen -------------------------------------------------------------------------------------------

    async def _announce(self) -> None:
        relays = () if self.fault != "announces no relay address" else (("relays", "example.com"),)
        model = ("model", MODEL[0], "abc" if self.fault == "announces a short hash" else MODEL[1], MODEL[2], "4096")
        tags: list[Tag] = [("d", "bare"), ("k", "5050"), ("k", "5940"), model, ("price", "0", "0", "0"), *relays]
        if self.fault != "prices in no money":
            tags.append(("network", "play"))
        if self.fault != "announces no version":
            tags.append(("v", "pylon/1"))
        if self.fault != "announces nothing":
            await self._publish(31990, "{}", tags)
        beat: list[Tag] = [("d", "bare"), ("v", "pylon/1")]
        now = int(time.time())
        if self.fault != "beats without an end":
            beat.append(("expiration", str(now + 120)))
        if self.fault != "has no heartbeat":
            old = now - 400 if self.fault == "beat long ago" else now
            await self._publish(11998, '{"slots":4,"slots_free":4}', beat, created_at=old)

    # --- jobs -------------------------------------------------------------------------------------------------

    async def _take(self, event: Event) -> None:
        if event.kind == 5:
            await self._cancel(event)
        elif 5_000 <= event.kind < 6_000 and (event.kind in KINDS or self.fault in EVERY_KIND):
            self._jobs[event.id] = asyncio.create_task(self._serve(event))
            self._customers[event.id] = event.pubkey

    async def _cancel(self, event: Event) -> None:
        for request in event.tag_values("e"):
            self._taken_back[request].set()
            allowed = self._customers.get(request) == event.pubkey or self.fault == "lets anybody cancel"
            if request not in self._jobs or not allowed or self.fault == "ignores cancellations":
                continue
            if self._jobs[request].cancel() and self.fault == "makes codes up":
                await self._feedback(event.pubkey, request, ("error", "no_longer"), private=True)

    async def _serve(self, event: Event) -> None:
        private = any(tag[0] == "encrypted" for tag in event.tags)
        try:
            request = self._read(event)
        except RequestError as error:
            if event.tag("p") == self.public:
                await self._refuse(event, error.code.value, private=private)
            return
        code = self._objection(event, request)
        if code is not None:
            await self._refuse(event, code, private=private)
        elif self._bills(event):
            await self._feedback(event.pubkey, event.id, ("payment-required", ""), private=private)
        elif self._heeds(event, request, private=private):
            if request.job.parameters.max_tokens == 512:
                # From when somebody, its customer or not, has taken it back: however long that is on its way.
                await self._taken_back[event.id].wait()
                await asyncio.sleep(LONG_S)
            for number in range(2 if self.fault == "answers twice" else 1):
                await self._answer(event, request, number)

    def _read(self, event: Event) -> ReceivedRequest:
        if event.kind not in KINDS:
            event = Event(event.id, event.pubkey, event.created_at, 5050, event.tags, event.content, event.sig)
        try:
            return parse_request(event, self._keys)
        except RequestError as error:
            if self.fault not in OVERLOOKS or OVERLOOKS[self.fault] not in str(error):
                raise
            return ReceivedRequest(event.id, event.pubkey, 0, JobRequest("?"), True, (self.public,))

    def _objection(self, event: Event, request: ReceivedRequest) -> str | None:
        late = (expiration(event) or 2**40) <= time.time()
        if late and self.fault not in ("accepts what expired", "bills what expired"):
            return "expired"
        if _is_old(event) and self.fault not in ("does what is old", "bills what is old"):
            return "expired"
        if request.job.parameters.model not in (None, MODEL[0]):
            return "unsupported_kind" if self.fault == "confuses codes" else "unsupported_model"
        if request.job.parameters.messages and self.fault == "reads no chats":
            return "unsupported_param"
        if event.tag("encoding") and self.fault == "reads no zstd":
            return "undecryptable"
        return "unsupported_kind" if not request.private and self.fault == "refuses open requests" else None

    def _bills(self, event: Event) -> bool:
        return {
            "bills what is old": _is_old(event),
            "bills what expired": (expiration(event) or 2**40) <= time.time(),
            "bills every kind": event.kind not in KINDS,
        }.get(self.fault, False)

    def _heeds(self, event: Event, request: ReceivedRequest, *, private: bool) -> bool:
        if request.providers and self.public not in request.providers and self.fault != "serves others' requests":
            return False
        bare = private and b'"text"' not in self._keys.decrypt(event.pubkey, event.content)[:10]
        if self.fault == "reads no bare lists" and bare and not event.tag("encoding"):
            return False
        return self.fault != "is silent" and not (self.fault == "serves one kind" and private and event.kind == 5050)

    async def _refuse(self, event: Event, code: str, *, private: bool) -> None:
        if code == "malformed" and self.fault != "answers the malformed":
            return
        if SILENT_ABOUT.get(self.fault) == code:
            return
        await self._feedback(event.pubkey, event.id, ("error", code), private=private)

    # --- answers ----------------------------------------------------------------------------------------------

    async def _feedback(self, customer: str, request: str, status: Tag, *, private: bool) -> None:
        outside: tuple[Tag, ...] = (("e", request), ("p", customer), ("v", "pylon/1"))
        inner: tuple[Tag, ...] = (("status", *status),)
        if self.fault == SHARES and status[0] == "error":
            others: tuple[Tag, ...] = (
                ("e", "ab" * 32),
                ("p", STRANGER.public),
                ("expiration", str(int(time.time()) + 60)),
            )
            await self._publish(7000, "", (*others, *outside, *inner))
            return
        if private and self.fault != "refuses in the clear":
            await self._publish(7000, self._seal(customer, "", inner), (*outside, ("encrypted",)))
        else:
            await self._publish(7000, "", (*outside, *inner))

    async def _answer(self, event: Event, request: ReceivedRequest, number: int) -> None:
        fault = self.fault if request.private else ""
        text = "eight\x07" if fault == "writes control characters" else f"eight {number}"
        receipt = {
            "model": ("model", *MODEL),
            "usage": ("usage", "6", "99999" if fault == "writes more than asked" else "1"),
            "timing": ("timing", "0", "37" if fault == "times to the millisecond" else "50"),
            "finish": ("finish", "cancelled" if fault == "was told to stop by nobody" else "stop"),
        }
        inner = tuple(tag for name, tag in receipt.items() if fault != f"leaves out {name}")
        outside: dict[str, tuple[Tag, ...]] = {
            "e": (("e", event.id),),
            "p": (("p", event.pubkey),),
            "v": (("v", "pylon/1"),),
            "expiration": (("expiration", str(int(time.time()) + 3_600)),),
        }
        if fault == "names somebody else first":
            outside["p"] = (("p", STRANGER.public), *outside["p"])
        tags = tuple(tag for name, some in outside.items() if fault != f"leaves out {name}" for tag in some)
        kind = 6_001 if fault == "answers in another kind" else event.kind + 1_000
        signer = STRANGER if fault == "lets another sign" else self.secret
        if request.private and request.plain and fault != "answers bare lists in the envelope":
            echo = () if fault != "shows plain customers the model" else (("model", "bare-model"),)
            content = ConversationKeys(signer).encrypt(event.pubkey, text.encode())
            await self._publish(kind, content, (*tags, ("encrypted",), *echo), signer=signer)
            return
        if request.private and fault != "answers in the clear":
            leak: tuple[Tag, ...] = (("model", "bare-model"),) if fault == "shows the model" else ()
            content = self._seal(event.pubkey, text, inner, signer)
            await self._publish(kind, content, (*tags, ("encrypted",), *leak), signer=signer)
            return
        echo = (*(tag for tag in event.tags if tag[0] == "i"), ("request", event.to_json().decode()))
        if self.fault == "echoes nothing" or request.private:
            echo = ()
        if self.fault == "seals open answers":
            await self._publish(kind, self._seal(event.pubkey, text, inner), (*tags, ("encrypted",), *echo))
        else:
            await self._publish(kind, text, (*tags, *inner, *echo))

    def _seal(self, customer: str, text: str, tags: tuple[Tag, ...], signer: SecretKey | None = None) -> str:
        keys = self._keys if signer in (None, self.secret) else ConversationKeys(STRANGER)
        return keys.encrypt(customer, orjson.dumps({"text": text, "tags": tags}))

    async def _publish(
        self, kind: int, content: str, tags: object, *, created_at: int | None = None, signer: SecretKey | None = None
    ) -> None:
        draft = EventDraft(kind, content, tuple(map(tuple, tags)), created_at)  # type: ignore[call-overload]
        await self._pool.publish((signer or self.secret).sign(draft))


def _is_old(event: Event) -> bool:
    return event.created_at < time.time() - 900
