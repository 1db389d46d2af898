from dataclasses import replace

import pytest

from pylon.errors import MalformedError
from pylon.jobs.announcement import (
    Announcement,
    OfferedModel,
    announcement_draft,
    parse_announcement,
    withdrawal_draft,
)
from pylon.money.msat import MAX_MSAT, Msat
from pylon.money.price import Price
from pylon.nostr.event import Event, EventDraft

from . import examples as ex


def event(content: str, *tags: tuple[str, ...], kind: int = 31990) -> Event:
    return ex.PROVIDER.sign(EventDraft(kind, content, tags, ex.NOW))


def signed(announcement: Announcement) -> Event:
    return ex.PROVIDER.sign(announcement_draft(announcement, created_at=ex.NOW))


def test_a_plain_dvms_announcement_is_read():
    parsed = parse_announcement(event('{"name":"Dali","image":"x"}', ("d", "td51"), ("k", "5050"), ("k", "x")))
    assert parsed == Announcement("td51", "Dali", kinds=frozenset({5050}), price=None, network="")


def test_words_for_people_are_cleaned_and_cut_rather_than_refused():
    wordy = replace(ex.ANNOUNCEMENT, name="\x1b[1m" + "n" * 200, about="a" * 2_000, software="s" * 200)
    parsed = parse_announcement(signed(wordy))
    assert parsed.name == "[1m" + "n" * 97
    assert (len(parsed.about), len(parsed.software)) == (1_000, 100)
    assert parse_announcement(event('{"name":"\\u001b[1mx","about":7}', ("d", "x"))).name == "[1mx"


@pytest.mark.parametrize(
    ("name", "about", "content"),
    [("", "", ""), ("desk", "", '{"name":"desk"}'), ("", "b", '{"about":"b"}'), ("\x1b", "", "")],
)
def test_what_a_provider_does_not_say_of_itself_is_left_to_its_profile(name, about, content):
    sent = signed(replace(ex.ANNOUNCEMENT, name=name, about=about))
    assert sent.content == content
    assert (parse_announcement(sent).name, parse_announcement(sent).about) == (name.strip("\x1b"), about)


def test_relays_that_are_none_are_left_out():
    relays = ("wss://a.example", "http://b.example", "", "wss://c d", "wss://" + "x" * 300, "ws://e.example")
    assert parse_announcement(event("", ("d", "x"), ("relays", *relays))).relays == (relays[0], relays[5])
    many = tuple(f"wss://{n}.example" for n in range(30))
    assert parse_announcement(event("", ("d", "x"), ("relays", *many))).relays == many[:20]


@pytest.mark.parametrize(
    "change",
    [
        {"d": "x" * 201},
        {"d": "a\x00"},
        {"relays": ("http://x",)},
        {"network": "x" * 41},
        {"network": "a\x00"},
        {"network": ""},
        {"price": None},
        {"kinds": frozenset({100_000})},
        {"kinds": frozenset(range(101))},
        {"models": (OfferedModel("x" * 201),)},
        {"models": (OfferedModel("x", "y" * 65),)},
        {"models": (OfferedModel("x", context=-1),)},
        {"models": (OfferedModel("x", max_completion_tokens=-1),)},
        {"models": (OfferedModel("x"),) * 101},
        {"models": (OfferedModel("a\ud800"),)},
    ],
)
def test_an_announcement_that_nobody_could_read_is_not_made(change):
    with pytest.raises(MalformedError):
        signed(replace(ex.ANNOUNCEMENT, **{"price": Price(Msat(1)), **change}))


def test_the_longest_answer_stands_behind_a_models_context_where_it_is_said():
    said, silent = OfferedModel("a", "", "", 2_048, 12), OfferedModel("b", "", "", 2_048)
    made = signed(replace(ex.ANNOUNCEMENT, models=(said, silent)))
    assert [tag for tag in made.tags if tag[0] == "model"] == [
        ("model", "a", "", "", "2048", "12"),
        ("model", "b", "", "", "2048"),
    ]
    assert parse_announcement(made).models == (said, silent)
    later = event("", ("d", "x"), ("model", "a", "", "", "", "12", "more"), ("v", "pylon/1"))
    assert parse_announcement(later).models == (OfferedModel("a", max_completion_tokens=12),)


def test_without_models_relays_and_prices_their_tags_are_left_out():
    bare = Announcement("x", price=None, network="")
    assert {tag[0] for tag in signed(bare).tags} == {"d", "v"}
    assert parse_announcement(signed(bare)) == bare


def test_of_what_a_stranger_announces_no_more_is_kept_than_it_may_name():
    kinds = (("k", str(kind)) for kind in range(4_000))
    assert len(parse_announcement(event("", ("d", "x"), *kinds, ("v", "pylon/1"))).kinds) == 100


@pytest.mark.parametrize(
    ("content", "tags"),
    [
        ("", ()),
        ("no json", (("d", "x"),)),
        ("[]", (("d", "x"),)),
        ("", (("d", "x"), ("price", "1", "2"))),
        ("", (("d", "x"), ("price", "1", "2", "-3"))),
        # Each is an amount, and a job of some tokens would cost more than there is.
        ("", (("d", "x"), ("price", "1", str(MAX_MSAT), "0"))),
        ("", (("d", "x"), ("model", "a", "", "", "many"))),
        ("", (("d", "x"), ("model", "a", "", "", "1", "many"))),
        ("", (("d", "x"), ("model", "a", "", "", "1", "1234567890"))),
        ("", (("d", "x"), ("model", "a", "", "", "1", "\u0663"))),
        ("", (("d", "x" * 201),)),
    ],
)
def test_a_malformed_announcement_is_refused(content, tags):
    with pytest.raises(MalformedError):
        parse_announcement(event(content, *tags, ("v", "pylon/1")))


@pytest.mark.parametrize("version", [(), (("v", "pylon/2"),)])
def test_what_another_protocol_calls_price_model_or_network_takes_no_plain_provider_off_the_list(version):
    tags = (("k", "5050"), ("price", "100"), ("network", "x" * 50), ("model", "a", "", "", "many"), ("model", "b"))
    parsed = parse_announcement(event("", ("d", "x"), *tags, *version))
    assert parsed == Announcement("x", kinds=frozenset({5050}), models=(OfferedModel("b"),), price=None, network="")


@pytest.mark.parametrize("content", ["just text", "[]", "7", "{"])
def test_a_plain_providers_content_may_be_anything(content):
    parsed = parse_announcement(event(content, ("k", "5050")))
    assert (parsed.d, parsed.name, parsed.about) == ("", "", ""), "without d it is empty, as NIP-01 reads it"


def test_without_a_price_an_announcement_says_nothing_of_what_is_charged():
    priced = parse_announcement(
        event("", ("d", "x"), ("price", "0", "0", "0"), ("network", "play"), ("v", "pylon/1"))
    )
    silent = parse_announcement(event("", ("d", "x"), ("v", "pylon/1")))
    assert priced.price == Price() and silent.price is None


def test_other_kinds_are_no_announcements():
    with pytest.raises(MalformedError):
        parse_announcement(event("", ("d", "x"), kind=31989))


def test_a_withdrawal_names_the_announcement_by_its_address():
    draft = withdrawal_draft(ex.PROVIDER.public, "pylon", created_at=ex.NOW)
    assert draft.kind == 5
    assert ("a", f"31990:{ex.PROVIDER.public}:pylon") in draft.tags
    assert ("k", "31990") in draft.tags
    with pytest.raises(MalformedError):
        withdrawal_draft(ex.PROVIDER.public, "x" * 1_000, created_at=ex.NOW)
