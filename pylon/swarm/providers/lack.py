"""That nobody takes a job: who is there, why they do not, and what to do about it."""

from dataclasses import dataclass

from pylon.errors import UnreachableError
from pylon.money.limits import Limit
from pylon.money.wallet import WalletCode
from pylon.swarm.providers.listing import PAUSED, TOO_DEAR, TOO_SHORT, WITHOUT_MODEL, Need

# As programs name them, and whoever types a command.
ANSWER_TOKENS = "`max_tokens` (`--max-tokens` of a command)"

UNFUNDED = "not paid, since the wallet holds too little"
UNPRICED = "asking to be paid without announcing a price"
STOPPED = "not paid, since the STOP file halts all spending"


def limited(code: Limit | WalletCode) -> str:
    """That so much may not be spent, by a limit here or by the wallet's."""
    return f"not paid, since a limit of ours is reached ({code.value})"


_AGAIN = " Each of them is asked again when the invoice has run out that it waits for: a quarter of an hour at most."
_DEAR = (
    f"What is asked for is more than one payment may be. Fewer {ANSWER_TOKENS} make a job cheaper; with live money"
    " `pylon wallet go-live --payment SATS` allows more."
)
_LIMITS: dict[Limit | WalletCode, str] = {
    Limit.PAYMENT: _DEAR,
    Limit.FEE: _DEAR,
    Limit.JOB: _DEAR,
    Limit.DAY: "`pylon wallet balance` says what of it is used, which is free again a day later. With live money"
    " `pylon wallet go-live --day SATS` allows more.",
    Limit.RUN: "A command that asks by itself pays no more than this; the next one may again, and a node that runs"
    " (`pylon start`) has no such limit. With live money `pylon wallet go-live --day SATS` allows more.",
    Limit.ALL: "`pylon wallet balance` says what of it is used. With live money `pylon wallet go-live --all SATS`"
    " allows more; of other money a home never spends more than that.",
    WalletCode.QUOTA_EXCEEDED: "The wallet gives this link a budget, which is used up: raise it there, or wait until"
    " it is renewed.",
}
_HINTS = {
    UNFUNDED: "`pylon wallet balance` says what it holds. Once there is more, each of them is asked again when the"
    " invoice has run out that it waits for: a few minutes.",
    STOPPED: "Remove the file STOP in PYLON_HOME to go on.",
    **{limited(code): f"{hint}{_AGAIN}" for code, hint in _LIMITS.items()},
    TOO_DEAR: "{dear}At most {bid:,} msat a job are offered: `bid_msat` in [customer], which a node that runs uses"
    " after its next start. {cheaper}",
    TOO_SHORT: "`pylon providers --json` says how many tokens each model takes (`contexts`). Ask for less at once, or"
    f" for fewer {ANSWER_TOKENS}; `pylon rlm` reads texts of any length.",
}

# Strangers have a say in some: a payment network has any name.
_TOLD = 8


@dataclass(frozen=True, slots=True)
class Quoted:
    """What a provider asks for a job at the most, in msat, and for how many tokens.

    `longest` is the longest answer that it says to give, in tokens, 0 where it does not say.
    """

    msat: int
    prompt_tokens: int
    max_tokens: int
    longest: int = 0

    def __str__(self) -> str:
        return (
            f"{self.msat:,} msat for {self.prompt_tokens:,} tokens of prompt and {self.max_tokens:,} of answer"
            f"{f', though it gives {self.longest:,} at most' if self.is_short else ''}"
        )

    @property
    def is_short(self) -> bool:
        """Whether it says that its answers are shorter than what was counted."""
        return 0 < self.longest < self.max_tokens


@dataclass(frozen=True, slots=True)
class Lack:
    """`known` providers were heard of, `alive` of them are there, and so many do not do for each of the reasons.

    `refusals` are what relays say that answer us nothing; `cheapest` is the least quote of those that are
    too dear; `models` what those alive run.
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
        return f"{self.known} provider{'' if self.known == 1 else 's'} heard of, {self.alive} alive{why}"

    @property
    def hint(self) -> str:
        """What to do about it, where there is more to say than that nobody is there."""
        if self.refusals and not self.alive:
            return f"Who is there, no relay tells us: {'; '.join(self.refusals)[:300]}"
        # What is wrong with us comes first: however many strangers are dear, they must not hide an empty wallet.
        found = next((hint for reason, hint in _HINTS.items() if reason in self.reasons), "")
        if self.alive and self.reasons.get(PAUSED) == self.alive:
            found = "`pylon providers` says why. Where `pylon pause` was run, `pylon resume` takes jobs on again."
        if not found and WITHOUT_MODEL in self.reasons and self.models:
            more = f" and {len(self.models) - _TOLD} more" if len(self.models) > _TOLD else ""
            return (
                f"Those that are there: {', '.join(self.models[:_TOLD])}{more}; `pylon providers` says who runs them."
            )
        return found.format(bid=int(self.need.bid), dear=self._dear(), cheaper=self._cheaper()).rstrip()

    def _dear(self) -> str:
        return "" if self.cheapest is None else f"The cheapest of these asks up to {self.cheapest}. "

    def _cheaper(self) -> str:
        if not self.need.bid:
            # What is offered nothing for is as dear however short it is.
            return ""
        # What a stranger says of its answers bounds no price; what is asked for does.
        if self.cheapest is not None and self.cheapest.is_short:
            return f"Or ask for {self.cheapest.longest:,} {ANSWER_TOKENS}: then only so many are counted."
        return f"Or ask for fewer {ANSWER_TOKENS}."

    def error(self) -> UnreachableError:
        """What is raised when a person waits for it."""
        hint = self.hint or "Start one with `pylon start`, or see who is there with `pylon providers`."
        return UnreachableError(f"no provider can take this: {self}", hint=hint)
