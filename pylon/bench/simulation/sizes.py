"""The bytes of each message on the wire, measured on events that are really built, encrypted and signed."""

import random
from dataclasses import dataclass

import orjson

from pylon.bench.simulation.clock import EPOCH
from pylon.jobs.announcement import Announcement, OfferedModel, announcement_draft
from pylon.jobs.answer import Address, Amount
from pylon.jobs.cancel import cancel_draft
from pylon.jobs.feedback import Feedback, Status, feedback_draft
from pylon.jobs.heartbeat import Heartbeat, heartbeat_draft
from pylon.jobs.kinds import REQUEST_KINDS, RLM_REQUEST, result_kind
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, private_draft
from pylon.jobs.result import Finish, JobResult, ModelUsed, Timing, result_draft
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey

MODEL = OfferedModel("simulated-model", "ab" * 32, "f16", 8_192)
PROMPT_BYTES = 300
MAX_TOKENS = 100
# Length of a regtest invoice as the playbank makes it, to the nearest ten.
_INVOICE_CHARACTERS = 330
# Bytes around an event: ["EVENT","<subscription>",…].
_FRAME = 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one websocket message of each kind."""

    announcement: int
    heartbeat: int
    request: int
    feedback: int
    invoice: int
    result: int
    cancel: int


def prompt(rng: random.Random) -> str:
    """Words of random letters, which zstd compresses less than prose."""
    letters = "abcdefghijklmnopqrstuvwxyz     "
    return "".join(rng.choices(letters, k=PROMPT_BYTES))


def measure(rng: random.Random) -> Sizes:
    """Builds one message of each kind and counts its bytes."""
    machine, person = SecretKey(rng.randbytes(32)), SecretKey(rng.randbytes(32))
    asking, answering = ConversationKeys(person), ConversationKeys(machine)
    text, wide = prompt(rng), Msat(1_000)
    price = Price(wide, wide, wide)
    job = JobRequest(text, JobParameters(max_tokens=MAX_TOKENS), bid=wide, expiration=EPOCH + 120)
    request = person.sign(private_draft(job, machine.public, asking, created_at=EPOCH))
    address = Address(request.id, person.public, True, EPOCH + 3_720)
    announcement = Announcement(
        "pylon", "a machine", "", REQUEST_KINDS, (MODEL,), price, "play", ("wss://relay.example.org",), "pylon/1"
    )
    beat = Heartbeat("pylon", 16, 16, 0.0, 1234.5, 123.4, ((MODEL.id, MODEL.sha256),), "1000/1000/1000")
    result = JobResult(
        address,
        result_kind(RLM_REQUEST),
        text,
        ModelUsed(MODEL.id, MODEL.sha256, MODEL.quantization),
        Usage(100, MAX_TOKENS),
        Timing(0, 1_000),
        Finish.STOP,
        account=AccountReceipt("ab" * 8, 1_000, 1_000, Msat(1_000_000), Msat(1_000_000)),
    )
    asked = Feedback(address, Status.PAYMENT_REQUIRED, amount=Amount(wide, "l" * _INVOICE_CHARACTERS))

    def size(author: SecretKey, draft: EventDraft) -> int:
        return len(orjson.dumps(author.sign(draft).to_dict())) + _FRAME

    return Sizes(
        size(machine, announcement_draft(announcement, created_at=EPOCH)),
        size(machine, heartbeat_draft(beat, created_at=EPOCH)),
        size(person, EventDraft(request.kind, request.content, request.tags, EPOCH)),
        size(machine, feedback_draft(Feedback(address, Status.PROCESSING), answering, created_at=EPOCH)),
        size(machine, feedback_draft(asked, answering, created_at=EPOCH)),
        size(machine, result_draft(result, answering, request=request, created_at=EPOCH)),
        size(person, cancel_draft((request.id,), RLM_REQUEST, machine.public, created_at=EPOCH)),
    )
