"""Any history at all: providers come, go, lie and stay silent, events come late, twice or never."""

import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.codes import ErrorCode
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.swarm.dispatch.budget import RunBudget
from pylon.swarm.dispatch.candidates import step
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.dispatch.in_flight import LAPSE_S
from pylon.swarm.dispatch.messages import (
    Acknowledged,
    Add,
    Adopt,
    Answered,
    CancelAttempt,
    Charged,
    Deliver,
    Drop,
    Forget,
    Fund,
    GiveUp,
    Lapsed,
    Published,
    Refused,
    RelaysDown,
    Send,
    SendFailed,
    SlotJob,
    SwarmEvent,
    Tick,
    Unheard,
)
from pylon.swarm.providers.directory import ProviderDown, ProviderUp
from pylon.swarm.providers.listing import Listing, Need
from pylon.swarm.settings import DispatchSettings

PROVIDERS = [f"p{n}" for n in range(6)]
BLOCKED = frozenset({"p5"})
RULES = {"block": BLOCKED, "network": "play", "bid": Msat(90), "max_tokens": 1}
NEEDS = [Need(**RULES), Need(model="m", **RULES), Need(model="n", **RULES)]  # type: ignore[arg-type]
RELAYS = ("wss://a", "wss://b")
RELAY_WIDTH = 4
BUDGETS = {1: 150, 2: 1_000}
RUNS = (0, *BUDGETS)
FORGOTTEN = "forgotten"
WIDTH = 6
OVERCOMMIT = 1.5


class Histories(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 1_000), crowd=st.booleans())
    def begin(self, seed: int, crowd: bool) -> None:
        self.now = 0.0
        self.down: set[str] = set()
        rules = DispatchSettings(
            width=WIDTH, overcommit=OVERCOMMIT, hedge_share=0.5, samples=1, relay_width=RELAY_WIDTH
        )
        self.dispatcher = Dispatcher(rules, random.Random(seed), RELAYS)
        # What every attempt may have cost so far, by run: all of it, until a receipt says less.
        self.costs: dict[int, dict[int, int]] = {run: {} for run in RUNS}
        # Accounts of runs that are over, with the same.
        self.over: list[tuple[RunBudget, dict[int, int]]] = []
        for run in BUDGETS:
            self.fund(run)
        self.alive: dict[str, Listing] = {}
        self.jobs: dict[int, SlotJob] = {}
        self.outcomes: dict[int, Deliver | GiveUp | str] = {}
        self.live: dict[int, Send] = {}
        self.taken_back: set[int] = set()
        self.attempts = 0
        # Jobs that went out, and providers of whom anything else was heard than answers.
        self.begun: set[int] = set()
        self.doubted: set[str] = set()
        for number, name in enumerate(PROVIDERS if crowd else ()):
            self.comes(name, 1 + number % 3, ("m", "n"), "", 0.0, 1, 0, None, True)

    def fund(self, run: int) -> None:
        self.dispatcher.handle(Fund(run, BUDGETS[run]), self.now)
        self.costs[run] = {}

    @property
    def books(self) -> list[tuple[RunBudget, dict[int, int]]]:
        return [*self.over, *((self.dispatcher.budget(run), self.costs[run]) for run in BUDGETS)]

    def tell(self, event: SwarmEvent) -> None:
        if isinstance(event, (SendFailed, Refused)):
            unknown = isinstance(event, SendFailed) and event.unknown
            # What may have left is told to stop, or waited for.
            over = None if unknown else self.live.pop(event.attempt, None)
            if over is not None:
                self.doubted.add(over.provider)
            if over is not None and (isinstance(event, SendFailed) or event.code is not None):
                # What a provider or all relays refused cost nothing.
                self.costs[self.jobs[over.slot].run].pop(event.attempt, None)
        if isinstance(event, Unheard) and event.attempt in self.taken_back:
            # It is not taken back once more.
            self.live.pop(event.attempt, None)
        silence = self.dispatcher._silence
        self.lost = silence.lost
        commands = self.dispatcher.handle(event, self.now)
        self.lost = max(self.lost, silence.lost)
        for command in commands:
            match command:
                case Send(slot, attempt, provider, expires_at, hedge):
                    assert attempt == self.attempts + 1, "attempts are numbered without gaps"
                    self.attempts = attempt
                    assert slot not in self.outcomes, "nothing is sent for a slot that is over"
                    assert provider in self.alive, "nothing is sent to the dead"
                    assert provider not in BLOCKED
                    job, listing = self.jobs[slot], self.alive[provider]
                    assert not job.to or provider in job.to, "only to those it is for"
                    assert provider not in job.without
                    if hedge:
                        assert listing.price.is_free or listing.funded(), "hedges go where they are paid already"
                    costs = self.costs[job.run]
                    costs[attempt] = 0 if listing.own else int(listing.price.base_msat)
                    assert sum(costs.values()) <= BUDGETS.get(job.run, 10**9), "no run costs more than it may"
                    if command.relay is not None:
                        on_it = sum(send.relay == command.relay for send in self.live.values())
                        assert on_it < RELAY_WIDTH, "no relay carries more than its width"
                        open_ones = set(RELAYS) - self.down
                        assert command.relay in (open_ones or RELAYS), (
                            "nothing waits for a relay while another is there"
                        )
                    need = self.jobs[slot].need
                    assert need.why_not(self.alive[provider]) == "", "only to those who can do it"
                    # Where requests get lost more of them are out, but no more than purse and trust allow.
                    room = max(1, -(-self.alive[provider].slots * OVERCOMMIT // 1))
                    room = min(room / (1 - self.lost), 10**9 if listing.width is None else listing.width)
                    there = sum(send.provider == provider for send in self.live.values())
                    assert there < room, "nothing is sent to the full"
                    mine = [send for send in self.live.values() if send.slot == slot]
                    assert len(mine) == (1 if hedge else 0), "one attempt at a time, hedges aside"
                    assert self.now < expires_at <= self.jobs[slot].deadline
                    self.live[attempt] = command
                    self.begun.add(slot)
                case Lapsed(attempt):
                    [costs] = [costs for _, costs in self.books if attempt in costs]
                    costs[attempt] = 0
                case CancelAttempt(_, attempt, _):
                    assert attempt in self.live, "what is over is not cancelled"
                    self.doubted.add(self.live.pop(attempt).provider)
                case Deliver(slot, attempt, _) | GiveUp(slot, _, _, attempt):
                    assert slot in self.jobs
                    assert slot not in self.outcomes, "one outcome for each slot"
                    self.outcomes[slot] = command
                    if isinstance(command, Deliver):
                        self.live.pop(attempt, None)
                    assert all(send.slot != slot for send in self.live.values()), "nothing is left running"

    @rule(
        name=st.sampled_from(PROVIDERS),
        slots=st.integers(1, 3),
        models=st.sampled_from([(), ("m",), ("m", "n")]),
        paused=st.sampled_from(["", "", "battery"]),
        speed=st.sampled_from([0.0, 1.0, 100.0]),
        free=st.integers(0, 3),
        price=st.sampled_from([0, 0, 30, 90, 200]),
        width=st.sampled_from([None, None, 0, 1]),
        funded=st.booleans(),
    )
    def comes(
        self,
        name: str,
        slots: int,
        models: tuple[str, ...],
        paused: str,
        speed: float,
        free: int,
        price: int,
        width: int | None,
        funded: bool,
    ) -> None:
        listing = Listing(
            name,
            models=tuple(OfferedModel(model) for model in models),
            price=Price(Msat(price)),
            network="play",
            relays=RELAYS[: slots - 1],
            slots=slots,
            slots_free=free,
            paused=paused,
            tokens_out_per_s=speed,
            width=width,
            trust=speed % 2,
            funded=lambda: funded,
            own=name == "p4",
        )
        # What is in flight beyond the new number of slots may stay; nothing is added to it.
        self.alive[name] = listing
        self.tell(ProviderUp(listing))

    @rule(name=st.sampled_from(PROVIDERS))
    def goes(self, name: str) -> None:
        self.alive.pop(name, None)
        self.tell(ProviderDown(name))

    @rule(
        count=st.integers(1, 4),
        need=st.sampled_from(NEEDS),
        timeout=st.sampled_from([2.0, 20.0, 120.0]),
        deadline=st.sampled_from([5.0, 100.0, 600.0]),
        run=st.sampled_from(RUNS),
        priority=st.integers(0, 2),
        to=st.sampled_from([(), (), ("p1", "p2")]),
        without=st.sampled_from([(), ("p1",)]),
    )
    def adds(
        self,
        count: int,
        need: Need,
        timeout: float,
        deadline: float,
        run: int,
        priority: int,
        to: tuple[str, ...],
        without: tuple[str, ...],
    ) -> None:
        first = len(self.jobs)
        jobs = [
            SlotJob(first + n, need, timeout, self.now + deadline, 0, 1, run, priority, to, frozenset(without))
            for n in range(count)
        ]
        self.jobs.update((job.slot, job) for job in jobs)
        self.tell(Add(tuple(jobs)))

    @rule(name=st.sampled_from(PROVIDERS[:5]), need=st.sampled_from(NEEDS), taken_back=st.booleans())
    def adopts(self, name: str, need: Need, taken_back: bool) -> None:
        if self.dispatcher.in_flight >= WIDTH or len(self.live) >= WIDTH:
            return
        slot = len(self.jobs)
        self.jobs[slot] = job = SlotJob(slot, need, 20.0, self.now + 100.0, run=0)
        self.attempts += 1
        self.live[self.attempts] = Send(slot, self.attempts, name, self.now + 20.0)
        self.begun.add(slot)
        if taken_back:
            self.taken_back.add(self.attempts)
        self.tell(Adopt(job, name, taken_back=taken_back))

    @rule()
    def relays_have_no_answer_to_what_was_taken_back(self) -> None:
        for attempt in self.taken_back & self.live.keys():
            self.tell(Unheard(attempt))
            assert attempt not in self.live and not self.dispatcher.is_live(attempt)

    @rule()
    def published(self) -> None:
        for attempt in list(self.live):
            self.tell(Published(attempt))

    @rule(fails=st.sampled_from([0, -1, None]))
    def all_but_one_answer_and_it_is_slow(self, fails: int | None) -> None:
        for _ in range(8):
            for attempt in list(self.live):
                self.tell(Published(attempt))
                self.tell(Acknowledged(attempt))
            self.now += 0.3
            for attempt in list(self.live)[1:]:
                self.tell(Answered(attempt))
        for _ in range(6):
            self.now += 0.5
            self.tell(Tick())
        hedged = {send.slot for send in self.live.values() if send.hedge}
        for slot in hedged if fails is not None else ():
            pair = [send.attempt for send in self.live.values() if send.slot == slot]
            self.tell(Refused(pair[fails], ErrorCode.ENGINE_FAILED))

    @rule(back=st.integers(0, 6), wait_s=st.sampled_from([None, 0.0, 3.0, 60.0]))
    def acknowledged(self, back: int, wait_s: float | None) -> None:
        self.tell(Acknowledged(self.attempts - back, wait_s))

    @rule(answers=st.sampled_from([0, -1]))
    def all_wait_and_one_answers(self, answers: int) -> None:
        for attempt in list(self.live):
            self.tell(Published(attempt))
            self.tell(Acknowledged(attempt, 30.0))
        self.now += 0.5
        if self.live:
            self.tell(Answered(list(self.live)[answers]))

    @rule(back=st.integers(0, 6))
    def unheard(self, back: int) -> None:
        self.tell(Unheard(self.attempts - back))

    @rule(back=st.integers(0, 6), share=st.sampled_from([None, 0.0, 0.5, 1.0]))
    def answered(self, back: int, share: float | None) -> None:
        attempt = self.attempts - back
        charged = None
        if share is not None and attempt in self.live:
            costs = self.costs[self.jobs[self.live[attempt].slot].run]
            if attempt in costs:
                charged = costs[attempt] = int(share * costs[attempt])
        self.tell(Answered(attempt, charged))

    @rule(back=st.integers(0, 6), share=st.sampled_from([0.0, 0.5, 1.0]))
    def charged(self, back: int, share: float) -> None:
        # Of runs that are over too.
        attempt = self.attempts - back
        costs = next((costs for _, costs in self.books if attempt in costs), {attempt: 0})
        msat = int(share * costs[attempt])
        if attempt not in self.live and (attempt in self.dispatcher._in_flight.attempts or self.is_open(attempt)):
            costs[attempt] = msat
        self.tell(Charged(attempt, msat))
        assert not self.is_open(attempt) or attempt in self.live

    def is_open(self, attempt: int) -> bool:
        return self.dispatcher.is_open(attempt)

    @rule(back=st.integers(0, 6), code=st.sampled_from([*ErrorCode, None]), ours=st.booleans())
    def refused(self, back: int, code: ErrorCode | None, ours: bool) -> None:
        self.tell(Refused(self.attempts - back, code, ours and code is None))

    @rule(back=st.integers(0, 3), unmade=st.booleans(), too_large=st.booleans(), unknown=st.booleans())
    def not_sent(self, back: int, unmade: bool, too_large: bool, unknown: bool) -> None:
        attempt = self.attempts - back
        found = self.dispatcher._in_flight.attempts.get(attempt)
        if found is not None and not found.published:
            self.tell(SendFailed(attempt, unmade, unmade and too_large, unknown and not unmade))

    @rule(down=st.sampled_from([{RELAYS[0]}, {RELAYS[1], "wss://strangers"}, {*RELAYS}, set()]))
    def relays_go_and_come(self, down: set[str]) -> None:
        self.down = down
        self.tell(RelaysDown(frozenset(down)))

    @rule(slots=st.sets(st.integers(0, 30), max_size=5))
    def drops(self, slots: set[int]) -> None:
        self.tell(Drop(tuple(slots)))

    @rule(run=st.sampled_from(RUNS))
    def forgets(self, run: int) -> None:
        mine = [slot for slot, job in self.jobs.items() if job.run == run]
        # What is over stays so.
        self.outcomes = {**dict.fromkeys(mine, FORGOTTEN), **self.outcomes}
        budget = self.dispatcher.budget(run)
        self.tell(Forget(run, tuple(mine)))
        assert not any(send.slot in mine for send in self.live.values())
        if budget is not None:
            assert budget.over and not budget.reserved
            self.over.append((budget, self.costs[run]))
            self.fund(run)

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 6.0, 40.0]))
    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.tell(Tick())

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "dispatcher"):
            return
        assert self.dispatcher.open + len(self.outcomes) == len(self.jobs)
        assert self.dispatcher.in_flight == len(self.live) <= WIDTH
        for attempt in self.live:
            assert self.dispatcher.is_live(attempt)
        for lane in self.dispatcher._roster._lanes.values():
            seats = lane.members.values()
            assert lane._awake == sum(seat.awake for seat in seats)
            assert lane._silent == sum(seat.silent for seat in seats)
        for budget, costs in self.books:
            assert budget.most == sum(costs.values()) <= budget.limit, "no history is over its budget"

    @invariant()
    def nobody_idles_beside_a_job_that_it_could_have(self) -> None:
        if not hasattr(self, "dispatcher") or self.dispatcher.in_flight >= WIDTH:
            return
        idle = [listing for listing in self.alive.values() if self.has_nothing_to_do(listing)]
        for slot, job in self.jobs.items():
            if slot in self.begun or slot in self.outcomes or job.to or job.without:
                continue
            left = BUDGETS.get(job.run, 10**9) - sum(self.costs[job.run].values())
            for listing in idle:
                cost = 0 if listing.own else int(listing.price.base_msat)
                assert job.need.why_not(listing) or cost > left or self.is_slow(listing, job), (
                    "no job waits that somebody idle could have, and its run could pay"
                )

    def has_nothing_to_do(self, listing: Listing) -> bool:
        """Whether one more may go there, and nothing but answers is known of it."""
        if listing.width == 0 or listing.provider in self.doubted:
            return False
        if any(send.provider == listing.provider for send in self.live.values()):
            return False
        open_ones = set(RELAYS) - self.down or set(RELAYS)
        # What was adopted is on one of them, nobody knows on which.
        on_it = {url: sum(send.relay in (url, None) for send in self.live.values()) for url in RELAYS}
        return not listing.relays or any(url in open_ones and on_it[url] < RELAY_WIDTH for url in listing.relays)

    def is_slow(self, listing: Listing, job: SlotJob) -> bool:
        """Whether waiting for somebody quicker, who has jobs of ours now, is better."""
        lane = self.dispatcher._roster._lanes[job.need]
        return lane.members[listing.provider].step > step(lane._within_s())

    def teardown(self) -> None:
        if not hasattr(self, "dispatcher"):
            return
        # Whatever happened: when time goes on, every slot is over at its deadline at the latest.
        last = max((job.deadline for job in self.jobs.values()), default=0.0)
        while self.now < last:
            self.now += 5.0
            self.tell(Tick())
        assert set(self.outcomes) == set(self.jobs)
        assert self.dispatcher.open == self.dispatcher.in_flight == 0
        assert not self.dispatcher._in_flight.attempts
        assert all(standing.in_flight == 0 for standing in self.dispatcher._roster._standings.values())
        assert all(
            lane.figures.in_flight == lane.figures.open == 0 for lane in self.dispatcher._roster._lanes.values()
        )
        # And what nobody charged comes back when nobody can any more.
        open_before = [budget.open for budget, _ in self.books]
        self.now += LAPSE_S
        self.tell(Tick())
        self.books_agree()
        for (budget, _), was_open in zip(self.books, open_before, strict=True):
            assert budget.open == budget.reserved == 0
            assert budget.left >= was_open
            assert budget.decided == budget.over


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
