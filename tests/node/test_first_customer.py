"""The programs of docs/first-customer.md, as they stand there: real relay and providers, with the stand-in engine."""

import asyncio
import re
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pylon.jobs.answer import Address
from pylon.jobs.codes import ErrorCode
from pylon.jobs.feedback import shared_error_draft
from pylon.nostr.bech32 import nip19
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.server import RelayServer
from tests.node import programs
from tests.swarm.test_exchange import serve

WITH_PYLON, THAT_PAYS, WITHOUT_PYLON = re.findall(
    r"```python\n(.*?)```", Path("docs/first-customer.md").read_text("utf-8"), re.DOTALL
)
# Random enough for no compression to bring it under what an event carries.
TOO_LARGE = " ".join(f"{n * 2_654_435_761 % 2**32:08x}" for n in range(12_000))
# The stand-in's answer repeats some words of the prompt, and is compressed when it is sealed.
LONG = f"{'word' * 200} ends"


async def program(
    code: str, *arguments: str, folder: Path, env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Runs one of them: its status, what it printed, what it said of that."""
    (folder / "program.py").write_text(code, "utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "program.py",
        *arguments,
        cwd=folder,
        env={
            **programs.environment(folder / "none", "ws://127.0.0.1:9"),
            **(env or {}),
            "PYTHONPATH": str(Path.cwd()),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_first_program_has_sixty_lines_and_gives_answers_costs_and_failures_in_order(
    tmp_path: Path,
) -> None:
    assert len(WITH_PYLON.splitlines()) <= 60
    (tmp_path / "questions.txt").write_text(f"first\n\n{TOO_LARGE}\nlast\n", "utf-8")
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        key = await serve(stack, relay, tmp_path / "provider.db")
        code, out, err = await program(WITH_PYLON, relay.url, "questions.txt", folder=tmp_path)
    assert code == 1, err
    lines = [line for line in out.splitlines() if not line.startswith(TOO_LARGE[:20])]
    assert [lines[0], lines[4]] == ["first", "last"]
    assert "stand-in answer" in lines[1] and "stand-in answer" in lines[5]
    assert lines[2].startswith(f"  by {key[:8]} with stand-in-instant, ") and lines[2].endswith(" ms, 0 msat")
    assert lines[3].startswith("  too_large (will not work): the job does not fit into one event")
    assert re.fullmatch(r"2 of 3 answered with [1-9]\d* tokens for 0 msat", lines[-1])
    assert "2 of 3 answered, 1 failed" in err


@pytest.mark.parametrize(
    ("code", "called"),
    [
        (WITH_PYLON, "first_customer.py RELAY FILE"),
        (THAT_PAYS, "paying_customer.py SATS FILE"),
        (WITHOUT_PYLON, "bare_customer.py RELAY PROVIDER PROMPT"),
    ],
)
async def test_a_program_that_is_called_wrongly_says_how_to(tmp_path: Path, code: str, called: str) -> None:
    for arguments in ((), ("one",)):
        assert await program(code, *arguments, folder=tmp_path) == (1, "", f"usage: python {called}\n")


@pytest.mark.parametrize("sats", ["-5", "1.5", "1e3", "", "five", "9" * 30])
async def test_the_program_that_pays_refuses_what_is_no_amount(tmp_path: Path, sats: str) -> None:
    (tmp_path / "questions.txt").write_text("anybody?\n", "utf-8")
    home = programs.environment(tmp_path / "home", "ws://127.0.0.1:9")
    await programs.run("init", env=home)
    code, out, err = await program(THAT_PAYS, sats, "questions.txt", folder=tmp_path, env=home)
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert (
        "is no amount: SATS is a whole number" in err
        or "budget_msat must be a whole number of at most 64 bits" in err
    )


@pytest.mark.parametrize("code", [WITH_PYLON, THAT_PAYS])
async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, code: str) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    for file in ("nowhere.txt", "latin.txt"):
        said = await program(code, "5", file, folder=tmp_path)
        assert said[:2] == (1, "") and said[2].startswith(f"{file} cannot be read as text: ")


@pytest.mark.parametrize(("relay", "provider"), [("ws://127.0.0.1:9", "npub1wrong"), ("elsewhere", "ab" * 32)])
async def test_the_program_without_pylon_says_in_a_line_what_cannot_be_read(
    tmp_path: Path, relay: str, provider: str
) -> None:
    code, out, err = await program(WITHOUT_PYLON, relay, provider, "anybody?", folder=tmp_path)
    assert (code, out) == (1, "") and err.startswith("no answer: ") and err.count("\n") == 1


@pytest.mark.slow
async def test_the_first_program_says_that_no_relay_or_nobody_is_there(tmp_path: Path) -> None:
    (tmp_path / "questions.txt").write_text("anybody?\n", "utf-8")
    code, _, err = await program(WITH_PYLON, "ws://127.0.0.1:9", "questions.txt", folder=tmp_path)
    assert code == 1
    assert "Traceback" not in err and "ws://127.0.0.1:9" in err
    async with RelayServer() as relay:
        code, _, err = await program(WITH_PYLON, relay.url, "questions.txt", folder=tmp_path)
    assert code == 1
    assert "Traceback" not in err and "0 providers heard of" in err


@pytest.mark.parametrize("written", [str, nip19.npub])
async def test_the_program_without_pylon_asks_in_both_forms(tmp_path: Path, written) -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        key = await serve(stack, relay, tmp_path / "provider.db")
        code, out, err = await program(WITHOUT_PYLON, relay.url, written(key), LONG, folder=tmp_path)
    assert code == 0, err
    opened, private = out.splitlines()
    assert opened.startswith("open: stand-in answer") and private.startswith("private: stand-in answer")
    assert LONG.split()[0] in opened and LONG.split()[0] in private


async def test_the_program_without_pylon_understands_a_refusal_that_it_shares_with_others(tmp_path: Path) -> None:
    """A provider that refuses whatever it is asked, in events that name a stranger first."""
    secret, stranger = SecretKey.generate(), SecretKey.generate()
    async with RelayServer() as relay:
        pool = RelayPool([relay.url], secret=secret)
        pool.start()
        requests = pool.subscribe(lambda: (Filter(tags={"p": frozenset({secret.public})}),), name="jobs")

        async def refuse() -> None:
            async for received in requests:
                event, now = received.event, int(time.time())
                about = [Address("ab" * 32, stranger.public, False), Address(event.id, event.pubkey, False)]
                draft = shared_error_draft(about, ErrorCode.BUSY, "full", created_at=now, expiration=now + 60)
                await pool.publish(secret.sign(draft))

        refusing = asyncio.create_task(refuse())
        await requests.caught_up.wait()
        code, _, err = await program(WITHOUT_PYLON, relay.url, secret.public, "anybody?", folder=tmp_path)
        refusing.cancel()
        await pool.close()
    assert (code, err) == (1, "no answer: error busy: full\n")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_program_that_pays_names_what_each_answer_cost_and_who_does_not_pay_is_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "questions.txt").write_text("first\n\n  \nlast\n", "utf-8")
    async with AsyncExitStack() as stack:
        keeper = programs.environment(tmp_path / "relay", "ws://127.0.0.1:9")
        await programs.run("init", env=keeper)
        relay = await programs.serve("relay", "--port", "0", env=keeper, stack=stack)
        homes = {}
        for name in ("provider", "customer"):
            homes[name] = env = programs.environment(
                tmp_path / name,
                relay.hello["url"],
                PYLON_PROVIDER__PRICING="paid",
                PYLON_PROVIDER__BASE_MSAT="700",
                PYLON_CUSTOMER__BID_MSAT="5000",
                PYLON_CUSTOMER__CHECK_SHARE="0",
            )
            await programs.run("init", env=env)
            _, made, _ = await programs.run("wallet", "link", name, env=keeper)
            assert (await programs.run("wallet", "connect", "-", env=env, stdin=made["link"].encode()))[0] == 0
        await programs.start(homes["provider"], stack)
        await programs.run("wallet", "faucet", "100", "--account", "customer", env=keeper)

        code, out, err = await program(THAT_PAYS, "50", "questions.txt", folder=tmp_path, env=homes["customer"])
        assert code == 0, err
        lines = out.splitlines()
        assert [lines[0], lines[2]] == ["first", "last"]
        costs = [int(re.search(r"\((\d+) msat\)$", lines[n])[1]) for n in (1, 3)]  # type: ignore[index]
        assert min(costs) >= 700
        assert lines[-1].startswith(f"2 of 2 answered for {sum(costs)} msat, 0 msat of it for checks")

        _, known, _ = await programs.run("identity", "show", env=homes["provider"])
        code, _, err = await program(
            WITHOUT_PYLON, relay.hello["url"], known["public_key"], "for nothing?", folder=tmp_path
        )
        assert code == 1
        assert err.startswith("no answer: error bid_too_low: ")
