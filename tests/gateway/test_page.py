"""The page, what it fetches, and the metrics."""

import asyncio
import os
import re
from pathlib import Path
from urllib.parse import quote

import pytest

import pylon
from pylon.gateway import view
from pylon.gateway.access import AccessRules
from pylon.gateway.metrics import Histogram, Sample
from pylon.gateway.page import page_file
from pylon.gateway.trajectories import MOST_CHARS, MOST_EVENTS
from pylon.jobs.codes import ErrorCode
from pylon.provider.rows import JobState
from pylon.provider.work.latency import Latency
from pylon.rlm.loop_state import Reason
from pylon.rlm.trajectory import Trajectory
from pylon.swarm.dispatch.messages import Failure
from tests.gateway.fakes import CHAT, TOKEN, FakeCore, client_of, gateway_of, listing
from tests.manual_clock import ManualClock

HOSTILE = "<img src=x onerror=alert(1)>\u202e\nsecond line " + "x" * 500
OLDER = "20260101-000000-aaaaaa"
LATENCY = Latency()
LATENCY.note(0.3, 2.0, 0.04)
SERVING = {
    "running": True, "npub": "npub1me", "network": "play", "provider": {
        "paused": "", "draining": False, "queued": 2, "running": 3, "unpublished": 0,
        "jobs": {"settled": 7, "failed": 1}, "latency": LATENCY.as_dict(),
    },
}  # fmt: skip


async def test_a_browser_trades_the_printed_code_for_a_session_that_shows_and_spends_nothing(tmp_path):
    gateway = gateway_of(FakeCore(), tmp_path)
    async with client_of(gateway, token=None) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/api/now")).status_code == 401
        code = gateway.sessions.code
        opened = await client.post("/session", json={"key": code})
        # A cookie would go to whatever listens at any port of this host.
        assert "set-cookie" not in opened.headers and opened.headers["cache-control"] == "no-store"
        session = opened.json()["session"]
        assert session not in (TOKEN, code)
        assert (await client.get("/api/now")).status_code == 401
        client.headers["authorization"] = f"Bearer {session}"
        assert (await client.get("/api/now")).status_code == 200
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 401
        assert (await client.post("/session", json={"key": session})).status_code == 401
    async with client_of(gateway, token=None) as client:
        assert (await client.post("/session", json={"key": code})).status_code == 401
        assert (await client.post("/session", json={"key": TOKEN})).status_code == 200


async def test_the_page_holds_nothing_of_the_node_and_may_run_nothing_but_its_own_script(tmp_path):
    async with client_of(gateway_of(FakeCore(providers=[listing(name=HOSTILE)]), tmp_path)) as client:
        response = await client.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert response.headers["x-frame-options"] == "DENY"
    assert "onerror" not in response.text and "npub1" not in response.text.replace('startsWith("npub1")', "")


def test_the_page_needs_no_other_resource_and_sets_what_it_shows_as_text():
    html = page_file()[0].decode()
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\son\w+=", html)
    # A policy that names hashes lets no style stand in an element.
    assert " style=" not in html


async def test_the_locked_page_says_where_the_token_lies_in_a_form_that_browsers_know(tmp_path):
    rules = AccessRules(TOKEN, frozenset(), loopback=True, token_file="~/.pylon/<b>&/gateway-token")
    gateway = gateway_of(FakeCore(), tmp_path, rules=rules)
    async with client_of(gateway, token=None) as client:
        html = (await client.get("/")).text
    assert "~/.pylon/&lt;b&gt;&amp;/gateway-token" in html and "{token_file}" not in html
    form = re.search(r"<form.*?</form>", html, re.DOTALL)[0]
    assert 'type="password" autocomplete="current-password"' in form and "<button>" in form


@pytest.mark.parametrize("codes", [Failure, ErrorCode, Reason, JobState], ids=lambda codes: codes.__name__)
def test_the_page_has_words_for_every_code(codes):
    words = re.search(r"const words = \{(.*?)\};", page_file()[0].decode(), re.DOTALL)[1]
    known = set(re.findall(r"(\w+): \"", words))
    assert {code.value for code in codes} <= known


def test_the_page_has_words_for_every_event_of_a_trajectory():
    docs = (Path(pylon.__file__).parents[1] / "docs" / "rlm.md").read_text()
    told = docs[docs.index("| type | when | fields |") :].split("\n\n")[0]
    heads = re.search(r"const heads = \{(.*?)\n\};", page_file()[0].decode(), re.DOTALL)[1]
    # How much is left after each turn is not shown.
    events = set(re.findall(r"^\| `(\w+)`", told, re.MULTILINE)) - {"budget"}
    assert events <= set(re.findall(r"(?:^|,)\s*(\w+): \(", heads, re.MULTILINE))


async def test_what_strangers_wrote_is_one_bounded_line(tmp_path):
    core = FakeCore(providers=[listing(HOSTILE, name=HOSTILE)] * 300)
    async with client_of(gateway_of(core, tmp_path)) as client:
        said = (await client.get("/api/now")).json()["providers"]
    assert said["alive"] == 300 and len(said["rows"]) == 200
    for text in (said["rows"][0]["name"], said["rows"][0]["models"][0]):
        assert len(text) == 120 and text.endswith("…") and "\n" not in text and "\u202e" not in text


async def test_what_the_core_cannot_say_now_is_left_out(tmp_path):
    core = FakeCore()
    core.answers.clear()
    async with client_of(gateway_of(core, tmp_path, unit="play sat")) as client:
        said = (await client.get("/api/now")).json()
        assert (said["status"], said["totals"], said["jobs"]) == (None, None, [])
        # What was spent is no sat of Bitcoin for that.
        assert said["gateway"]["unit"] == "play sat"
        assert "pylon_up 0\n" in (await client.get("/metrics")).text


async def test_a_core_that_hangs_is_seen_soon_and_called_once_until_it_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(view, "LOOK_S", 0.1)
    clock, core, goes, called = ManualClock(), FakeCore(), asyncio.Event(), []
    result = core.result

    async def hangs(method, params=None):
        called.append(method)
        await goes.wait()
        return await result(method, params)

    monkeypatch.setattr(core, "result", hangs)
    gateway = gateway_of(core, tmp_path, clock=clock)
    async with client_of(gateway) as client, asyncio.timeout(20):
        for _ in range(3):
            said = (await client.get("/api/now")).json()
            assert (said["status"], said["totals"], said["jobs"], said["providers"]) == (None, None, [], None)
            assert "pylon_up 0\n" in (await client.get("/metrics")).text
            clock.advance(2)
        assert sorted(called) == ["jobs", "providers", "status", "totals"]
        goes.set()
        assert "pylon_up 1\n" in (await client.get("/metrics")).text
        assert (await client.get("/api/now")).json()["providers"]["alive"] == 1
    await gateway.close()


async def test_what_is_looked_at_is_let_go_of_with_the_gateway(tmp_path, monkeypatch):
    monkeypatch.setattr(view, "LOOK_S", 0.05)
    core, left = FakeCore(), []

    async def hangs(method, params=None):
        try:
            await asyncio.Event().wait()
        finally:
            left.append(method)

    monkeypatch.setattr(core, "result", hangs)
    gateway = gateway_of(core, tmp_path)
    async with client_of(gateway) as client:
        assert (await client.get("/api/now")).json()["status"] is None
    await gateway.close()
    assert sorted(left) == ["jobs", "providers", "status", "totals"]


async def test_metrics_tell_of_jobs_money_and_requests(tmp_path):
    core = FakeCore(bid=100, providers=[listing(price=(10, 0, 0)), listing()])
    core.answers["status"] = SERVING
    async with client_of(gateway_of(core, tmp_path)) as client:
        await client.post("/v1/chat/completions", json=CHAT)
        await client.post("/v1/chat/completions", json={**CHAT, "n": 2})
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    for line in (
        'pylon_jobs{state="settled"} 7', "pylon_jobs_queued 2", "pylon_jobs_running 3", "pylon_providers_alive 2",
        "pylon_earned_msat 5", "pylon_spent_msat 7", 'pylon_gateway_requests_total{outcome="answered"} 1',
        'pylon_job_queue_seconds_bucket{le="0.25"} 0', 'pylon_job_queue_seconds_bucket{le="0.5"} 1',
        "pylon_job_compute_seconds_sum 2", "pylon_job_publish_seconds_count 1",
        "pylon_gateway_in_flight 0", "pylon_gateway_request_seconds_count 1", "pylon_gateway_budget_msat 1000000",
    ):  # fmt: skip
        assert line in lines
    # Every line is a comment or a sample, and each metric is told of before its samples.
    told = set()
    for line in lines:
        if match := re.fullmatch(r"# (HELP|TYPE) (\w+) .+", line):
            told.add(match[2])
        else:
            name = re.fullmatch(r'(\w+)(?:\{\w+="[^"]*"(?:,\w+="[^"]*")*\})? [0-9.e+-]+', line)
            assert name and re.sub(r"_(bucket|sum|count)$", "", name[1]) in told


def test_a_label_breaks_no_line_and_a_histogram_adds_up():
    [*_, line] = Sample("a", "gauge", "b", [((("x", 'q"\n\\'),), 1.5)]).lines()
    assert line == 'a{x="q\\"\\n\\\\"} 1.5'
    histogram = Histogram("s", "seconds", (0.1, 1.0))
    for value in (0.1, 0.2, 5.0):
        histogram.observe(value)
    assert list(histogram.lines())[2:] == [
        's_bucket{le="0.1"} 1', 's_bucket{le="1"} 2', 's_bucket{le="+Inf"} 3', "s_sum 5.3", "s_count 3",
    ]  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    """Two runs: one with more events than a page has, one that is empty."""
    clock = ManualClock()
    made = Trajectory(tmp_path / OLDER, clock)
    question = made.text("q")
    made.write("run", question=question, strategy="search", root={"name": "r"}, sub={"name": "s"},
               limits={"depth": 1}, turns=1, context={"chars": 3})  # fmt: skip
    for _ in range(MOST_EVENTS):
        made.write("budget", spent={}, left={})
    long = made.text("y" * (MOST_CHARS + 5))
    made.write("final", answer=long, partial=False, reason="answered", detail="", turns=1, spent={})
    made.close()
    Trajectory(tmp_path / "20260102-000000-bbbbbb", clock).close()
    return long["sha256"]


async def test_runs_are_listed_and_shown_page_by_page(tmp_path, runs):
    async with client_of(gateway_of(FakeCore(), tmp_path)) as client:
        listed = (await client.get("/api/runs")).json()["runs"]
        assert [run["id"][:8] for run in listed] == ["20260102", "20260101"]
        path = f"/api/runs/{listed[1]['id']}"
        first = (await client.get(path)).json()
        assert (first["state"], first["question"], first["more"]) == ("ended", "q", True)
        assert len(first["events"]) == MOST_EVENTS and first["events"][0]["type"] == "run"
        rest = (await client.get(f"{path}?after={first['next']}")).json()
        assert rest["events"][-1]["type"] == "final" and not rest["more"]
        # What one comes for is there from the first page on.
        assert first["final"] == rest["final"] == rest["events"][-1]
        assert (await client.get("/api/runs/20260102-000000-bbbbbb")).json()["final"] is None
        text = (await client.get(f"{path}/text/{runs}")).json()["text"]
        assert text.startswith("yyy") and text.endswith("… and 5 more characters")
        exported = await client.get(f"{path}/export")
        assert exported.headers["content-disposition"].startswith("attachment") and b'"metadata"' in exported.content


@pytest.mark.parametrize(
    ("path", "place"),
    [(OLDER, OLDER), ("a%20b%23c", "a%20b%23c"), ("%0d%0aset-cookie:x", "%0D%0Aset-cookie%3Ax")],
)
async def test_the_address_of_a_run_as_one_guesses_it_leads_there_and_tells_strangers_nothing(tmp_path, path, place):
    async with client_of(gateway_of(FakeCore(), tmp_path), token=None) as client:
        response = await client.get(f"/runs/{path}")
        assert (response.status_code, response.headers["location"]) == (307, f"/runs#{place}")
        assert (await client.get("/api/runs")).status_code == 401


async def test_a_run_of_any_name_can_be_had_as_a_file_and_one_without_a_name_in_text_hides_no_other(tmp_path):
    for name in ('ünï€ "run"', os.fsdecode(b"\xff\xfe")):
        Trajectory(tmp_path / name, ManualClock()).close()
    async with client_of(gateway_of(FakeCore(), tmp_path)) as client:
        [run] = (await client.get("/api/runs")).json()["runs"]
        response = await client.get(f"/api/runs/{quote(run['id'])}/export")
    assert response.status_code == 200
    said = response.headers["content-disposition"]
    assert said == f"attachment; filename*=utf-8''{quote(run['id'], safe='')}.jsonl"


@pytest.mark.parametrize(
    "path",
    ["none", "last", "%2e%2e", "..%2f..", "20260101", f"{OLDER}/text/%2e%2e", f"{OLDER}/text/ab"],
)  # fmt: skip
async def test_nothing_but_runs_and_their_texts_is_read(tmp_path, runs, path):
    async with client_of(gateway_of(FakeCore(), tmp_path)) as client:
        assert (await client.get(f"/api/runs/{path}")).status_code == 404


@pytest.mark.parametrize("after", ["-1", "x", "", "²", "9" * 50])
async def test_a_page_that_is_no_number_is_refused(tmp_path, runs, after):
    async with client_of(gateway_of(FakeCore(), tmp_path)) as client:
        response = await client.get(f"/api/runs/{OLDER}", params={"after": after})
    assert response.status_code == 400
