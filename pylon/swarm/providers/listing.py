"""One provider as a customer sees it, and what a job needs of one."""

from collections.abc import Callable
from dataclasses import field

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.kinds import RLM_REQUEST, TEXT_REQUEST
from pylon.money.msat import ZERO, Msat
from pylon.money.price import FREE, Price
from pylon.records import record

# Prose has three to five characters a token; fewer tokens than this no tokenizer makes of it.
_CHARS_PER_TOKEN = 6
_SHA256 = "sha256:"


def _unfunded() -> bool:
    return False


@record
class Listing:
    """What is known of a provider that is alive. Speeds are tokens per second, 0 when it has not said.

    `plain` providers know NIP-90 but not `pylon/1`: they are asked in the open form, and say nothing of models.
    Who is not `priced` does not say what it charges: it is asked for what it does for nothing, and `price` is that.
    `paused` is the reason why it takes nothing on, or empty.
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
    # What this customer adds. The most jobs in flight that purse and reputation allow (None: what the slots allow),
    # how much it is trusted (0 to 1), whether it is our own machine, whether it answered us of late.
    width: int | None = field(default=None, compare=False)
    trust: float = field(default=1.0, compare=False)
    own: bool = field(default=False, compare=False)
    familiar: bool = field(default=False, compare=False)
    # Why nothing may go there, where it may not: with it a provider leaves the pools of candidates.
    barred: str = ""
    # Whether money or credit of ours is there. It is asked: any receipt may change it, and few decisions turn on it.
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
        """The same, with what this customer adds."""
        # Once a heartbeat, where `replace` costs as much as all that comes of it.
        return Listing(
            self.provider, self.d, self.name, self.kinds, self.models, self.price, self.network, self.relays,
            self.slots, self.slots_free, self.queue_s, self.tokens_in_per_s, self.tokens_out_per_s, self.paused,
            self.loading, self.plain, self.priced, width, trust, own, familiar, barred, funded,
        )  # fmt: skip

    def model(self, wanted: str | None) -> OfferedModel | None:
        """Its model of that id or `sha256:…`; the first one when any will do."""
        return next((m for m in self.models if wanted is None or wanted in names_of(m)), None)

    def longest(self, wanted: str | None) -> int:
        """The longest answer that it announces with that model, in tokens; 0 where it says none."""
        model = self.model(wanted)
        return 0 if model is None else model.max_completion_tokens


TOO_DEAR = "too expensive"
PAUSED = "paused"
WITHOUT_MODEL = "without this model"
TOO_SHORT = "with too short a context window"


@record
class Need:
    """What a provider must be for a job to go there. Equal needs share one pool of candidates.

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
        """Why this provider does not do, in a few words for people, or empty when it does. The words follow a number
        as well as a name: "1 paused, 4 without this model".
        """
        if self.allow is not None and listing.provider not in self.allow:
            return "not on the allow list"
        if listing.provider in self.block:
            return "blocked"
        if listing.barred:
            return listing.barred
        if listing.paused:
            return PAUSED
        if listing.loading:
            return "still loading"
        if listing.plain:
            return self._why_not_plain(listing)
        if self.kind not in listing.kinds:
            return f"not serving kind {self.kind}"
        model = listing.model(self.model)
        if self.model is not None and model is None:
            return WITHOUT_MODEL
        if model is not None and 0 < model.context < self.context:
            return TOO_SHORT
        return self._why_not_price(listing)

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
    """What a job may call this model."""
    return (model.id, f"{_SHA256}{model.sha256}") if model.sha256 else (model.id,)


def least_tokens(characters: int, max_tokens: int) -> int:
    """What a job takes of a context at the very least, its answer included."""
    return characters // _CHARS_PER_TOKEN + max_tokens


def least_context(characters: int, max_tokens: int) -> int:
    """The context a job needs at the very least: a power of two, rounded down, so that few pools are needed.

    It errs towards too little: a provider that cannot hold the job says `too_large`, and it goes elsewhere.
    """
    tokens = least_tokens(characters, max_tokens)
    return 1 << (tokens.bit_length() - 1) if tokens else 0
