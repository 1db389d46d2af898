"""Whether a request is taken on: values in, a verdict out.

The order matters: what is cheap to refuse comes first, and nothing that is refused costs an invoice, a job's row or
a token.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pylon.jobs.codes import ErrorCode
from pylon.jobs.request import ReceivedRequest
from pylon.jobs.size import question_bytes
from pylon.money.msat import Msat
from pylon.money.price import FREE, Price
from pylon.provider.customers import Standing
from pylon.provider.settings import ProviderSettings
from pylon.records import record


@record
class Load:
    """How busy the provider is, and what it can do, at the moment when a customer's request is judged."""

    # The models that run here, each with the sha256 of its weights, empty while that is not known.
    models: tuple[tuple[str, str], ...]
    # What the customer is, and who waits for the engine in the line of such customers: jobs, the other customers that
    # they are of, and the seconds that one job of each of these takes. Jobs that wait for a payment are left out:
    # strangers can send any number.
    standing: Standing = Standing.STRANGER
    waiting: int = 0
    others: int = 0
    turn_s: float = 0.0
    # This customer's jobs, those that wait for its payment included, and how many those are.
    of_customer: int = 0
    unpaid_of_customer: int = 0
    # A stranger is judged, and no further job of a customer that has never paid may wait for a payment.
    newcomers_full: bool = False
    # Why no job is taken on (an owner rule's name, "owner", "draining"), or empty.
    paused: str = ""
    # The wallet does not answer: paid jobs are refused, never done for free.
    wallet_down: bool = False
    # The engine can make answers follow a JSON schema.
    schemas: bool = False
    # The longest answer that the models are made for, in tokens; 0 if that is not known.
    max_completion_tokens: int = 0


@record
class Accept:
    """The request is taken on, for at most `max_tokens` tokens. `quote` is the most that it may cost, by this
    `price`; `expires_at` is its deadline, in Unix seconds."""

    quote: Msat
    expires_at: int
    model: str
    max_tokens: int
    price: Price = FREE


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request is not taken on, and its customer is told why."""

    code: ErrorCode
    reason: str


@dataclass(frozen=True, slots=True)
class Ignore:
    """The request is passed over in silence: it is not for us, or its customer or form is not served."""


type Verdict = Accept | Refuse | Ignore


def is_heard(customer: str, providers: Sequence[str], settings: ProviderSettings, *, provider: str) -> bool:
    """Whether a request is read at all: it names us (`provider`, our public key) or nobody, and its customer may ask.

    This needs only the event's author and `p` tags, so that an unwanted request costs no decryption.
    """
    if customer in settings.blocked or (providers and provider not in providers):
        return False
    return not settings.only_trusted or customer in settings.trusted


def admit(request: ReceivedRequest, settings: ProviderSettings, load: Load, *, provider: str, now: float) -> Verdict:
    """The verdict on a request, at `now` in Unix seconds. `provider` is our public key."""
    if not is_heard(request.customer, request.providers, settings, provider=provider):
        return Ignore()
    if not form_is_served(settings, private=request.private, named=bool(request.providers)):
        return Ignore()
    trusted = request.customer in settings.trusted
    expires_at = request.job.expiration or request.created_at + settings.max_age_s
    expires_at = min(expires_at, int(now) + settings.max_kept_s)
    if request.created_at > now + settings.max_ahead_s:
        return Refuse(ErrorCode.MALFORMED, "created_at lies in the future")
    if expires_at <= now:
        return Refuse(ErrorCode.EXPIRED, "the deadline had passed when the request arrived")
    if request.job.kind not in settings.kinds:
        return Refuse(ErrorCode.UNSUPPORTED_KIND, f"kind {request.job.kind} is not served here")
    model = _match_model(request.job.parameters.model, load.models)
    if model is None:
        return Refuse(ErrorCode.UNSUPPORTED_MODEL, "this model does not run here")
    if request.job.parameters.format != "text" and not load.schemas:
        return Refuse(ErrorCode.UNSUPPORTED_PARAM, "answers that follow a JSON schema are not supported here")
    if request.job.output == "application/json" and request.job.parameters.format == "text":
        return Refuse(ErrorCode.UNSUPPORTED_PARAM, "JSON answers need a schema: send it as the param `format`")
    size = question_bytes(request.job.text, request.job.parameters.system)
    if size > settings.max_prompt_bytes:
        return Refuse(ErrorCode.TOO_LARGE, f"prompts may have at most {settings.max_prompt_bytes:,} bytes here")
    if load.paused:
        return Refuse(ErrorCode.PAUSED, load.paused)
    if not trusted and (crowd := crowded(settings, load)) is not None:
        return crowd
    if not trusted and load.of_customer >= settings.max_per_customer:
        return Refuse(
            ErrorCode.CUSTOMER_LIMIT, f"a customer may have at most {settings.max_per_customer} jobs waiting here"
        )
    longest = settings.longest_answer(load.max_completion_tokens)
    max_tokens = min(request.job.parameters.max_tokens or settings.default_max_tokens, longest)
    # A token is at least one byte, so the bytes bound the prompt's tokens. The chat template is not in the quote.
    price = FREE if trusted else settings.price
    quote = price.quote(size, max_tokens)
    if request.job.bid is not None and quote > request.job.bid:
        return Refuse(ErrorCode.BID_TOO_LOW, f"this may cost up to {quote} msat")
    if quote and load.wallet_down:
        return Refuse(ErrorCode.PAUSED, "wallet")
    if quote and load.unpaid_of_customer >= settings.max_unpaid_per_customer:
        return Refuse(
            ErrorCode.CUSTOMER_LIMIT, f"{load.unpaid_of_customer} jobs of this customer are waiting for its payment"
        )
    return Accept(quote, expires_at, model, max_tokens, price)


def form_is_served(settings: ProviderSettings, *, private: bool, named: bool) -> bool:
    """Whether requests of this form are served. `named`: it names its providers."""
    if private:
        return named
    return settings.serve_open if named else settings.serve_broadcast


def crowded(settings: ProviderSettings, load: Load) -> Refuse | None:
    """The refusal of a customer whose line has no place for one more job; None if it has.

    Customers are counted as well as jobs: each takes a turn from every other, and a flood has a key for each job. And
    whoever has many jobs in the line leaves as many places for others: so no few keys can fill it. The next place
    that becomes free goes to whoever asks next, so the chance of each in a flood is its share of the requests.
    """
    if load.waiting >= settings.max_queue:
        return Refuse(ErrorCode.BUSY, f"{load.waiting} jobs of {load.standing} customers are already waiting here")
    own = load.of_customer - load.unpaid_of_customer
    if load.newcomers_full and not own:
        # It might have had a trial job instead. But a flood has used up the day's by then.
        return Refuse(ErrorCode.BUSY, "no more jobs of new customers may wait for a payment here")
    if not own and load.others >= settings.max_customers:
        wait = f"about {max(1, round(load.turn_s))} s"
        return Refuse(ErrorCode.BUSY, f"{load.others} other {load.standing} customers are waiting here, {wait}")
    if own and own >= settings.max_queue - load.waiting:
        return Refuse(ErrorCode.CUSTOMER_LIMIT, "the places that are left here are for other customers")
    return None


def _match_model(wanted: str | None, models: Iterable[tuple[str, str]]) -> str | None:
    for id_, sha256 in models:
        if wanted is None or wanted == id_ or (sha256 and wanted == f"sha256:{sha256}"):
            return id_
    return None
