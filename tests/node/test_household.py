"""A household's invite, its messages, its file and its relay's door."""

import asyncio
import errno
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon import config as settings
from pylon.clock import SystemClock
from pylon.errors import PylonError, SetupError, UnreachableError, UsageError, WireError
from pylon.jobs.announcement import HOUSEHOLD
from pylon.money.price import FREE
from pylon.node import identity
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.household.invite import Invite, decode, encode
from pylon.node.household.inviting import Head, Joined, new_household
from pylon.node.household.joining import follow, join
from pylon.node.household.members import AdmittedKeys, Guest, Household, HouseholdFile, TrustedKeys, relay_urls
from pylon.node.household.wire import join_event, list_event, read_join, read_list
from pylon.node.session import LocalNode
from pylon.node.settings import provider_settings
from pylon.nostr.bech32 import checksum as bech32
from pylon.nostr.bech32 import nip19
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.nostr.pool_subscription import Received
from pylon.relay.server import RelayServer
from pylon.swarm.checks import reputation_store
from tests.node import programs
from tests.waiting import until

HEAD, MEMBER, OTHER, GUEST = (SecretKey(bytes([n]) * 32) for n in (1, 2, 3, 4))
NOW = 1_800_000_000


def invitation(**changes) -> Invite:
    fields = {"secret": GUEST, "head": HEAD.public, "relays": ("ws://192.168.1.5:7447",), "expires_at": NOW + 600}
    return Invite(**{**fields, **changes})


# --- the line


def test_an_invite_comes_back_from_its_line():
    wanted = invitation(relays=("ws://192.168.1.5:7447", "wss://relay.example.org"))
    assert decode(encode(wanted)) == wanted
    assert encode(wanted).startswith("pylon1")


def test_a_line_with_one_letter_wrong_is_refused_and_not_repeated():
    line = encode(invitation())
    wrong = line[:40] + ("q" if line[40] != "q" else "p") + line[41:]
    with pytest.raises(UsageError) as caught:
        decode(wrong)
    assert wrong not in str(caught.value)


@given(st.one_of(st.text(), st.binary().map(lambda data: bech32.encode("pylon", data))))
def test_any_other_line_is_refused_with_one_kind_of_error(line):
    with pytest.raises(UsageError):
        decode(line)


def test_a_line_that_was_cut_is_said_not_to_be_the_whole():
    with pytest.raises(UsageError, match="not a complete invite") as caught:
        decode(encode(invitation())[:-9])
    assert "after `pylon join`" in caught.value.hint


def test_an_invites_key_does_not_show():
    assert GUEST.secret_bytes.hex() not in repr(invitation())


# --- the messages


def test_a_request_to_join_names_who_signed_it():
    event = join_event(GUEST, HEAD.public, MEMBER, "kitchen\x1b", created_at=NOW)
    assert event.pubkey == GUEST.public
    assert MEMBER.public not in event.content
    assert read_join(event, ConversationKeys(HEAD), HEAD.public) == (MEMBER.public, "kitchen")


def test_nobody_can_enter_another_key_or_use_another_invite():
    keys = ConversationKeys(HEAD)
    event = join_event(GUEST, HEAD.public, MEMBER, "kitchen", created_at=NOW)
    inside = ConversationKeys(GUEST).decrypt(HEAD.public, event.content)
    forged = inside.replace(MEMBER.public.encode(), OTHER.public.encode())
    replayed = ConversationKeys(OTHER).encrypt(HEAD.public, inside)
    for author, content in ((GUEST, ConversationKeys(GUEST).encrypt(HEAD.public, forged)), (OTHER, replayed)):
        with pytest.raises(WireError):
            read_join(author.sign(EventDraft(event.kind, content, event.tags, NOW)), keys, HEAD.public)


def test_a_list_counts_only_from_its_head():
    household = new_household(HEAD.public, ("ws://relay",), "desk").with_member(MEMBER.public, "kitchen")
    event = list_event(household, MEMBER.public, HEAD, ConversationKeys(HEAD), created_at=NOW)
    read = read_list(event, ConversationKeys(MEMBER), HEAD.public)
    assert (read.members, read.relays, read.updated_at) == (household.members, household.relays, NOW)
    stranger = list_event(household, MEMBER.public, OTHER, ConversationKeys(OTHER), created_at=NOW)
    with pytest.raises(WireError):
        read_list(stranger, ConversationKeys(MEMBER), HEAD.public)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_heads_list_of_anything_else_is_malformed(body):
    keys = ConversationKeys(HEAD)
    try:
        content = orjson.dumps(body)
    except TypeError:
        return
    event = HEAD.sign(EventDraft(30_078, keys.encrypt(MEMBER.public, content or b" "), (), NOW))
    with pytest.raises(WireError):
        read_list(event, ConversationKeys(MEMBER), HEAD.public)


# --- the file


def test_the_file_is_its_owners_alone_and_shows_changes(tmp_path):
    writer, reader = HouseholdFile(tmp_path), HouseholdFile(tmp_path)
    assert reader.get() is None
    household = new_household(HEAD.public, ("ws://relay",), "desk").with_guest(GUEST.public, Guest(NOW))
    writer.save(household)
    assert reader.get() == household
    assert (tmp_path / "household.json").stat().st_mode & 0o077 == 0
    writer.save(household.with_member(MEMBER.public, "kitchen"))
    assert MEMBER.public in (reader.get() or household).members


@pytest.mark.parametrize(
    "text", ["", "[]", '{"head": 1}', '{"head":"x","relays":[],"members":{},"guests":{},"updated_at":0}']
)
def test_a_broken_file_is_said_to_be_one(tmp_path, text):
    (tmp_path / "household.json").write_text(text)
    with pytest.raises(SetupError):
        HouseholdFile(tmp_path).get()


def test_members_are_trusted_and_the_door_knows_guests_until_their_time_is_over(tmp_path):
    file = HouseholdFile(tmp_path)
    trusted, door = TrustedKeys(frozenset({OTHER.public}), file), AdmittedKeys(file)
    assert OTHER.public in trusted and HEAD.public not in trusted and HEAD.public not in door
    household = new_household(HEAD.public, (), "desk").with_guest(GUEST.public, Guest(int(time.time()) + 60))
    file.save(household.with_guest(OTHER.public, Guest(int(time.time()) - 1)))
    assert HEAD.public in trusted and GUEST.public not in trusted
    assert HEAD.public in door and GUEST.public in door and OTHER.public not in door


def test_a_member_announces_itself_to_its_household_alone_and_charges_nobody(tmp_path):
    file = HouseholdFile(tmp_path)
    paid = {"provider": {"pricing": "paid"}}
    assert provider_settings(settings.parse(paid), HEAD.public, file).network == "play"
    file.save(Household(HEAD.public, members={HEAD.public: "here"}))
    alone = provider_settings(settings.parse(paid), HEAD.public, file)
    assert (alone.network, alone.price) == (HOUSEHOLD, FREE)
    both = provider_settings(settings.parse(paid | {"household": {"strangers": True}}), HEAD.public, file)
    assert both.network == "play" and not both.price.is_free


def test_a_member_needs_no_relay_of_its_own():
    household = Household(HEAD.public, ("ws://desk:7447",), {HEAD.public: "", MEMBER.public: ""})
    configured = ["ws://127.0.0.1:7447", "wss://other.example"]
    assert relay_urls(configured, household, MEMBER.public) == ["ws://desk:7447", "wss://other.example"]
    assert relay_urls(configured, household, HEAD.public) == configured
    # A head's own relay may listen elsewhere.
    assert relay_urls(configured, household, HEAD.public, "ws://127.0.0.1:9") == ["ws://127.0.0.1:9", *configured[1:]]


# --- over a relay that lets in members and guests


@pytest.fixture
async def house(tmp_path):
    """The head's file, its pool, and a relay behind the household's door."""
    file = HouseholdFile(tmp_path)
    file.save(new_household(HEAD.public, (), "desk"))
    door = AdmittedKeys(file)
    async with RelayServer(allow_writers=door, allow_readers=door) as relay:
        pool = RelayPool([relay.url], secret=HEAD)
        pool.start()
        await pool.wait_open()
        yield Head(HEAD, ConversationKeys(HEAD), pool, file, SystemClock(), lambda: None), relay.url, file
        await pool.close()


async def test_an_invite_lets_one_machine_in_and_the_others_hear_of_it(house, tmp_path):
    head, url, _ = house
    steps = head.invite(2, 60, (url,), "desk")
    lines = [await anext(steps), await anext(steps)]
    waiting = asyncio.create_task(anext(steps))
    joined = await join(decode(lines[0]), MEMBER, "kitchen", SystemClock())
    assert await waiting == Joined(MEMBER.public, "kitchen")
    assert joined.members == {HEAD.public: "desk", MEMBER.public: "kitchen"}

    copy = HouseholdFile(tmp_path / "copy")
    (tmp_path / "copy").mkdir()
    copy.save(joined)
    heard = asyncio.Event()
    pool = RelayPool([url], secret=MEMBER)
    pool.start()
    following = asyncio.create_task(follow(pool, MEMBER, ConversationKeys(MEMBER), copy, heard.set))
    waiting = asyncio.create_task(anext(steps))
    await join(decode(lines[1]), OTHER, "attic", SystemClock())
    assert await waiting == Joined(OTHER.public, "attic")
    await asyncio.wait_for(heard.wait(), 20)
    assert OTHER.public in (copy.get() or joined).members

    assert await head.remove(OTHER.public)
    await until(lambda: OTHER.public not in (copy.get() or joined).members)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await pool.close()
    await steps.aclose()


async def test_a_list_that_the_disk_refused_is_followed_when_it_takes_it_and_so_is_the_next(
    house, tmp_path, monkeypatch
):
    monkeypatch.setattr("pylon.node.household.joining.REST_S", 0.01)
    monkeypatch.setattr("pylon.forever.REST_S", 0.01)
    head, url, file = house
    three = (
        new_household(HEAD.public, (url,), "desk")
        .with_member(MEMBER.public, "kitchen")
        .with_member(OTHER.public, "attic")
    )
    file.save(three)
    folder = tmp_path / "copy"
    folder.mkdir()
    copy = HouseholdFile(folder)
    copy.save(three)
    save, refused = copy.save, []

    def refusing(household):
        if len(refused) < 3:
            refused.append(household)
            raise OSError(errno.ENOSPC, "No space left on device")
        save(household)

    monkeypatch.setattr(copy, "save", refusing)
    told = []

    def changed():
        told.append(copy.get())
        if len(told) == 1:
            raise LookupError("a fault of ours")

    pool = RelayPool([url], secret=MEMBER)
    pool.start()
    following = asyncio.create_task(follow(pool, MEMBER, ConversationKeys(MEMBER), copy, changed))
    try:
        assert await head.remove(OTHER.public)
        await until(lambda: told)
        assert len(refused) == 3 and OTHER.public not in told[0].members
        await head._spread(head._household().with_member(GUEST.public, "shed"))
        await until(lambda: len(told) >= 2)
        assert GUEST.public in told[1].members
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await pool.close()


async def test_a_relay_that_sends_anything_but_lists_fills_no_log(tmp_path, monkeypatch):
    told, over = [], asyncio.Event()
    monkeypatch.setattr("pylon.node.household.joining.logger.warning", lambda *said, **fields: told.append(said))
    file = HouseholdFile(tmp_path)
    file.save(new_household(HEAD.public, (), "desk"))
    coming = [Received(OTHER.sign(EventDraft(1, str(n))), "ws://127.0.0.1:9") for n in range(100)]

    class Flood:
        async def next_batch(self, _):
            if not coming:
                over.set()
                await asyncio.Event().wait()
            return [coming.pop()]

        async def close(self):
            pass

    class Pool:
        def subscribe(self, *_, **__):
            return Flood()

    following = asyncio.create_task(follow(Pool(), MEMBER, ConversationKeys(MEMBER), file, lambda: None))
    await asyncio.wait_for(over.wait(), 20)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert 1 <= len(told) <= 5


async def test_a_used_invite_lets_nobody_else_in(house, monkeypatch):
    head, url, file = house
    steps = head.invite(2, 60, (url,), "desk")
    lines = [await anext(steps), await anext(steps)]
    waiting = asyncio.create_task(anext(steps))
    await join(decode(lines[0]), MEMBER, "kitchen", SystemClock())
    await waiting
    waiting = asyncio.create_task(anext(steps))
    monkeypatch.setattr("pylon.node.household.joining.ANSWER_S", 2.0)
    with pytest.raises(UnreachableError):
        await join(decode(lines[0]), OTHER, "thief", SystemClock())
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert OTHER.public not in (file.get() or new_household("", (), "")).members


async def test_who_asks_again_and_again_does_not_put_the_lists_date_ahead_of_the_clock(house):
    head, url, file = house
    now = int(time.time())
    file.save(new_household(HEAD.public, (url,), "desk").with_guest(GUEST.public, Guest(now + 60)))
    asked = join_event(GUEST, HEAD.public, MEMBER, "kitchen", created_at=now)
    assert await head._admit(asked) == Joined(MEMBER.public, "kitchen")
    for _ in range(20):
        await head._admit(asked)
    assert file.get().updated_at <= time.time() + 1


async def test_who_was_removed_does_not_come_back_with_the_invite_that_it_used(house, monkeypatch):
    monkeypatch.setattr("pylon.node.household.inviting.ANSWER_AGAIN_S", 0.0)
    head, url, file = house
    now = int(time.time())
    file.save(new_household(HEAD.public, (url,), "desk").with_guest(GUEST.public, Guest(now + 60)))
    asked = join_event(GUEST, HEAD.public, MEMBER, "kitchen", created_at=now)
    await head._admit(asked)
    assert await head._admit(asked) == Joined(MEMBER.public, "kitchen"), "its first answer may have been lost"
    assert await head.remove(MEMBER.public)
    assert await head._admit(asked) is None
    assert MEMBER.public not in file.get().members and GUEST.public not in AdmittedKeys(file)


async def test_an_invite_that_nobody_waits_for_opens_no_door(house, monkeypatch):
    head, url, _ = house
    monkeypatch.setattr("pylon.node.household.joining.ANSWER_S", 2.0)
    steps = head.invite(1, 60, (url,), "desk")
    line = await anext(steps)
    await steps.aclose()
    with pytest.raises(PylonError):
        await join(decode(line), MEMBER, "late", SystemClock())


async def test_a_member_cannot_invite_and_the_head_cannot_be_removed(house):
    head, url, file = house
    with pytest.raises(UsageError):
        await head.remove(HEAD.public)
    file.save(Household(OTHER.public, (), {OTHER.public: "", HEAD.public: ""}))
    with pytest.raises(UsageError):
        await anext(head.invite(1, 60, (url,), "desk"))


async def test_who_joins_where_no_relay_answers_is_told_what_has_to_run_over_there(monkeypatch):
    monkeypatch.setattr("pylon.node.household.joining.OPEN_S", 0.5)
    lost = invitation(relays=("ws://127.0.0.1:9",), expires_at=int(time.time()) + 60)
    with pytest.raises(UnreachableError, match=r"ws://127\.0\.0\.1:9") as caught:
        await join(lost, MEMBER, "kitchen", SystemClock())
    assert "pylon start --relay" in caught.value.hint and "pylon relay" not in caught.value.hint


async def test_a_head_without_its_relay_hands_out_no_invites(tmp_path, monkeypatch):
    port = programs.free_port()
    home = Home(tmp_path)
    home.create()
    head = identity.create(home.identity_file).public
    config = settings.parse({"relay": {"host": "127.0.0.1", "port": port}})
    file = HouseholdFile(home.folder)
    file.save(new_household(head, (), "desk"))
    async with Core(home, config, serve=False) as core:
        with monkeypatch.context() as hasty:
            hasty.setattr("pylon.node.household.calls.OPEN_S", 0.5)
            with pytest.raises(UnreachableError, match=f"ws://127.0.0.1:{port} ") as caught:
                await result_of(LocalNode(core), "invite", {})
        assert "pylon start --relay" in caught.value.hint
        assert (file.get() or new_household("", (), "")).guests == {}
    async with RelayServer(port=port), Core(home, config, serve=False) as core:
        steps = LocalNode(core).call("invite", {})
        code = (await anext(steps)).data["code"]
        await steps.aclose()
    assert decode(code).relays == (f"ws://127.0.0.1:{port}",)


async def test_who_is_expelled_while_the_customers_side_opens_is_nobodys_own_any_more(tmp_path, monkeypatch):
    home = Home(tmp_path)
    home.create()
    head = identity.create(home.identity_file).public
    file = HouseholdFile(home.folder)
    file.save(new_household(head, (), "desk").with_member(MEMBER.public, "kitchen"))
    async with Core(home, settings.parse({"relays": ["ws://127.0.0.1:9"]}), serve=False) as core:
        load = reputation_store.load

        async def slow(*arguments, **options):
            await result_of(LocalNode(core), "household-remove", {"key": nip19.npub(MEMBER.public)})
            return await load(*arguments, **options)

        monkeypatch.setattr(reputation_store, "load", slow)
        asked = (await core.customer()).client.circle
    assert asked.own == {head}, "an own machine is not checked, and not paid"
    assert asked.allow == {head}, "and it is sent prompts"


async def test_who_is_expelled_is_nobodys_own_before_the_others_are_told_of_it(tmp_path, monkeypatch):
    home = Home(tmp_path)
    home.create()
    head = identity.create(home.identity_file).public
    file = HouseholdFile(home.folder)
    two = new_household(head, (), "desk").with_member(MEMBER.public, "kitchen")
    file.save(two.with_member(OTHER.public, "attic"))
    async with Core(home, settings.parse({"relays": ["ws://127.0.0.1:9"]}), serve=False) as core:
        client = (await core.customer()).client
        told = asyncio.Event()

        async def silent(*_, **__):
            told.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(RelayPool, "publish", silent)
        removing = asyncio.create_task(
            result_of(LocalNode(core), "household-remove", {"key": nip19.npub(MEMBER.public)})
        )
        await asyncio.wait_for(told.wait(), 30)
        assert client.circle.own == client.circle.allow == {head, OTHER.public}
        removing.cancel()
        await asyncio.gather(removing, return_exceptions=True)


async def test_an_invite_whose_time_is_over_is_refused_before_anything_is_sent():
    with pytest.raises(UsageError):
        await join(invitation(expires_at=int(time.time()) - 1), MEMBER, "late", SystemClock())


def test_the_protocol_page_names_both_messages_and_their_tags():
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    asked = join_event(GUEST, HEAD.public, MEMBER, "kitchen", created_at=NOW)
    told = list_event(new_household(HEAD.public, (), ""), MEMBER.public, HEAD, ConversationKeys(HEAD), created_at=NOW)
    inside = orjson.loads(ConversationKeys(HEAD).decrypt(GUEST.public, asked.content))
    for event in (asked, told):
        assert f"| {event.kind} |" in page
    for name in {tag[0] for tag in (*asked.tags, *told.tags, *inside["tags"])}:
        assert f'["{name}"' in page
