"""Explains that no provider takes a job: who is there, why they do not, and what to do about it."""

from dataclasses import dataclass

from pylon.errors import UnreachableError
from pylon.money.limits import Limit
from pylon.money.wallet import WalletCode
from pylon.swarm.providers.listing import LOADING, PAUSED, TOO_DEAR, TOO_SHORT, WITHOUT_MODEL, Need
from pylon.text import counted

# Its name in the API, and as an option of commands.
ANSWER_TOKENS = "`max_tokens` (`--max-tokens` of a command)"

UNFUNDED = "not paid, because the wallet holds too little"
UNPRICED = "asking to be paid without announcing a price"
NO_WALLET = "not paid, because no wallet is connected"
STOPPED = "not paid, because the STOP file halts all spending"


def limited(code: Limit | WalletCode) -> str:
    """The reason that a limit of ours, or of the wallet's, does not allow the payment."""
    return f"not paid, because one of our limits is reached ({code.value})"


CONNECT = "Run `pylon wallet connect`. A running node uses the wallet after its next start."
_AGAIN = " Each of them is asked again when its unpaid invoice has expired, within a quarter of an hour."
_DEAR = (
    f"The price is above the limit for one payment. Fewer {ANSWER_TOKENS} make a job cheaper; for "
    "live money, `pylon wallet go-live --payment SATS` raises the limit."
)
_LIMITS: dict[Limit | WalletCode, str] = {
    Limit.PAYMENT: _DEAR,
    Limit.FEE: _DEAR,
    Limit.JOB: _DEAR,
    Limit.DAY: (
        "`pylon wallet balance` shows what is used; it becomes free a day after it was spent. For "
        "live money, `pylon wallet go-live --day SATS` raises the limit."
    ),
    Limit.RUN: (
        "A command that runs by itself pays no more than this; the next one may pay again, and a "
        "running node (`pylon start`) has no such limit. For live money, `pylon wallet go-live --day "
        "SATS` raises the limit."
    ),
    Limit.ALL: (
        "`pylon wallet balance` shows what is used. For live money, `pylon wallet go-live --all "
        "SATS` raises the limit; with other money it cannot be raised."
    ),
    WalletCode.QUOTA_EXCEEDED: (
        "The budget that the wallet set for this link is used up. Raise it in the wallet, or wait until it renews."
    ),
}
_HINTS = {
    NO_WALLET: CONNECT,
    UNFUNDED: (
        "`pylon wallet balance` shows what it holds. After you add money, each provider is asked "
        "again when its unpaid invoice has expired, within a few minutes."
    ),
    STOPPED: "To go on, remove the file STOP in PYLON_HOME.",
    **{limited(code): f"{hint}{_AGAIN}" for code, hint in _LIMITS.items()},
    TOO_DEAR: (
        "{dear}You offer at most {bid:,} msat per job: `bid_msat` in [customer], which a running "
        "node reads at its next start. {cheaper}"
    ),
    LOADING: (
        "Ask again when the model is loaded; `pylon providers` shows who is ready. A command waits for that as long "
        "as for an answer: set `--timeout`, or `timeout_s` in [customer], which a running node reads at its next "
        "start."
    ),
    TOO_SHORT: (
        "`pylon providers --json` shows each model's context window (`contexts`). Send less at once, "
        f"or ask for fewer {ANSWER_TOKENS}; `pylon rlm` reads texts of any length."
    ),
}

# How many reasons are told. Strangers can add some: a payment network has any name.
_TOLD = 8


@dataclass(frozen=True, slots=True)
class Quoted:
    """A provider's quote: the most that it asks for a job, in msat, and for how many tokens.

    `longest` is the longest answer that it announces, in tokens; 0 if it announces none.
    """

    msat: int
    prompt_tokens: int
    max_tokens: int
    longest: int = 0

    def __str__(self) -> str:
        though = f", though it gives at most {self.longest:,}" if self.is_short else ""
        tokens = f"{self.prompt_tokens:,} prompt tokens and {self.max_tokens:,} answer tokens"
        return f"{self.msat:,} msat for {tokens}{though}"

    @property
    def is_short(self) -> bool:
        """Whether it announces shorter answers than the quote counts."""
        return 0 < self.longest < self.max_tokens


@dataclass(frozen=True, slots=True)
class Lack:
    """`known` providers were heard of, of which `alive` are alive; `reasons` counts why these do not meet the need.

    `refusals` are the words of relays that answer us nothing; `cheapest` is the lowest quote of those that are too
    dear; `models` are those that the live providers run.
    """

    need: Need
    known: int
    alive: int
    reasons: dict[str, int]
    refusals: tuple[str, ...] = ()
    cheapest: Quoted | None = None
    models: tuple[str, ...] = ()

    def __str__(self) -> str:
        most = sorted(self.reasons, key=self.reasons.__getitem__, reverse=True)[:_TOLD]
        why = "".join(f"; {self.reasons[reason]} {reason}" for reason in sorted(most))
        if rest := sum(self.reasons.values()) - sum(self.reasons[reason] for reason in most):
            why += f"; {rest} for other reasons"
        return f"{counted(self.known, 'provider')} heard of, {self.alive} alive{why}"

    @property
    def hint(self) -> str:
        """What to do about it; empty if there is nothing more to say than that nobody is there."""
        if self.refusals and not self.alive:
            return f"No relay tells us who is there: {'; '.join(self.refusals)[:300]}"
        # Our own faults come first: however many strangers are too dear, they must not hide an empty wallet.
        found = next((hint for reason, hint in _HINTS.items() if reason in self.reasons), "")
        if self.alive and self.reasons.get(PAUSED) == self.alive:
            found = "`pylon providers` shows why. After `pylon pause`, run `pylon resume` to take jobs again."
        if not found and WITHOUT_MODEL in self.reasons and self.models:
            more = f" and {len(self.models) - _TOLD} more" if len(self.models) > _TOLD else ""
            return f"Available: {', '.join(self.models[:_TOLD])}{more}; `pylon providers` shows who runs them."
        return found.format(bid=int(self.need.bid), dear=self._dear(), cheaper=self._cheaper()).rstrip()

    def _dear(self) -> str:
        return "" if self.cheapest is None else f"The cheapest of these charges up to {self.cheapest}. "

    def _cheaper(self) -> str:
        if not self.need.bid:
            # With a bid of 0 a shorter answer is too dear as well.
            return ""
        # The price is bounded by the answer that is asked for, and not by what a stranger announces.
        if self.cheapest is not None and self.cheapest.is_short:
            return f"Or ask for {self.cheapest.longest:,} {ANSWER_TOKENS}; then only that many are counted."
        return f"Or ask for fewer {ANSWER_TOKENS}."

    def error(self) -> UnreachableError:
        """The error to raise to a caller."""
        hint = self.hint or "Run `pylon start` to start one, or `pylon providers` to see who is there."
        return UnreachableError(f"no provider can take this: {self}", hint=hint)
