"""A listing, which is one provider as a customer sees it; and a need, which is what a job requires of a provider."""

from collections.abc import Callable
from dataclasses import field

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.kinds import RLM_REQUEST, TEXT_REQUEST
from pylon.money.msat import ZERO, Msat
from pylon.money.price import FREE, Price
from pylon.records import record

# Prose has three to five characters a token; no tokenizer packs more than this into one.
_CHARS_PER_TOKEN = 6
_SHA256 = "sha256:"


def _unfunded() -> bool:
    return False


@record
class Listing:
    """What is known of a provider that is alive. Speeds are tokens per second, 0 when it has not said.

    `plain` providers know NIP-90 but not `pylon/1`: they are asked in the open form, and name no models. One that is
    not `priced` does not say what it charges: it is only asked for free work, and its `price` is zero. `paused` is
    the reason why it takes no jobs, or empty.
    """

    provider: str
    d: str = ""
    name: str = ""
    kinds: frozenset[int] = frozenset({RLM_REQUEST, TEXT_REQUEST})
    models: tuple[OfferedModel, ...] = ()
    price: Price = FREE
    network: str = ""
    relays: tuple[str, ...] = ()
    slots: int = 1
    slots_free: int = 1
    queue_s: float = 0.0
    tokens_in_per_s: float = 0.0
    tokens_out_per_s: float = 0.0
    paused: str = ""
    loading: bool = False
    plain: bool = False
    priced: bool = True
    # What this customer adds: how many jobs in flight purse and reputation allow (None: as many as it has slots for),
    # how much it is trusted (0 to 1), whether it is our own machine, whether it answered us lately.
    width: int | None = field(default=None, compare=False)
    trust: float = field(default=1.0, compare=False)
    own: bool = field(default=False, compare=False)
    familiar: bool = field(default=False, compare=False)
    # Why nothing may be sent there, or empty. A provider with a reason leaves all lanes.
    barred: str = ""
    # Whether we have money or credit there. A function, since any receipt may change it and few decisions ask.
    funded: Callable[[], bool] = field(default=_unfunded, compare=False, repr=False)

    def seen_as(
        self,
        width: int | None,
        trust: float,
        own: bool,
        familiar: bool,
        barred: str,
        funded: Callable[[], bool] = _unfunded,
    ) -> "Listing":
        """A copy with what this customer adds."""
        # Called for each heartbeat, where `replace` would cost as much as all that follows.
        return Listing(
            self.provider, self.d, self.name, self.kinds, self.models, self.price, self.network, self.relays,
            self.slots, self.slots_free, self.queue_s, self.tokens_in_per_s, self.tokens_out_per_s, self.paused,
            self.loading, self.plain, self.priced, width, trust, own, familiar, barred, funded,
        )  # fmt: skip

    def model(self, wanted: str | None) -> OfferedModel | None:
        """Its model of this id or `sha256:…`; its first one for None. None if it has no such model."""
        return next((m for m in self.models if wanted is None or wanted in names_of(m)), None)

    def longest(self, wanted: str | None) -> int:
        """The longest answer that it announces for this model, in tokens; 0 if it announces none."""
        model = self.model(wanted)
        return 0 if model is None else model.max_completion_tokens


TOO_DEAR = "too expensive"
PAUSED = "paused"
WITHOUT_MODEL = "without this model"
LOADING = "still loading"
TOO_SHORT = "with too short a context window"


@record
class Need:
    """What a job requires of its provider. Jobs of equal needs share one lane.

        Need(model="needle-1")                       # by id
        Need(model="sha256:3f…")                     # by weights
        Need(allow=frozenset({key}))                 # these keys only

    `context` is in tokens. `bid` is the most that one job may cost, for `prompt_tokens` in and `max_tokens` out.
    `plain` admits providers that read the open form only, which every relay can read too.
    """

    model: str | None = None
    kind: int = RLM_REQUEST
    context: int = 0
    bid: Msat = ZERO
    prompt_tokens: int = 0
    max_tokens: int = 0
    network: str = ""
    allow: frozenset[str] | None = None
    block: frozenset[str] = frozenset()
    plain: bool = False

    def why_not(self, listing: Listing) -> str:
        """Why this provider does not meet the need, in a few words for people; empty if it does.

        The words follow a number as well as a name: "1 paused, 4 without this model".
        """
        if self.allow is not None and listing.provider not in self.allow:
            return "not on the allow list"
        if listing.provider in self.block:
            return "blocked"
        if listing.barred:
            return listing.barred
        if listing.paused:
            return PAUSED
        unfit = self._why_not_plain(listing) if listing.plain else self._why_not_able(listing)
        # Last, since one that is loading is waited for: one that is unfit will be so with its model loaded.
        return unfit or (LOADING if listing.loading else "")

    def _why_not_able(self, listing: Listing) -> str:
        if self.kind not in listing.kinds:
            return f"not serving kind {self.kind}"
        model = listing.model(self.model)
        if self.model is not None and model is None and not self._is_untold(listing):
            return WITHOUT_MODEL
        if model is not None and 0 < model.context < self.context:
            return TOO_SHORT
        return self._why_not_price(listing)

    def _is_untold(self, listing: Listing) -> bool:
        """Whether this provider may turn out to have the model: one that is loading may not know yet what it is, or
        the hash of its weights."""
        if not listing.loading:
            return False
        by_weights = self.model is not None and self.model.startswith(_SHA256)
        return not listing.models or (by_weights and not all(model.sha256 for model in listing.models))

    def _why_not_plain(self, listing: Listing) -> str:
        if not self.plain:
            return "reading only the open form"
        if TEXT_REQUEST not in listing.kinds:
            return f"not serving kind {TEXT_REQUEST}"
        return "not stating any model" if self.model is not None else ""

    def _why_not_price(self, listing: Listing) -> str:
        if listing.price.is_free or listing.own:
            return ""
        if listing.network != self.network:
            return f"taking payment on {listing.network or 'an unnamed network'}"
        return TOO_DEAR if listing.price.quote(self.prompt_tokens, self.max_tokens) > self.bid else ""


def names_of(model: OfferedModel) -> tuple[str, ...]:
    """The names by which a job may ask for this model."""
    return (model.id, f"{_SHA256}{model.sha256}") if model.sha256 else (model.id,)


def least_tokens(characters: int, max_tokens: int) -> int:
    """The tokens of context that a job takes at the very least, its answer included."""
    return characters // _CHARS_PER_TOKEN + max_tokens


def least_context(characters: int, max_tokens: int) -> int:
    """The least context that a job needs, in tokens: rounded down to a power of two, so that few lanes are needed.

    It errs on the low side: a provider whose context is too small refuses with `too_large`, and the job goes
    elsewhere.
    """
    tokens = least_tokens(characters, max_tokens)
    return 1 << (tokens.bit_length() - 1) if tokens else 0
