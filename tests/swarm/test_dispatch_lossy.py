"""What the dispatcher makes of relays that lose requests: it is quicker to believe that one is lost."""

from pylon.swarm.dispatch.hedging import HEDGE_AFTER_S
from pylon.swarm.dispatch.messages import Answered, CancelAttempt, Published, Send, Unheard
from pylon.swarm.dispatch.silence import Silence
from pylon.swarm.providers.directory import ProviderUp
from pylon.swarm.wire.looks import LOOK_LATEST_S, LULL_S, Looks
from tests.swarm.test_dispatch import Play, provider, sends

LOSSY = 0.4


def lossy(*names: str, slots: int = 1, **known: object) -> Play:
    play = Play(*(provider(name, slots=slots, **known) for name in names))
    play.dispatcher._silence.share = LOSSY
    return play


def test_no_word_is_no_loss_as_long_as_hardly_any_request_is_met_with_silence() -> None:
    play = Play(provider("a"), provider("b"))
    send = play.send()
    play.now = 3.0
    assert play.tell(Unheard(send.attempt)) == []
    assert [again.slot for again in sends(play.wait(2.1))] == [send.slot]


def test_where_requests_are_lost_one_without_a_word_in_store_goes_elsewhere_at_once() -> None:
    play = lossy("a", "b")
    send = play.send()
    play.now = 3.0
    cancel, again = play.tell(Unheard(send.attempt))
    assert cancel == CancelAttempt(send.slot, send.attempt, send.provider)
    assert isinstance(again, Send) and {send.provider, again.provider} == {"a", "b"}
    assert play.tell(Unheard(send.attempt)) == []


def test_a_request_is_lost_whose_provider_had_a_word_for_a_later_one() -> None:
    play = Play(provider("a", slots=2))
    first = play.send()
    play.now = 1.0
    later = play.send()
    play.now = 2.0
    play.tell(Answered(later.attempt))
    play.tell(ProviderUp(provider("b")))
    play.now = 3.0
    [_, again] = play.tell(Unheard(first.attempt))
    assert isinstance(again, Send) and again.slot == first.slot


def test_one_lost_request_among_many_is_not_held_against_who_answered_later_ones() -> None:
    play = lossy("a", slots=4)
    first = play.send()
    play.now = 1.0
    later = play.send()
    play.tell(Answered(later.attempt))
    play.now = 3.0
    play.tell(Unheard(first.attempt))
    assert play.dispatcher._roster.standing_of("a").silences == 0


def test_where_requests_are_lost_more_of_them_are_out_but_never_more_than_purse_and_trust_allow() -> None:
    assert len(sends(Play(provider("a")).add(9))) == 2
    assert len(sends(lossy("a").add(9))) == 4
    assert len(sends(lossy("a", width=2).add(9))) == 2


def test_however_much_is_lost_at_most_twice_as_many_are_out() -> None:
    silence = Silence()
    assert silence.lost == 0.0
    for _ in range(1_000):
        silence.saw(True)
    assert silence.lost == 0.5


def test_what_was_lost_twice_is_sent_to_two_when_somebody_is_idle() -> None:
    play = lossy("a", "b", "c", "d", "e")
    send = play.send()
    for _ in range(2):
        assert not [hedge for hedge in sends(play.wait(1.0)) if hedge.hedge]
        [_, send] = play.tell(Unheard(send.attempt))
        assert isinstance(send, Send)
        play.tell(Published(send.attempt))
    [hedge] = sends(play.wait(HEDGE_AFTER_S + 0.1))
    assert hedge.hedge and hedge.slot == send.slot and hedge.provider != send.provider


def test_a_job_that_met_silence_does_not_wait_for_a_third_who_was_silent_too() -> None:
    play = Play(provider("a"), provider("b"), provider("c"))
    play.send(2)
    for _ in range(2):
        # Each goes from its own to the third, and from there at once to any of them.
        out = sends(play.wait(5.1))
        assert [send.slot for send in out] == [0, 1]
        for send in out:
            play.tell(Published(send.attempt))


def test_a_look_waits_for_a_lull_but_not_for_long_and_not_where_pushes_are_lost() -> None:
    looks = Looks()
    assert looks.is_due(10.0)
    looks.answered(10.4)
    assert not looks.is_due(10.5)
    assert looks.is_due(10.4 + LULL_S)
    looks.answered(12.0)
    assert not looks.is_due(12.1) and looks.is_due(10.9 + LOOK_LATEST_S)
    looks.answered(14.0)
    looks.found(100, 30)
    assert looks.is_due(14.1)
    looks.answered(14.2)
    looks.found(100, 0)
    assert not looks.is_due(14.3)
