"""What the gateway knows to be in vain before anybody is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.gateway import offers
from pylon.gateway.fit import check_size, misfit
from pylon.gateway.offers import MOST_MODELS, Offers
from pylon.gateway.problems import Problem
from pylon.gateway.upstream import Ended
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.swarm.providers.listing import least_context
from tests.gateway.fakes import CHAT, FakeCore, answer, client_of, gateway_of, listing
from tests.manual_clock import ManualClock

URL = "/v1/chat/completions"


def code(job, *rows, plain=False):
    problem = misfit(job, Offers(rows), plain=plain)
    return problem and problem.code


def test_a_model_that_nobody_has_is_not_found_and_one_that_is_paused_is():
    assert code({"model": "gpt-4"}, listing("m-1"), listing("m-2")) == "model_not_found"
    assert code({"model": "m-2"}, listing("m-1"), listing("m-2", state="paused (owner)")) is None
    assert code({"model": f"sha256:{'ab' * 32}"}, listing()) is None
    assert code({"model": "sha256:"}, {**listing(), "weights": [""]}) == "model_not_found"


def test_where_nobody_is_alive_nothing_is_known():
    assert code({"model": "gpt-4"}) is None and code({"prompt": "x" * 60_000}) is None


def test_a_prompt_is_too_long_when_no_context_holds_it():
    long = {"prompt": "x" * 30_000}
    assert code(long, listing(context=2_048)) == "context_length_exceeded"
    assert code(long, listing(context=2_048), listing(context=8_192)) is None
    assert code(long, listing(context=0)) is None
    assert code({"prompt": "x", "max_tokens": 5_000}, listing(context=2_048)) == "context_length_exceeded"
    # The one with room has another model.
    assert (
        code({**long, "model": "m"}, listing("m", context=2_048), listing(context=9_999)) == "context_length_exceeded"
    )


def test_what_is_too_long_is_said_in_tokens_that_were_counted_and_of_the_parameter_at_fault():
    alone = misfit({"prompt": "x" * 60, "max_tokens": 100_000}, Offers([listing(context=4_096)]), plain=False)
    assert alone.param == "max_tokens" and "100,000" in str(alone) and "4,096" in str(alone)
    assert "65,536" not in str(alone) and "messages" not in str(alone)
    both = misfit({"prompt": "x" * 60_000, "max_tokens": 100}, Offers([listing(context=4_096)]), plain=False)
    assert both.param == "messages" and "10,100" in str(both) and "8,192" not in str(both)


def test_who_reads_the_open_form_only_counts_where_it_may_be_asked():
    plain = {**listing(plain=True), "models": [], "weights": [], "contexts": []}
    long = {"prompt": "x" * 30_000}
    assert code(long, listing(context=2_048), plain) == "context_length_exceeded"
    assert code(long, listing(context=2_048), plain, plain=True) is None
    assert code({"model": "m-9"}, plain, plain=True) == "model_not_found"


@given(st.integers(0, 40_000), st.integers(1, 20_000), st.lists(st.integers(0, 16_384), min_size=1, max_size=4))
def test_nothing_is_refused_that_the_core_would_send(characters, most, contexts):
    need = least_context(characters, most)
    job = {"messages": [{"role": "user", "content": "x" * characters}], "max_tokens": most}
    takes = any(not 0 < context < need for context in contexts)
    assert (code(job, *(listing(context=context) for context in contexts)) is None) is takes


def test_text_that_no_event_holds_is_refused_by_its_bytes():
    check_size({"prompt": "é" * 32_768})
    with pytest.raises(Problem) as caught:
        check_size({"prompt": "é" * 32_768, "system": "x"})
    assert (caught.value.status, caught.value.code) == (413, "too_large")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"model": "gpt-4"}, 404, "model_not_found"),
        ({"messages": [{"role": "user", "content": "x" * 50_000}]}, 400, "context_length_exceeded"),
        ({"messages": [{"role": "user", "content": "x" * 70_000}]}, 413, "too_large"),
    ],
)
async def test_what_is_in_vain_is_told_at_once_and_nobody_is_asked(tmp_path, body, status, told, stream):
    core = FakeCore()
    gateway = gateway_of(core, tmp_path)
    async with client_of(gateway) as client:
        response = await client.post(URL, json={**CHAT, **body, "stream": stream})
    assert response.status_code == status and "retry-after" not in response.headers
    error = response.json()["error"]
    assert error["code"] == told and error["type"] == "invalid_request_error"
    assert not core.asked and gateway.asks.tally.outcomes == {told: 1}


async def test_nothing_is_in_vain_before_a_relay_told_who_is_there(tmp_path):
    core = FakeCore(lambda _: [Ended(answer())])
    core.seen["caught_up"] = False
    async with client_of(gateway_of(core, tmp_path)) as client:
        assert (await client.post(URL, json={**CHAT, "model": "gpt-4"})).status_code == 200


async def test_who_came_a_moment_ago_is_looked_for_before_a_model_is_not_found(tmp_path):
    core, clock = FakeCore(), ManualClock()
    gateway = gateway_of(core, tmp_path, clock=clock)
    async with client_of(gateway) as client:
        assert (await client.post(URL, json=CHAT)).status_code == 200
        core.seen = {**core.seen, "providers": [listing("new")]}
        clock.advance(2)
        assert (await client.post(URL, json={**CHAT, "model": "new"})).status_code == 200


async def test_who_names_no_price_breaks_nothing(tmp_path):
    core = FakeCore(bid=100, providers=[listing(price=None), listing(price=(10, 0, 0))])
    async with client_of(gateway_of(core, tmp_path)) as client:
        assert (await client.post(URL, json=CHAT)).status_code == 200
        assert (await client.get("/api/now")).json()["providers"]["rows"][0]["price"] in (
            None,
            Price(Msat(10)).rates(),
        )


class ReadRow(dict):
    """A row that counts how often a field of it is read."""

    reads = 0

    def __getitem__(self, name):
        ReadRow.reads += 1
        return super().__getitem__(name)


async def test_the_rows_of_thousands_of_providers_are_read_once_a_look_and_not_for_each_request(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(ReadRow, "reads", 0)
    rows = [ReadRow(listing(f"m-{number}", price=(number, 0, 0))) for number in range(20)]
    core, clock = FakeCore(bid=100, providers=rows), ManualClock()
    async with client_of(gateway_of(core, tmp_path, clock=clock)) as client:
        assert (await client.get("/v1/models")).status_code == 200
        once = ReadRow.reads
        for number in range(20):
            assert (await client.post(URL, json={**CHAT, "model": f"m-{number}"})).status_code == 200
            assert (await client.get(f"/v1/models/m-{number}")).json()["id"] == f"m-{number}"
        assert core.budgets == sorted(set(core.budgets)), "each is dearer than the one before"
        assert ReadRow.reads == once > 0
        clock.advance(10)
        core.seen = {**core.seen, "providers": [listing("new", price=(50, 0, 0))]}
        assert (await client.post(URL, json={**CHAT, "model": "new"})).status_code == 200
        assert core.budgets[-1] >= 50


async def test_of_more_prices_than_a_question_looks_at_the_bid_is_reserved(tmp_path, monkeypatch):
    monkeypatch.setattr(offers, "MOST_PRICES", 2)
    core, clock = FakeCore(bid=100, providers=[listing(price=(rate, 0, 0)) for rate in (7, 8, 7)]), ManualClock()
    async with client_of(gateway_of(core, tmp_path, clock=clock)) as client:
        assert (await client.post(URL, json=CHAT)).status_code == 200
        clock.advance(10)
        core.seen["providers"].append(listing(price=(9, 0, 0)))
        assert (await client.post(URL, json=CHAT)).status_code == 200
    few, many = core.budgets
    assert many / few == 100 / 8


async def test_the_list_of_models_is_bounded_and_those_left_out_are_those_that_few_have(tmp_path):
    rows = [listing(f"m-{number:05}") for number in range(MOST_MODELS + 5)]
    core = FakeCore(providers=[*rows, listing("z"), listing("z")])
    async with client_of(gateway_of(core, tmp_path)) as client:
        models = [one["id"] for one in (await client.get("/v1/models")).json()["data"]]
        assert len(models) == 2 + MOST_MODELS and models[-1] == "z"
        last = f"m-{MOST_MODELS + 4:05}"
        assert last not in models and (await client.get(f"/v1/models/{last}")).json()["id"] == last
        assert (await client.post(URL, json={**CHAT, "model": last})).status_code == 200
