"""The barest exchange: at each level all answers arrive, and none counts that is not what was asked for."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing

import pytest

from benchmarks.bare import customer, events, messages, provider, relay
from benchmarks.bare.books import Books
from benchmarks.bare.customer import Customer
from benchmarks.bare.provider import Provider
from benchmarks.bare.run import LEVELS
from pylon.nostr.crypto.nip44 import encrypt

PROMPTS = [f"prompt number {n}" for n in range(6)]


@asynccontextmanager
async def exchange(folder, level="wire", kinds=(Provider, Provider, Provider)):
    """A customer and its providers at a relay, all in this process."""
    stored = Books(folder / "relay.db", relay.SCHEMA, "NORMAL") if level != "wire" else None
    asked = Books(folder / "customer.db", customer.SCHEMA, "FULL") if level == "books" else None
    done = Books(folder / "provider.db", provider.SCHEMA, "FULL") if level == "books" else None
    async with relay.listening(stored) as url:
        providers = [await kind(url, done).start() for kind in kinds]
        one = await Customer(url, asked).start()
        yield one, providers
        for peer in (one, *providers):
            peer.close()
            await peer.closed
    for books in (stored, asked, done):
        if books is not None:
            books.close()


def keys(providers):
    return [one.author.public for one in providers]


def rows(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize("level", LEVELS)
async def test_all_answers_arrive_and_are_acknowledged(tmp_path, level):
    async with exchange(tmp_path, level) as (one, providers):
        for agreements in (6, 0):
            report = await one.map(PROMPTS, keys(providers), 10)
            assert report["completed"] == 6
            assert report["agreements"] == agreements
        assert one.refused == sum(each.refused for each in providers) == 0
        assert not one.waiting
        sizes = one.sizes()
        assert sizes.request_plain == len(events.request_text(PROMPTS[-1]))
        assert sizes.result_message > sizes.result_plain


async def test_each_step_of_a_paid_job_is_in_the_books(tmp_path):
    async with exchange(tmp_path, "books") as (one, providers):
        await one.map(PROMPTS, keys(providers), 10)
    results = rows(tmp_path / "provider.db", "SELECT id, result FROM job WHERE charge = 650")
    receipts = dict(rows(tmp_path / "customer.db", "SELECT request, receipt FROM receipt"))
    asked = dict(rows(tmp_path / "customer.db", "SELECT id, prompt FROM request"))
    stored = {id_ for (id_,) in rows(tmp_path / "relay.db", "SELECT id FROM event")}
    assert sorted(asked.values()) == PROMPTS
    assert {id_ for id_, _ in results} == set(receipts) == set(asked)
    assert stored == set(asked) | {json.loads(result)["id"] for _, result in results}


class Wrong(Provider):
    """Answers another prompt than the one it was sent."""

    def answer(self, prompt):
        return super().answer(prompt + "!")


class Forging(Provider):
    """Publishes results that were changed after they were signed."""

    def publish(self, event):
        super().publish({**event, "tags": [*event["tags"], ["more"]]})


class Unsigned(Provider):
    """Publishes results under another event's signature."""

    def publish(self, event):
        other = self.author.sign(events.RESULT, [], "")
        super().publish({**event, "sig": other["sig"]})


async def test_a_wrong_answer_is_not_counted(tmp_path):
    async with exchange(tmp_path, kinds=(Provider, Wrong)) as (one, providers):
        assert (await one.map(PROMPTS, keys(providers), 0.5))["completed"] == 3


@pytest.mark.parametrize("kind", [Forging, Unsigned])
async def test_the_relay_refuses_what_was_forged(tmp_path, kind):
    async with exchange(tmp_path, kinds=(Provider, kind)) as (one, providers):
        assert (await one.map(PROMPTS, keys(providers), 0.5))["completed"] == 3
        assert [each.refused for each in providers] == [0, 3]


@pytest.mark.parametrize("kind", [Forging, Unsigned])
async def test_the_customer_counts_nothing_forged_whatever_the_relay_lets_pass(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(relay, "holds", lambda event: True)
    async with exchange(tmp_path, kinds=(Provider, kind)) as (one, providers):
        assert (await one.map(PROMPTS, keys(providers), 0.5))["completed"] == 3
        assert [each.refused for each in providers] == [0, 0]


async def test_an_answer_of_somebody_else_is_not_counted(tmp_path):
    async with exchange(tmp_path) as (one, providers):

        class Elsewhere(Provider):
            """Lets a colleague answer in its place."""

            def publish(self, event):
                colleague = providers[0].author
                providers[0].publish(colleague.sign(event["kind"], event["tags"], event["content"]))

        providers.append(await Elsewhere(one._url).start())
        assert (await one.map(PROMPTS, keys(providers)[2:], 0.5))["completed"] == 3


@pytest.mark.parametrize("inside", [b"no JSON", b"[]", b'{"text": 1}'])
async def test_a_request_that_says_nothing_ends_no_connection(tmp_path, inside):
    async with exchange(tmp_path, kinds=(Provider,)) as (one, providers):
        key = providers[0].author.public
        one.publish(one.author.sign(events.REQUEST, [["p", key]], "not sealed"))
        one.publish(one.author.sign(events.REQUEST, [["p", key]], encrypt(one.key(key), inside)))
        assert (await one.map(PROMPTS, keys(providers), 5))["completed"] == 6


async def test_a_message_that_is_too_long_ends_its_connection_alone(tmp_path):
    async with exchange(tmp_path) as (one, providers):
        providers[0].send(b" " * 200_000)
        await asyncio.wait_for(providers[0].closed, 5)
        assert (await one.map(PROMPTS, keys(providers)[1:], 5))["completed"] == 6


@pytest.mark.parametrize(
    "broken",
    [
        {"kind": True}, {"kind": 70_000}, {"created_at": 1.5}, {"content": None}, {"tags": [["p", 1]]},
        {"tags": [[]]}, {"tags": {}}, {"pubkey": "zz"}, {"sig": "00"}, {"id": "00" * 32},
    ],
)  # fmt: skip
def test_what_is_no_event_does_not_hold(broken):
    event = events.Author().sign(1, [["p", "x"]], "text")
    assert events.holds(event)
    assert not events.holds({**event, **broken})
    assert not events.holds({name: value for name, value in event.items() if name not in broken})
    assert not events.holds([event])


def test_the_command_reports_a_level():
    command = [sys.executable, "-m", "benchmarks.bare.run", "--level", "books", "--json"]
    # So many jobs that rounding leaves the figures alone.
    ended = subprocess.run([*command, "--providers", "4", "--jobs", "60"], capture_output=True, timeout=60)
    assert ended.returncode == 0, ended.stderr.decode()
    books = json.loads(ended.stdout)["levels"]["books"]
    assert (books["completed"], books["refused"]) == (60, 0)
    assert books["ratio"] == pytest.approx(books["wall_s"] / books["floor_s"], rel=0.1)


async def test_a_message_has_a_price_in_each_way():
    found = await messages.measure(connections=3, rounds=1)
    assert list(found) == ["bytes", "callbacks", "asyncio"]
    assert all(price > 0 for prices in found.values() for each in prices.values() for price in each)
