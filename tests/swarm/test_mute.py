"""A crowd of keys that never say a word, or refuse all that they are sent, keeps no job from who answered before."""

import random

import pytest

from pylon.jobs.codes import ErrorCode
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.swarm.dispatch import roster
from pylon.swarm.dispatch.messages import Add, Answered, Deliver, Fund, Published, Refused, Send, SlotJob
from pylon.swarm.dispatch.seats import Seat, Seats
from pylon.swarm.dispatch.standing import Standing
from pylon.swarm.providers.directory import ProviderUp
from pylon.swarm.providers.listing import Listing, Need
from tests.swarm.test_dispatch import NEED, Play, provider, sends

FAST = {"slots": 64, "slots_free": 64, "tokens_out_per_s": 100_000.0}


def crowd(count: int, *others: Listing, seed: int = 7) -> Play:
    """So many who say that they are quick, and never say anything else."""
    play = Play()
    play.dispatcher._rng.seed(seed)
    for listing in (*(provider(f"mute {n}", width=2, **FAST) for n in range(count)), *others):
        play.tell(ProviderUp(listing))
    return play


def attempts(play: Play) -> int:
    """After how many attempts one job is answered, when only the mute are never heard of again."""
    send = play.send()
    for attempt in range(1, 13):
        if not send.provider.startswith("mute"):
            [done] = play.tell(Answered(send.attempt))
            assert isinstance(done, Deliver)
            return attempt
        [_, send] = play.wait(5.1)
        assert isinstance(send, Send)
        play.tell(Published(send.attempt))
    raise AssertionError("nobody answered")


@pytest.mark.parametrize("seed", range(8))
def test_who_answered_an_earlier_process_has_a_job_by_its_second_attempt_among_a_hundred_mute(seed: int) -> None:
    assert attempts(crowd(100, provider("known", familiar=True), seed=seed)) <= 2


@pytest.mark.parametrize("seed", range(8))
def test_who_answered_in_this_process_has_one_too(seed: int) -> None:
    play = Play(provider("known"))
    play.tell(Answered(play.send().attempt))
    play.dispatcher._rng.seed(seed)
    for n in range(100):
        play.tell(ProviderUp(provider(f"mute {n}", width=2, **FAST)))
    assert attempts(play) <= 2


@pytest.mark.parametrize("slots", [100, 2], ids=["with room", "with more to do than it can at once"])
@pytest.mark.parametrize("code", [None, *ErrorCode])
def test_new_keys_that_fail_or_refuse_all_end_no_job_where_one_is_there_that_answered_before(
    code: ErrorCode | None, slots: int
) -> None:
    play = crowd(200, provider("known", familiar=True, slots=slots))
    out, delivered = sends(play.add(40)), 0
    while out:
        # The provider that answers takes longer than the others to refuse.
        out.sort(key=lambda send: send.provider == "known", reverse=True)
        send = out.pop()
        came = Answered(send.attempt) if send.provider == "known" else Refused(send.attempt, code)
        commands = play.tell(came)
        out += sends(commands)
        delivered += sum(isinstance(command, Deliver) for command in commands)
    assert delivered == 40


def first_choices(*listings: Listing, tries: int = 400) -> list[str]:
    return [sends(crowd(0, *listings, seed=seed).add())[0].provider for seed in range(tries)]


def test_a_crowd_of_new_keys_gets_half_of_the_jobs_and_somebody_new_as_many() -> None:
    known = provider("known", familiar=True, **FAST)
    for crowd_size in (1, 10):
        chosen = first_choices(known, *(provider(f"new {n}", **FAST) for n in range(crowd_size)))
        assert 0.4 < chosen.count("known") / len(chosen) < 0.9
        assert len(set(chosen)) == crowd_size + 1


def test_who_answered_before_and_is_slower_than_silence_costs_is_drawn_like_anybody() -> None:
    slow = provider("slow", familiar=True, queue_s=30.0)
    quick = provider("new")
    assert set(first_choices(slow, quick, tries=40)) == {"new"}


def test_one_that_was_silent_last_is_familiar_no_more_until_it_has_a_word() -> None:
    one = Standing("a", listing=provider("a", familiar=True))
    assert one.is_familiar
    one.silent(10.0, 5.0, 3)
    assert not one.is_familiar
    one.silences = 0
    assert one.is_familiar


def test_where_not_all_are_taken_in_new_keys_keep_out_nobody_who_answered_before(monkeypatch) -> None:
    monkeypatch.setattr(roster, "ENOUGH", 20)
    known = provider("known", familiar=True)
    for seed in range(10):
        play = crowd(200, known, seed=seed)
        play.add()
        assert "known" in play.dispatcher._roster.lane(SlotJob(0, NEED, 1.0, 1.0), play.now).members


def test_choosing_among_the_familiar_looks_at_as_few_however_many_there_are() -> None:
    looked = []
    for count in (10, 10_000):
        seats, seen = Seats(), 0
        for n in range(count):
            listing = provider(f"{n}", familiar=bool(n % 2))
            standing, familiar = Standing(f"{n}", listing=listing), bool(n % 2)
            seats.put(Seat(standing, None, f"{n}", is_familiar=familiar), 3)  # type: ignore[arg-type]

        def accept(seat: Seat) -> bool:
            nonlocal seen
            seen += 1
            assert seat.standing.is_familiar
            return False

        assert seats.choose_familiar(random.Random(1), (), worst=63, alike=0, accept=accept) is None
        looked.append(seen)
    assert looked[1] <= 8 and looked[0] <= 5


@pytest.mark.parametrize(
    ("left", "waits"), [(None, True), (1_000, True), (999, False)], ids=["no budget", "enough", "not enough"]
)
def test_a_job_on_its_last_try_waits_for_no_familiar_provider_that_its_run_cannot_pay(
    left: int | None, waits: bool
) -> None:
    need, price = Need(bid=Msat(1_000), network="play"), {"network": "play", "price": Price(Msat(1_000))}
    known = provider("known", familiar=True, width=1, **price)
    play = Play(*(provider(f"new {n}", network="play") for n in range(9)), attempts=2, overcommit=1.0)
    [send] = sends(play.tell(Add((SlotJob(0, need, 600.0, 1e4, run=7),))))
    play.tell(Fund(7, left))
    play.tell(ProviderUp(known))
    # It has no room for a while.
    [other] = sends(play.tell(Add((SlotJob(1, need, 600.0, 1e4, run=8, to=("known",)),))))
    sent = sends(play.tell(Refused(send.attempt, None)))
    assert bool(sent) is not waits
    if waits:
        assert [one.provider for one in sends(play.tell(Answered(other.attempt)))] == ["known"]
