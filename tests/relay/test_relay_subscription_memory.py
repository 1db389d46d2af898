"""What open subscriptions take of the relay's memory is bounded, for one connection and for all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay_peer import ALICE, note, peer

from pylon.nostr.filter import Filter
from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer
from pylon.relay.subscription_memory import ASSURED, SubscriptionMemory, weigh

ONE_FULL = "error: at most 1000 values in the open subscriptions of a connection; close some"
ALL_FULL = "error: the open subscriptions of all connections fill this relay; ask for less, or later"


@pytest.mark.parametrize(
    ("wanted", "weight"),
    [
        (Filter(), 1),
        (Filter(kinds=frozenset({1, 5940}), since=1), 4),
        (Filter(ids=frozenset({"a" * 64}), authors=frozenset()), 4),
        (Filter(tags={"e": frozenset({"a" * 64, "b" * 64}), "t": frozenset({""})}), 6),
        (Filter(tags={"t": frozenset({"x" * 65})}), 4),
        (Filter(tags={"t": frozenset({"x" * 1_024})}), 18),
    ],
)
def test_filters_lists_and_values_count_and_long_values_more(wanted, weight):
    assert weigh([wanted]) == weight
    assert weigh([wanted, wanted]) == 2 * weight


steps = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 400), st.booleans()), max_size=60)


@given(steps)
def test_no_more_is_given_than_the_limits_say_and_a_little_always(steps):
    limits = RelayLimits(open_values=900, all_open_values=1_000)
    memory, held = SubscriptionMemory(limits), [[] for _ in range(5)]
    for who, weight, opens in steps:
        mine = sum(held[who])
        if not opens:
            if held[who]:
                memory.give_back(held[who].pop())
        elif memory.refuse(mine, weight) is None:
            memory.take(weight)
            held[who].append(weight)
        else:
            assert mine + weight > ASSURED
        assert all(sum(one) <= limits.open_values for one in held)
        assert sum(map(sum, held)) <= limits.all_open_values + ASSURED * len(held)


def topics(count):
    return {"#t": [f"{number:08x}" for number in range(count)]}


async def test_subscriptions_of_a_connection_are_bounded_and_closing_one_makes_room():
    async with RelayServer(limits=RelayLimits(open_values=1_000)) as relay, peer(relay) as reader:
        assert await reader.request("one", topics(900)) == []
        assert await reader.request("two", topics(200)) == ONE_FULL
        # What is refused takes nothing, and one of the same name takes the place of the old one.
        assert await reader.request("small", topics(90)) == []
        assert await reader.request("one", topics(905)) == []
        assert await reader.request("two", topics(2)) == ONE_FULL
        await reader.say("CLOSE", "one")
        assert await reader.request("two", topics(900)) == []


async def test_whoever_fills_the_relay_shuts_out_nobody_who_asks_for_little():
    async with RelayServer(limits=RelayLimits(all_open_values=1_500)) as relay:
        async with peer(relay) as greedy, peer(relay) as modest:
            assert await greedy.request("a", topics(1_000)) == []
            assert await greedy.request("b", topics(600)) == ALL_FULL
            assert await modest.request("c", topics(700)) == ALL_FULL
            assert await modest.request("c", {**topics(400), "kinds": [1]}) == []
            event = note(ALICE)
            assert (await modest.request("d", {"ids": [event.id]})) == []
            await modest.say("EVENT", event.to_dict())
            while (await modest.hear())[0] != "EVENT":
                pass
            # A connection that ends gives back what it held.
            await greedy.websocket.close()
            while relay.connections > 1:
                await modest.count({"ids": [event.id]})
            assert await modest.request("c", topics(700)) == []
