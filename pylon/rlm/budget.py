"""Decides what a run may spend before it is spent. Pure: time is an argument.

    budget = Budget(Limits(msat=100_000, calls=500), now=0.0)
    match budget.reserve(Cost(msat=5_000, calls=1), now=1.0):
        case Refusal() as refusal: ...
        case reservation: budget.settle(reservation, Cost(msat=510, calls=1, tokens=460))

Budgets form a tree: what a child loop spends counts in its parent's budget too, up to the run's. A reservation holds
the most that something may cost from the moment it is allowed, so that calls in flight cannot overspend together;
settling it books the actual cost, which is nothing for what did not happen.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class Bound(StrEnum):
    """The bounds of a budget."""

    SATS = "sats"
    CALLS = "calls"
    TOKENS = "tokens"
    TURNS = "root_turns"
    WALL = "wall_time"
    DEPTH = "depth"
    PROMPT = "prompt_size"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Cost:
    """Money in msat, sub-calls, tokens of prompts and answers together, and turns of a root model."""

    msat: int = 0
    calls: int = 0
    tokens: int = 0
    turns: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.msat + other.msat,
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.turns + other.turns,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return self + Cost(-other.msat, -other.calls, -other.tokens, -other.turns)


NOTHING = Cost()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run, or a loop inside it, may spend; None is no limit.

    `wall_s` counts from when its budget was made. `depth` is how many loops may stand inside each other below the
    first one. `turns` are those of the root model in all loops together. `prompt_chars` bounds each single prompt of
    a sub-call. `disk_bytes` is what its trajectory may take, which its writer counts.
    """

    msat: int | None = None
    calls: int | None = None
    tokens: int | None = None
    wall_s: float | None = None
    depth: int = 0
    prompt_chars: int | None = None
    turns: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not allowed: the bound, what was asked of it and what is left, both in its unit (msat for
    `Bound.SATS`).

    `waits` tells that open reservations may leave enough when they are settled; otherwise asking again is useless.
    """

    bound: Bound
    asked: int
    left: int
    waits: bool = False

    @property
    def message(self) -> str:
        """For people and for the root model. Money is in sats of the run's network, which may be play money."""
        # `left` is negative after something cost more than was set aside for it.
        asked, left = self.asked, max(self.left, 0)
        what = {
            Bound.SATS: f"this needs up to {_sats(asked)} of the run's `max_sats`, and {_sats(left)} are left",
            Bound.CALLS: f"the run's sub-calls are used up ({left:,} left)",
            Bound.TOKENS: f"this needs about {asked:,} tokens, and {left:,} are left",
            Bound.TURNS: f"the root model's turns over all loops are used up ({left:,} left)",
            Bound.WALL: "the time of the run is up",
            Bound.DEPTH: "recursive calls may not nest any deeper",
            Bound.DISK: f"the run's trajectory is full: this needs {asked:,} more bytes, and {left:,} are left",
            Bound.PROMPT: f"a prompt of {asked:,} characters is over the limit of {left:,}: split it up",
        }[self.bound]
        return f"over the budget: {what}"


def _sats(msat: int) -> str:
    sats, rest = divmod(msat, 1_000)
    return f"{sats:,}" if not rest else f"{sats:,}.{rest:03d}".rstrip("0")


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """What was allowed and has not ended yet. It is settled once. `kept`: see `Budget.reserve`."""

    cost: Cost
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """What may still be reserved; None where there is no limit."""

    msat: int | None
    calls: int | None
    tokens: int | None
    wall_s: float | None
    turns: int | None = None


_COUNTED = ((Bound.CALLS, "calls"), (Bound.SATS, "msat"), (Bound.TOKENS, "tokens"), (Bound.TURNS, "turns"))


class Budget:
    """One node of the tree. `spent`, `reserved` and `kept` include those of its children."""

    def __init__(self, limits: Limits, *, now: float, parent: "Budget | None" = None, depth: int = 0) -> None:
        """`depth` counts only for a budget without a parent: 0 for a run's, -1 for one that several runs share."""
        self.limits = limits
        self.spent = NOTHING
        self.reserved = NOTHING
        # Reservations that last until the end of a loop or longer: others must not wait for them.
        self.kept = NOTHING
        self.depth: int = depth if parent is None else parent.depth + 1
        self._parent = parent
        self._ends_at = math.inf if limits.wall_s is None else now + limits.wall_s
        self._open: set[Reservation] = set()

    def reserve(self, cost: Cost, *, now: float, prompt_chars: int = 0, keep: bool = False) -> Reservation | Refusal:
        """Sets aside the most that something may cost, here and in every budget above, or says why not.

        With `keep` it may be held until the end of the loop or longer, so other requests do not wait for it.
        """
        for budget in self._line():
            refusal = budget._refusal(cost, now, prompt_chars)
            if refusal is not None:
                return refusal
        return self.set_aside(cost, keep=keep)

    def too_long(self, prompt_chars: int) -> Refusal | None:
        """The refusal if a prompt of this length is never allowed, here or in a budget above."""
        for budget in self._line():
            most = budget.limits.prompt_chars
            if most is not None and prompt_chars > most:
                return Refusal(Bound.PROMPT, prompt_chars, most)
        return None

    def set_aside(self, cost: Cost, *, keep: bool) -> Reservation:
        """Sets aside without a check: for a part of a reservation that is about to be settled but may still be spent.
        `keep` as in `reserve`."""
        reservation = Reservation(cost, keep)
        self._open.add(reservation)
        self._book(reservation)
        return reservation

    def settle(self, reservation: Reservation, spent: Cost) -> None:
        """Books the actual cost, even if it is more than was set aside. Raises `KeyError` if settled already."""
        self._open.remove(reservation)
        self._book(Reservation(NOTHING - reservation.cost, reservation.kept), spent)

    def book(self, spent: Cost) -> None:
        """Books a cost that has no reservation, even if it is more than is left."""
        self._book(Reservation(NOTHING), spent)

    def child(self, limits: Limits | None = None, *, now: float) -> "Budget | Refusal":
        """The budget of a child loop, with limits of its own in addition to those of this budget. Refused if loops
        may not be nested any deeper."""
        for budget in self._line():
            deepest = budget.depth + budget.limits.depth
            if self.depth >= deepest:
                return Refusal(Bound.DEPTH, self.depth + 1, deepest)
        return Budget(limits or Limits(depth=self.limits.depth), now=now, parent=self)

    def left(self, *, now: float) -> Left:
        """What may still be reserved here and in every budget above."""

        def least(name: str) -> int | None:
            rooms = [budget._room(name) for budget in self._line()]
            return min((room for room in rooms if room is not None), default=None)

        ends_at = min(budget._ends_at for budget in self._line())
        wall = None if ends_at == math.inf else max(0.0, ends_at - now)
        return Left(least("msat"), least("calls"), least("tokens"), wall, least("turns"))

    def _line(self) -> "list[Budget]":
        """This budget and those above it."""
        line, at = [self], self._parent
        while at is not None:
            line.append(at)
            at = at._parent
        return line

    def _refusal(self, cost: Cost, now: float, prompt_chars: int) -> Refusal | None:
        if now >= self._ends_at:
            return Refusal(Bound.WALL, 0, 0)
        if self.limits.prompt_chars is not None and prompt_chars > self.limits.prompt_chars:
            return Refusal(Bound.PROMPT, prompt_chars, self.limits.prompt_chars)
        for bound, name in _COUNTED:
            asked, room = getattr(cost, name), self._room(name)
            if room is not None and asked > room:
                return Refusal(bound, asked, room, waits=asked <= room + getattr(self.reserved, name))
        return None

    def _room(self, name: str) -> int | None:
        limit: int | None = getattr(self.limits, name)
        if limit is None:
            return None
        taken: int = getattr(self.spent + self.reserved + self.kept, name)
        return limit - taken

    def _book(self, reservation: Reservation, spent: Cost = NOTHING) -> None:
        for budget in self._line():
            if reservation.kept:
                budget.kept += reservation.cost
            else:
                budget.reserved += reservation.cost
            budget.spent += spent


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate for the first round of a run: sub-calls, the most that they cost in msat, and the limits that this
    is over. Later rounds are not counted, so it is no bound for the run."""

    calls: int
    msat: int
    over: frozenset[Bound]


def estimate_map(characters: int, *, piece: int, overlap: int, most_msat: int, limits: Limits) -> Estimate:
    """The estimate for one sub-call on each overlapping piece of a text, rounded up. `characters`, `piece` and
    `overlap` are in the same unit, bytes or characters; `most_msat` is the most that one call costs."""
    step = max(1, piece - overlap)
    calls = 1 if characters <= piece else 1 + math.ceil((characters - piece) / step)
    msat = calls * most_msat
    asked = ((Bound.CALLS, calls, limits.calls), (Bound.SATS, msat, limits.msat))
    return Estimate(
        calls, msat, frozenset(bound for bound, most, limit in asked if limit is not None and most > limit)
    )
