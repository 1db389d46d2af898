"""`pylon bench rlm`: its peer's endpoint is one machine, and a small run of all of it tells what it promises."""

import threading
import time

import httpx
import pytest

from pylon.bench import rlm_memory
from pylon.bench.rlm import RlmPlan, bench
from pylon.bench.rlm_peer import ANSWER, Endpoint

EACH_S = 0.1


@pytest.fixture
def endpoint():
    endpoint = Endpoint(EACH_S)
    thread = threading.Thread(target=endpoint.serve_forever)
    thread.start()
    yield endpoint
    endpoint.shutdown()
    thread.join()
    endpoint.server_close()


def ask(endpoint, *roles):
    messages = [{"role": role, "content": "x"} for role in roles]
    url = f"http://127.0.0.1:{endpoint.server_address[1]}/v1/chat/completions"
    reply = httpx.post(url, json={"model": "m", "messages": messages}, timeout=30, trust_env=False)
    return reply.json()["choices"][0]["message"]["content"]


def test_the_endpoint_answers_one_sub_call_at_a_time(endpoint):
    started = time.monotonic()
    threads = [threading.Thread(target=ask, args=(endpoint, "user")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started >= 4 * EACH_S and endpoint.answered == 4


def test_the_endpoint_gives_a_root_its_script_and_counts_no_sub_call(endpoint):
    endpoint.script = "the script"
    assert ask(endpoint, "system", "user") == "the script" and endpoint.answered == 0
    assert ask(endpoint, "user") == ANSWER


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_memory_of_a_whole_run_is_measured_by_its_text():
    report = await rlm_memory.bench(4_000_000, lambda _: None)
    # Of whatever length, 64 pieces are read; a few calls more put together what they say.
    assert report["failed"] == 0 and 64 < report["calls"] <= 72
    # Its children are in it: an interpreter in WebAssembly takes some 100 MB itself.
    assert 100 < report["small_mib"] < report["large_mib"] and report["memory_by_text"] > 1


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_small_run_of_all_of_it_misses_no_call():
    pytest.importorskip("rlm")
    report = await bench(RlmPlan(calls=12, providers=4), lambda _: None)
    assert report["missing"] == 0 and report["peer"].startswith("rlms ")
    assert set(report["speedup"]) == {"1", "4"} and report["loop_over_batch"] > 0
    assert report["wall_s"]["1"] >= 12 * 0.8 and report["peer_s"] >= 12 * 0.8
