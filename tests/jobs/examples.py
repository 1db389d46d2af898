"""Two keys, a maximal example of each value, and strategies that make any value the language can say."""

from dataclasses import replace

from hypothesis import strategies as st

from pylon.jobs.announcement import Announcement, OfferedModel
from pylon.jobs.answer import Address, Amount
from pylon.jobs.codes import ErrorCode
from pylon.jobs.feedback import MAX_MESSAGE, Feedback, Status
from pylon.jobs.heartbeat import MAX_EXPIRY_S, Heartbeat
from pylon.jobs.kinds import REQUEST_KINDS, RESULT_KINDS, RLM_REQUEST, TEXT_REQUEST, result_kind
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest
from pylon.jobs.result import TIMING_STEP_MS, Finish, JobResult, ModelUsed, Timing
from pylon.money.accounts.receipt import AccountReceipt, AccountSeen
from pylon.money.accounts.usage import Usage
from pylon.money.msat import MAX_MSAT, Msat
from pylon.money.price import Price
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.keys import SecretKey

CUSTOMER = SecretKey(bytes.fromhex("01" * 32))
PROVIDER = SecretKey(bytes.fromhex("02" * 32))
CUSTOMER_KEYS = ConversationKeys(CUSTOMER)
PROVIDER_KEYS = ConversationKeys(PROVIDER)
NOW = 1_800_000_000
REQUEST_ID = "ab" * 32
EPOCH = "00112233445566ff"
SHA256 = "9f" * 32

ADDRESS = Address(REQUEST_ID, CUSTOMER.public, private=True, expiration=NOW + 3_600)
PARAMETERS = JobParameters(
    model="needle-1",
    system="Answer with one word.",
    messages=True,
    max_tokens=64,
    temperature=0.7,
    top_p=0.95,
    top_k=40,
    frequency_penalty=0.5,
    seed=42,
    stop=("\n\n", "END"),
    format="json_schema",
    schema='{"type":"object"}',
    stream=True,
)
REQUEST = JobRequest(
    text='[{"role":"user","content":"What is the capital of France?"}]',
    parameters=PARAMETERS,
    kind=RLM_REQUEST,
    output="application/json",
    bid=Msat(5_000),
    topup=Msat(50_000),
    account_seen=AccountSeen(EPOCH, 6, Msat(7_500)),
    expiration=NOW + 600,
)
RECEIPT = AccountReceipt(EPOCH, 7, 1_500, Msat(9_000), Msat(20_000))
FEEDBACK = Feedback(ADDRESS, Status.ERROR, ErrorCode.BUSY, "12 jobs wait here already", 0, Amount(Msat(9), "lnbcrt1"))
RESULT = JobResult(
    ADDRESS,
    result_kind(RLM_REQUEST),
    "Paris",
    ModelUsed("needle-1", SHA256, "q8"),
    Usage(17, 1),
    Timing(50, 1_250),
    Finish.STOP,
    Amount(Msat(1_500), "lnbcrt15n1example"),
    RECEIPT,
)
ANNOUNCEMENT = Announcement(
    "pylon",
    "A Mac in the corner",
    "Small answers, quickly.",
    REQUEST_KINDS,
    (OfferedModel("needle-1", SHA256, "q8", 2_048, 12),),
    Price(Msat(10), Msat(20), Msat(40)),
    "play",
    ("wss://relay.example.com", "ws://127.0.0.1:7777"),
    "pylon/0.1.0",
)
HEARTBEAT = Heartbeat(
    "pylon", 8, 3, 1.5, 900.0, 120.5, (("needle-1", SHA256),), "10/20/40", True, "battery", NOW + 120
)


def plain_request(text: str = "hello", *tags: tuple[str, ...], kind: int = TEXT_REQUEST) -> Event:
    """A request as a customer writes it who knows NIP-90 only."""
    return CUSTOMER.sign(EventDraft(kind, "", (("i", text, "text"), *tags), NOW))


def optional[T](strategy: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    return st.none() | strategy


# `Cs` are surrogates, which no UTF-8 text holds; `Cc` control characters, which only sealed text may hold.
unicode = st.characters(exclude_categories=["Cs"])
clean = st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n")
# Of what stands in one line: names, and a few words.
in_line = st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"])
amounts = st.integers(0, MAX_MSAT).map(Msat)
# The largest of jobs must not cost more than there is.
rates = st.integers(0, MAX_MSAT // 3_000_000).map(Msat)
ids = st.binary(min_size=32, max_size=32).map(bytes.hex)
hashes = st.sampled_from(["", SHA256])
times = st.integers(0, 2**53 - 1)
seen = st.builds(AccountSeen, st.just(EPOCH), st.integers(0, 10**9), amounts)
receipts = st.builds(
    AccountReceipt, st.just(EPOCH), st.integers(1, 10**9), st.integers(-MAX_MSAT, MAX_MSAT), amounts, amounts
)
asked = st.builds(Amount, amounts, optional(st.text("lnbcrt1qpzry", min_size=1, max_size=200)))


def parameters(alphabet: st.SearchStrategy[str] = unicode) -> st.SearchStrategy[JobParameters]:
    made = st.builds(
        JobParameters,
        model=optional(st.text(alphabet, min_size=1, max_size=60)),
        system=optional(st.text(alphabet, max_size=200)),
        max_tokens=optional(st.integers(1, 1_000_000)),
        temperature=optional(st.floats(0, 2)),
        top_p=optional(st.floats(0, 1)),
        top_k=optional(st.integers(0, 1_000_000)),
        frequency_penalty=optional(st.floats(-2, 2)),
        seed=optional(st.integers(0, 2**63 - 1)),
        stop=st.lists(st.text(alphabet, min_size=1, max_size=20), max_size=16).map(tuple),
        stream=st.booleans(),
    )
    schema = st.text(alphabet, min_size=1, max_size=100)
    return made | st.builds(lambda p, s: replace(p, format="json_schema", schema=s), made, schema)


def requests(alphabet: st.SearchStrategy[str] = unicode) -> st.SearchStrategy[JobRequest]:
    return st.builds(
        JobRequest,
        text=st.text(alphabet, max_size=2_000),
        parameters=parameters(alphabet),
        kind=st.sampled_from(sorted(REQUEST_KINDS)),
        output=st.sampled_from(["text/plain", "text/markdown", "text", "application/json"]),
        bid=optional(amounts),
        topup=optional(amounts),
        account_seen=optional(seen),
        expiration=optional(st.integers(0, NOW + 366 * 24 * 3_600)),
    )


addresses = st.builds(Address, ids, st.just(CUSTOMER.public), st.booleans(), optional(times))
_codes = st.tuples(st.just(Status.ERROR), optional(st.sampled_from(ErrorCode)))
_others = st.tuples(st.sampled_from([status for status in Status if status is not Status.ERROR]), st.none())
feedbacks = st.builds(
    lambda address, said, text, offset, amount, wait: Feedback(
        address, *said, text, offset, amount, wait if said[0] is Status.PROCESSING else None
    ),
    addresses,
    _codes | _others,
    st.text(clean, max_size=MAX_MESSAGE),
    optional(st.integers(0, 999_999_999)),
    optional(asked),
    optional(st.integers(0, 10**7).map(lambda tenths: tenths / 10)),
)
_steps = st.integers(0, 10**6).map(lambda n: n * TIMING_STEP_MS)
results = st.builds(
    JobResult,
    addresses,
    st.sampled_from(sorted(RESULT_KINDS)),
    st.text(clean, max_size=2_000),
    optional(st.builds(ModelUsed, st.text(in_line, max_size=60), hashes, st.text(in_line, max_size=40))),
    optional(st.builds(Usage, st.integers(0, 10**9), st.integers(0, 10**9))),
    optional(st.builds(Timing, _steps, _steps)),
    optional(st.sampled_from(Finish)),
    optional(asked),
    optional(receipts),
)
announcements = st.builds(
    Announcement,
    st.text(in_line, max_size=200),
    st.text(in_line, max_size=100),
    st.text(clean, max_size=300),
    st.frozensets(st.integers(0, 65_535), max_size=6),
    st.lists(
        st.builds(
            OfferedModel,
            st.text(in_line, max_size=60),
            hashes,
            st.text(in_line, max_size=40),
            st.integers(0, 10**9 - 1),
        ),
        max_size=5,
    ).map(tuple),
    st.builds(Price, rates, rates, rates),
    st.sampled_from(["play", "regtest", "mainnet"]),
    st.lists(st.sampled_from(ANNOUNCEMENT.relays), max_size=20).map(tuple),
    st.text(in_line, max_size=100),
)
_numbers = st.floats(0, 1e9)
_names = st.dictionaries(st.text(in_line, max_size=60), hashes, max_size=5).map(lambda d: tuple(d.items()))
heartbeats = st.builds(
    Heartbeat,
    st.text(in_line, max_size=200),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    _numbers,
    _numbers,
    _numbers,
    _names,
    st.text(in_line, max_size=100),
    st.booleans(),
    st.text(in_line, max_size=100),
    st.integers(0, NOW + MAX_EXPIRY_S),
)
