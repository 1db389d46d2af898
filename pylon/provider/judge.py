"""Reads and judges a request: it becomes a job, or a refusal, or it is passed over in silence."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from pylon.clock import Clock
from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.request import ReceivedRequest, is_nip04, is_plain, is_sealed, parse_request
from pylon.money.price import FREE
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.pool_subscription import Received
from pylon.provider.admission import Accept, Ignore, Load, Refuse, admit, crowded, form_is_served, is_heard
from pylon.provider.queue import Job
from pylon.provider.refusal import Refusal
from pylon.provider.rows import Pending
from pylon.provider.settings import ProviderSettings

# How old a request may be that is taken on, in seconds: as long as one without a deadline is valid, and clock skew.
# Refusals are remembered for longer: else whoever keeps a request with a late deadline could publish it once more,
# and have it done, and charged, after its customer was told no.
LOOK_BACK_S = 900


class Judge:
    """`provider` is our public key. `load(customer, ahead)` is the load that a customer's request is judged by, with
    the jobs `ahead` of it counted."""

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
        """The admitted job, or the refusal; None for a request that is passed over in silence.

        `ahead` are jobs of the same batch that were admitted before it.
        """
        event, relay = received.event, received.relay
        if not is_heard(event.pubkey, tuple(event.tag_values("p")), self._settings, provider=self._provider):
            return None
        load = self._load(event.pubkey, ahead)
        if (refusal := self._turned_away(event, relay, load)) is not None:
            return refusal
        try:
            request = parse_request(event, self._keys)
        except RequestError as error:
            # A broadcast that names no provider gets no error: every provider would send one.
            return _unreadable(event, relay, error) if self._provider in event.tag_values("p") else None
        now = self._clock.wall()
        verdict = admit(request, self._settings, load, provider=self._provider, now=now)
        # After the verdict: what is passed over when it is new gets no word when it is old either.
        if request.created_at < int(now) - LOOK_BACK_S and not isinstance(verdict, Ignore):
            # One that was taken on in its time is answered as then.
            reason = f"the request was made more than {LOOK_BACK_S // 60} minutes before it arrived"
            return Refusal.to(request, relay, ErrorCode.EXPIRED, reason)
        match verdict:
            case Accept() as terms:
                trusted = request.customer in self._settings.trusted
                return Job(request, event, terms, now, relay, trusted, load.standing)
            case Refuse(code, reason):
                return Refusal.to(request, relay, code, reason)
            case _:
                return None

    def _turned_away(self, event: Event, relay: str, load: Load) -> Refusal | None:
        """The refusal of a request for which there is no place, whatever it holds.

        It is not decrypted: in a flood that would take most of the time, and everybody would wait for it.
        """
        full = crowded(self._settings, load)
        if full is None or load.paused or event.pubkey in self._settings.trusted:
            return None
        sealed, named = is_sealed(event), any(event.tag_values("p"))
        if event.kind not in self._settings.kinds or not form_is_served(self._settings, private=sealed, named=named):
            return None
        private = sealed and not is_nip04(event)
        return Refusal(event.pubkey, event.id, private, relay, full.code, full.reason, is_plain(event))

    def restore(self, pending: Pending) -> Job | Refusal | None:
        """A job that an earlier process left in the journal, on the terms on which it was taken on.

        A refusal if it can no longer be read or run; None if its customer is no longer served.
        """
        event, relay = pending.event, pending.relay
        if not is_heard(event.pubkey, tuple(event.tag_values("p")), self._settings, provider=self._provider):
            return None
        try:
            request = parse_request(event, self._keys)
        except RequestError as error:
            return _unreadable(event, relay, error)
        now = self._clock.wall()
        if pending.expires_at <= now:
            reason = "the deadline passed before the job was done"
            return Refusal.to(request, relay, ErrorCode.EXPIRED, reason)
        load = self._load(request.customer, ())
        # Queue limits and pauses do not count: they were checked when the job was taken on.
        models = _as_then(load.models, request, pending.model)
        room = Load(models, schemas=load.schemas, max_completion_tokens=load.max_completion_tokens)
        agreed = pending.agreed
        # Its price was agreed then, and its customer checks the receipt against that.
        settings = self._settings if agreed is None else replace(self._settings, price=FREE)
        match admit(request, settings, room, provider=self._provider, now=now):
            case Accept() as terms:
                # The old deadline stands: otherwise a job that crashes the node would come back for ever.
                terms = replace(terms, expires_at=pending.expires_at)
                if agreed is not None:
                    longest = min(terms.max_tokens, agreed.max_tokens)
                    terms = replace(terms, quote=agreed.quote, price=agreed.price, max_tokens=longest)
                trusted = request.customer in self._settings.trusted
                return Job(
                    request, event, terms, pending.received_at, relay, trusted, load.standing,
                    pending.sent, again=pending.begun, left=True,
                )  # fmt: skip
            case Refuse(code, reason):
                return Refusal.to(request, relay, code, reason)
            case _:
                return None


def _unreadable(event: Event, relay: str, error: RequestError) -> Refusal:
    # A customer that encrypts with NIP-04 may not be able to read NIP-44: it gets a readable answer.
    private = is_sealed(event) and not is_nip04(event)
    return Refusal(event.pubkey, event.id, private, relay, error.code, str(error), is_plain(event))


def _as_then(
    models: Sequence[tuple[str, str]], request: ReceivedRequest, taken_on_for: str
) -> tuple[tuple[str, str], ...]:
    """The models (id, sha256). For a model that is still loading, the sha256 that the job asked for is filled in.

    When a process takes up old jobs, its model is not loaded yet. The job was taken on for the model
    `taken_on_for`, so what it asked for was right then.
    """
    named = (request.job.parameters.model or "").removeprefix("sha256:")
    return tuple((id_, sha256 or (named if id_ == taken_on_for else "")) for id_, sha256 in models)
