"""Who is alive: what announcements, heartbeats, withdrawals and time do to the table."""

import time
from dataclasses import replace

import pytest

from pylon.errors import MalformedError
from pylon.jobs.announcement import Announcement, OfferedModel, announcement_draft, withdrawal_draft
from pylon.jobs.heartbeat import Heartbeat, heartbeat_draft
from pylon.jobs.kinds import ANNOUNCEMENT, REQUEST_KINDS, TEXT_REQUEST
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.keys import SecretKey
from pylon.swarm.circle import Circle
from pylon.swarm.providers.directory import _OVER, Directory, ProviderDown, ProviderUp
from pylon.swarm.providers.lack import Lack, Quoted
from pylon.swarm.providers.listing import Listing, Need, least_context

NOW = 1_700_000_000
MODEL = OfferedModel("needle-1", "cd" * 32, "f32", 2_048)
KEY = SecretKey(b"\x01" * 32)


def announced(key: SecretKey = KEY, *, at: int = NOW, d: str = "pylon", **changes: object) -> Event:
    value = Announcement(d, "a mac", kinds=REQUEST_KINDS, models=(MODEL,))
    return key.sign(announcement_draft(replace(value, **changes), created_at=at))  # type: ignore[arg-type]


def beat(key: SecretKey = KEY, *, at: int = NOW, d: str = "pylon", lasts: int = 120, **changes: object) -> Event:
    value = Heartbeat(d, 4, 4, models=((MODEL.id, MODEL.sha256),), expires_at=at + lasts)
    return key.sign(heartbeat_draft(replace(value, **changes), created_at=at))  # type: ignore[arg-type]


def plain(key: SecretKey = KEY, *, at: int = NOW, kinds: tuple[int, ...] = (TEXT_REQUEST,)) -> Event:
    tags = (("d", "dvm"), *(("k", str(kind)) for kind in kinds))
    return key.sign(EventDraft(ANNOUNCEMENT, '{"name":"plain"}', tags, at))


def fake(n: int, *, kind: int, at: int = NOW) -> Event:
    """An event of a key that nobody holds; the directory trusts that signatures were checked before."""
    event = announced(at=at) if kind == ANNOUNCEMENT else beat(at=at)
    return replace(event, pubkey=f"{n:064x}", id=f"{n:064x}")


def test_a_provider_is_listed_when_both_its_announcement_and_its_heartbeat_are_there() -> None:
    directory = Directory()
    assert directory.observe(announced(), NOW) == []
    [change] = directory.observe(beat(), NOW)
    assert isinstance(change, ProviderUp)
    assert change.listing.slots == 4 and change.listing.models == (MODEL,) and not change.listing.plain
    assert directory.get(KEY.public) == change.listing
    other = Directory()
    assert other.observe(beat(), NOW) == []
    assert other.unannounced() == [KEY.public]
    assert len(other.observe(announced(), NOW)) == 1


def test_a_provider_is_gone_when_its_heartbeat_is_over() -> None:
    directory = Directory()
    directory.observe(announced(), NOW)
    directory.observe(beat(), NOW)
    directory.observe(beat(at=NOW + 30), NOW + 30)
    assert directory.expire(NOW + 149) == []
    assert directory.expire(NOW + 150) == [ProviderDown(KEY.public)]
    assert len(directory) == 0 and not directory.find(Need())
    assert len(directory.observe(beat(at=NOW + 160), NOW + 160)) == 1


def test_an_expired_heartbeat_and_one_from_far_ahead_change_nothing() -> None:
    directory = Directory()
    directory.observe(announced(), NOW)
    assert directory.observe(beat(at=NOW - 200), NOW) == []
    assert directory.observe(beat(at=NOW + 1_000), NOW) == []
    assert len(directory) == 0


def test_a_heartbeat_that_claims_a_quarter_of_an_hour_counts_for_four_minutes() -> None:
    directory = Directory()
    directory.observe(announced(), NOW)
    directory.observe(beat(lasts=900), NOW)
    assert directory.expire(NOW + 241) == [ProviderDown(KEY.public)]


def test_a_stopping_heartbeat_shortens_the_life_that_an_earlier_one_promised() -> None:
    directory = Directory()
    directory.observe(announced(), NOW)
    directory.observe(beat(), NOW)
    directory.observe(beat(at=NOW + 1, lasts=30, paused="stopping"), NOW + 1)
    assert directory.expire(NOW + 31) == [ProviderDown(KEY.public)]


def test_the_newest_event_wins_in_whatever_order_they_come() -> None:
    old, new = announced(at=NOW, name="old"), announced(at=NOW + 5, name="new")
    for events in ((old, new), (new, old)):
        directory = Directory()
        directory.observe(beat(), NOW)
        for event in events:
            directory.observe(event, NOW)
        assert [listing.name for listing in directory] == ["new"]


def test_of_two_events_of_one_second_the_lower_id_wins() -> None:
    events = sorted((announced(name=name) for name in ("a", "b")), key=lambda event: event.id)
    for order in (events, events[::-1]):
        directory = Directory()
        directory.observe(beat(), NOW)
        for event in order:
            directory.observe(event, NOW)
        [listing] = directory
        assert f'"name":"{listing.name}"' in events[0].content


def test_the_same_heartbeat_again_is_no_change() -> None:
    directory = Directory()
    directory.observe(announced(), NOW)
    directory.observe(beat(), NOW)
    assert directory.observe(beat(at=NOW + 30), NOW + 30) == []
    [change] = directory.observe(beat(at=NOW + 60, slots_free=1), NOW + 60)
    assert isinstance(change, ProviderUp) and change.listing.slots_free == 1


def test_a_withdrawn_announcement_does_not_come_back_from_another_relay() -> None:
    directory = Directory()
    directory.observe(announced(), NOW)
    directory.observe(beat(), NOW)
    withdrawal = KEY.sign(withdrawal_draft(KEY.public, "pylon", created_at=NOW + 1))
    assert directory.observe(withdrawal, NOW) == [ProviderDown(KEY.public)]
    assert directory.observe(announced(), NOW) == []
    assert len(directory.observe(announced(at=NOW + 2), NOW)) == 1


def test_nobody_withdraws_the_announcement_of_another() -> None:
    directory = Directory()
    directory.observe(announced(), NOW)
    directory.observe(beat(), NOW)
    stranger = SecretKey(b"\x02" * 32)
    directory.observe(announced(stranger), NOW)
    assert directory.observe(stranger.sign(withdrawal_draft(KEY.public, "pylon", created_at=NOW + 1)), NOW) == []
    assert directory.get(KEY.public) is not None


def test_a_key_with_two_announcements_is_one_provider_by_its_heartbeat() -> None:
    directory = Directory()
    directory.observe(announced(d="old", name="old"), NOW)
    directory.observe(announced(d="pylon", name="new"), NOW)
    directory.observe(beat(d="old"), NOW)
    assert [listing.name for listing in directory] == ["old"]
    directory.observe(beat(d="pylon", at=NOW + 1), NOW)
    assert [listing.name for listing in directory] == ["new"]


def test_announcements_of_one_key_are_bounded() -> None:
    directory = Directory()
    for n in range(50):
        directory.observe(announced(d=f"d{n}", at=NOW + n), NOW + n)
    directory.observe(beat(d="d0", at=NOW + 50), NOW + 50)
    assert len(directory) == 0
    directory.observe(beat(d="d49", at=NOW + 51), NOW + 51)
    assert len(directory) == 1


def test_a_plain_provider_is_listed_by_its_announcement_alone_for_a_week() -> None:
    directory = Directory()
    [change] = directory.observe(plain(), NOW)
    assert isinstance(change, ProviderUp) and change.listing.plain
    assert directory.find(Need()) == []
    assert directory.find(Need(plain=True)) == [change.listing]
    assert directory.expire(NOW + 7 * 86_400) == [ProviderDown(KEY.public)]
    assert directory.observe(plain(at=NOW - 8 * 86_400), NOW) == []


def test_a_plain_provider_outlives_the_last_of_its_heartbeats() -> None:
    directory = Directory()
    directory.observe(plain(), NOW)
    directory.observe(KEY.sign(EventDraft(11998, "", (("d", "dvm"),), NOW)), NOW)
    assert directory.expire(NOW + 121) == []
    assert len(directory) == 1
    assert directory.expire(NOW + 7 * 86_400) == [ProviderDown(KEY.public)]


def test_a_heartbeat_that_says_the_same_after_a_pause_counts_again() -> None:
    directory = Directory()
    # A plain peer may also beat as ours do: then its heartbeat says more than its announcement.
    both = replace(plain(), tags=(*plain().tags[1:], ("d", "pylon")))
    directory.observe(both, NOW)
    directory.observe(beat(slots=7), NOW)
    directory.expire(NOW + 120)
    assert [listing.slots for listing in directory] == [1]
    [change] = directory.observe(beat(slots=7, at=NOW + 200), NOW + 200)
    assert isinstance(change, ProviderUp) and change.listing.slots == 7
    assert directory.alive_until(KEY.public) == NOW + 320


def test_what_heartbeats_say_of_models_comes_before_what_was_announced() -> None:
    directory = Directory()
    directory.observe(announced(models=(MODEL, OfferedModel("other", "ef" * 32))), NOW)
    directory.observe(beat(), NOW)
    assert directory.find(Need(model="needle-1")) and not directory.find(Need(model="other"))
    directory.observe(beat(at=NOW + 30, models=(("other", "ef" * 32),)), NOW)
    assert directory.find(Need(model="sha256:" + "ef" * 32)) and not directory.find(Need(model="needle-1"))


@pytest.mark.parametrize(
    ("need", "changes", "why"),
    [
        (Need(model="needle-1"), {}, ""),
        (Need(model="sha256:" + "cd" * 32), {}, ""),
        (Need(model="sha256:" + "ce" * 32), {}, "without this model"),
        (Need(context=4_096), {}, "with too short a context window"),
        (Need(context=4_096), {"models": (OfferedModel("unknown"),)}, ""),
        (Need(kind=5_100), {}, "not serving kind 5100"),
        (Need(allow=frozenset()), {}, "not on the allow list"),
        (Need(allow=frozenset({"k"})), {}, ""),
        (Need(block=frozenset({"k"})), {}, "blocked"),
        (Need(), {"paused": "battery"}, "paused"),
        (Need(), {"loading": True}, "still loading"),
        (Need(model="needle-1"), {"loading": True}, "still loading"),
        # What it will serve is not known yet.
        (Need(model="other"), {"loading": True, "models": ()}, "still loading"),
        (Need(model="other"), {"loading": True}, "without this model"),
        (Need(model="sha256:" + "9" * 64), {"loading": True}, "without this model"),
        (Need(model="sha256:" + "9" * 64), {"loading": True, "models": (OfferedModel("m"),)}, "still loading"),
        (Need(model="other"), {"loading": True, "models": (OfferedModel("m"),)}, "without this model"),
        (Need(kind=5_100), {"loading": True}, "not serving kind 5100"),
        (Need(network="play"), {"loading": True, "price": Price(Msat(5)), "network": "play"}, "too expensive"),
        (Need(plain=True), {"plain": True, "loading": True}, "still loading"),
        (Need(), {"plain": True, "loading": True}, "reading only the open form"),
        (Need(), {"barred": "not paid"}, "not paid"),
        (Need(), {"price": Price(Msat(5)), "network": "play"}, "taking payment on play"),
        (Need(network="play"), {"price": Price(Msat(5)), "network": "play"}, "too expensive"),
        (Need(network="play", bid=Msat(5)), {"price": Price(Msat(5)), "network": "play"}, ""),
        (
            Need(network="play", bid=Msat(5), max_tokens=1_000),
            {"price": Price(Msat(5), out_msat_per_1k=Msat(1)), "network": "play"},
            "too expensive",
        ),
        (Need(), {"plain": True}, "reading only the open form"),
        (Need(plain=True, model="needle-1"), {"plain": True}, "not stating any model"),
        (Need(plain=True), {"plain": True, "kinds": frozenset({5_100})}, "not serving kind 5050"),
    ],
)
def test_why_a_provider_does_not_do_for_a_job(need: Need, changes: dict[str, object], why: str) -> None:
    listing = replace(Listing("k", models=(MODEL,)), **changes)  # type: ignore[arg-type]
    assert need.why_not(listing) == why


def test_the_context_a_job_needs_errs_towards_too_little() -> None:
    assert least_context(0, 0) == 0
    assert least_context(6_000, 100) == 1_024
    assert least_context(0, 512) == 512


def test_many_thousand_keys_do_not_fill_the_memory_nor_push_out_who_is_alive() -> None:
    kept = SecretKey(b"\x03" * 32)
    directory = Directory(capacity=100, circle=Circle(allow=frozenset({kept.public})))
    directory.observe(announced(), NOW)
    directory.observe(beat(), NOW)
    announcement = announced()
    for n in range(1, 10_001):
        directory.observe(replace(announcement, pubkey=f"{n:064x}"), NOW)
    assert directory.known == 100
    assert directory.get(KEY.public) is not None
    for n in range(1, 1_001):
        directory.observe(fake(n, kind=ANNOUNCEMENT), NOW)
        directory.observe(fake(n, kind=11_998), NOW)
    assert directory.known == 100 and len(directory) == 100
    assert directory.get(KEY.public) is not None
    assert directory.turned_away > 0
    directory.observe(announced(kept), NOW)
    directory.observe(beat(kept), NOW)
    assert directory.get(kept.public) is not None


def test_finding_by_model_does_not_look_at_providers_of_other_models() -> None:
    directory = Directory()
    announcement, heartbeat = announced(), beat()
    for n in range(1, 2_001):
        directory.observe(replace(announcement, pubkey=f"{n:064x}"), NOW)
        directory.observe(replace(heartbeat, pubkey=f"{n:064x}"), NOW)
    rare = SecretKey(b"\x04" * 32)
    directory.observe(announced(rare, models=(OfferedModel("rare"),)), NOW)
    directory.observe(beat(rare, models=(("rare", ""),)), NOW)

    def seconds(need: Need) -> float:
        start = time.perf_counter()
        directory.find(need)
        return time.perf_counter() - start

    assert [listing.provider for listing in directory.find(Need(model="rare"))] == [rare.public]
    assert min(seconds(Need(model="rare")) for _ in range(5)) < min(seconds(Need()) for _ in range(5)) / 20


def test_an_announcement_that_cannot_be_read_is_an_error_and_changes_nothing() -> None:
    directory = Directory()
    with pytest.raises(MalformedError):
        directory.observe(KEY.sign(EventDraft(ANNOUNCEMENT, "", (("v", "pylon/1"),), NOW)), NOW)
    assert directory.known == 0


def test_the_most_frequent_reasons_are_told_however_many_there_are() -> None:
    reasons = {"paused": 5, **{f"taking payment on network {n:03}": 1 for n in range(500)}}
    told = str(Lack(Need(), 600, 505, reasons))
    assert told.startswith("600 providers heard of, 505 alive; 5 paused; 1 taking payment on network 000")
    assert told.endswith("; 493 for other reasons") and len(told) < 400


def test_why_nobody_does_reads_well_of_one_and_of_many() -> None:
    need = Need(model="other", context=9_999)
    model, context = (
        need.why_not(Listing("a", models=(MODEL,))),
        Need(context=9_999).why_not(Listing("a", models=(MODEL,))),
    )
    assert str(Lack(need, 5, 5, {context: 1, model: 4})) == (
        "5 providers heard of, 5 alive; 1 with too short a context window; 4 without this model"
    )


def test_who_bids_too_little_hears_the_cheapest_quote_and_for_how_many_tokens() -> None:
    need = Need(prompt_tokens=300, max_tokens=1_024, bid=Msat(5_000))
    hint = str(Lack(need, 1, 1, {"too expensive": 1}, (), Quoted(6_400, 300, 1_024)).error().hint)
    assert "charges up to 6,400 msat for 300 prompt tokens and 1,024 answer tokens" in hint
    assert (
        "at most 5,000 msat" in hint
        and "fewer `max_tokens`" in hint
        and "--max-tokens" in hint
        and "`bid_msat`" in hint
    )


def test_who_finds_all_paused_is_told_what_ends_a_pause() -> None:
    assert "pylon resume" in str(Lack(Need(), 2, 2, {"paused": 2}).error().hint)
    assert "pylon resume" not in str(Lack(Need(), 2, 2, {"paused": 1, "without this model": 1}).error().hint)


def test_one_that_comes_and_goes_for_ever_leaves_nothing_behind() -> None:
    directory = Directory()
    directory.observe(announced(SecretKey(b"\x02" * 32)), NOW)
    directory.observe(beat(SecretKey(b"\x02" * 32)), NOW)
    for n in range(3 * _OVER):
        event = replace(plain(), id=f"{n:064x}", created_at=NOW + 2 * n)
        assert len(directory.observe(event, NOW + 2 * n)) == 1
        taken_back = withdrawal_draft(KEY.public, "dvm", created_at=NOW + 2 * n + 1)
        event = replace(event, kind=taken_back.kind, tags=taken_back.tags, created_at=NOW + 2 * n + 1)
        assert directory.observe(event, NOW + 2 * n + 1) == [ProviderDown(KEY.public)]
    assert len(directory._expiries) <= 2 + _OVER
    assert directory.expire(NOW + 6 * _OVER) == [ProviderDown(SecretKey(b"\x02" * 32).public)]


def test_a_provider_that_came_often_is_planned_for_once_when_the_old_plans_are_over() -> None:
    directory = Directory()
    directory.observe(announced(), NOW)
    for n in range(5):
        directory.observe(beat(at=NOW + n), NOW + n)
        directory.observe(KEY.sign(withdrawal_draft(KEY.public, "pylon", created_at=NOW + n)), NOW + n)
        directory.observe(announced(at=NOW + n + 1), NOW + n + 1)
    for now in range(NOW + 60, NOW + 600, 60):
        directory.observe(beat(at=now), now)
        assert directory.expire(now) == []
    assert len(directory._expiries) == 1
    assert directory.expire(NOW + 1_000) == [ProviderDown(KEY.public)]


def test_who_announces_no_price_is_listed_as_one_that_names_none_and_one_of_nothing_as_free() -> None:
    directory = Directory()
    tags = (("d", "pylon"), ("k", "5940"), ("v", "pylon/1"))
    directory.observe(KEY.sign(EventDraft(ANNOUNCEMENT, "", tags, NOW)), NOW)
    directory.observe(beat(), NOW)
    other = SecretKey(b"\x05" * 32)
    directory.observe(plain(other), NOW)
    assert [listing.priced for listing in directory] == [False, False]
    directory.observe(announced(at=NOW + 1), NOW)
    assert directory.get(KEY.public).priced and not directory.get(other.public).priced  # type: ignore[union-attr]


def test_who_asks_for_a_model_that_nobody_runs_hears_which_there_are() -> None:
    known = tuple(f"model-{n}" for n in range(10))
    unknown = Lack(Need(model="nosuch"), 3, 3, {"without this model": 3}, models=known)
    assert "model-0, model-1" in unknown.error().hint and "model-7 and 2 more" in unknown.error().hint
    assert "pylon start" not in unknown.error().hint


def test_a_relay_that_refuses_us_is_named_also_where_somebody_was_heard_of_before() -> None:
    gone = Lack(Need(), 3, 0, {}, ("ws://r restricted: not on the list",))
    assert "ws://r restricted: not on the list" in gone.error().hint, "they were heard of, and are not any more"


def test_a_heartbeat_that_says_something_else_counts_though_it_holds_as_long_as_the_one_before() -> None:
    directory = Directory()
    directory.observe(announced(), NOW)
    directory.observe(beat(), NOW)
    [change] = directory.observe(beat(at=NOW + 30, lasts=90, slots_free=1), NOW + 30)
    assert isinstance(change, ProviderUp) and change.listing.slots_free == 1
