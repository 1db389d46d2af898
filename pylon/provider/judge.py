"""A request as it came, read and judged: a job, what its customer is told instead, or nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pylon.clock import Clock
from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.request import parse_request
from pylon.nostr.nip44 import ConversationKeys
from pylon.nostr.pool_subscription import Received
from pylon.provider.admission import Accept, Load, Refuse, admit, is_heard
from pylon.provider.queue import Job
from pylon.provider.rows import Pending
from pylon.provider.settings import ProviderSettings


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a customer is told about a request that is not taken on. `relay` is where that came from."""

    customer: str
    id: str
    private: bool
    relay: str
    code: ErrorCode
    reason: str


class Judge:
    """`provider` is our public key; `load` tells how things stand for one customer, when these jobs go before it."""

    def __init__(
        self,
        *,
        provider: str,
        keys: ConversationKeys,
        settings: ProviderSettings,
        clock: Clock,
        load: Callable[[str, Sequence[Job]], Load],
    ) -> None:
        self._provider = provider
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._load = load

    def judge(self, received: Received, ahead: Sequence[Job]) -> Job | Refusal | None:
        """The admitted job, or what is said instead; None for what is passed over in silence."""
        event, relay = received.event, received.relay
        # First of all: whoever is not heard costs no opening of its request.
        if not is_heard(event.pubkey, tuple(event.tag_values("p")), self._settings, provider=self._provider):
            return None
        try:
            request = parse_request(event, self._keys)
        except RequestError as error:
            # Silence for what names nobody: others read it too.
            if self._provider not in event.tag_values("p"):
                return None
            private = any(tag[0] == "encrypted" for tag in event.tags)
            return Refusal(event.pubkey, event.id, private, relay, error.code, str(error))
        now = self._clock.wall()
        load = self._load(request.customer, ahead)
        match admit(request, self._settings, load, provider=self._provider, now=now):
            case Accept() as terms:
                return Job(request, event, terms, now, relay, request.customer in self._settings.trusted)
            case Refuse(code, reason):
                return Refusal(request.customer, request.id, request.private, relay, code, reason)
            case _:
                return None

    def restore(self, pending: Pending) -> Job | None:
        """A job that the journal held when the process ended, or None when it can no longer be read or run."""
        try:
            request = parse_request(pending.event, self._keys)
        except RequestError:
            return None
        load = self._load(request.customer, ())
        # It was taken on when there was room for it, and nobody had paused.
        room = Load(load.models, schemas=load.schemas, max_completion_tokens=load.max_completion_tokens)
        terms = admit(request, self._settings, room, provider=self._provider, now=self._clock.wall())
        if not isinstance(terms, Accept):
            return None
        trusted, relay = request.customer in self._settings.trusted, pending.relay
        return Job(
            request, pending.event, terms, pending.received_at, relay, trusted, pending.sent, again=pending.begun
        )
