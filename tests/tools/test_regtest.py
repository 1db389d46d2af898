"""What `scripts/regtest` does before it does anything, and whom it never ends. `tests/lightning` runs the rest."""

import json
import os
import time
from pathlib import Path

import psutil
import pytest

from pylon.errors import SetupError
from tools.regtest import packages
from tools.regtest.stack import Regtest


def quiet(text: str) -> None:
    pass


def test_a_machine_that_cannot_run_it_is_told_so_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(packages, "_run", lambda *_, **__: pytest.fail("something was fetched"))
    with pytest.raises(SetupError, match="Linux") as caught:
        Regtest(tmp_path, quiet).up()
    assert "docs/regtest.md" in caught.value.hint


def test_without_a_debian_mirror_one_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.platform, "system", lambda: "Linux")
    monkeypatch.setattr(packages.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(packages.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(packages, "KEYRING", tmp_path)
    monkeypatch.setattr(packages, "_configured_mirror", lambda: "")
    with pytest.raises(SetupError) as caught:
        packages.fetch(tmp_path, quiet)
    assert packages.MIRROR_VARIABLE in caught.value.hint


def test_packages_are_named_and_no_address_stands_in_the_program():
    for path in Path(packages.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        addresses = [line for line in text.splitlines() if "://" in line]
        assert all("127.0.0.1" in line or "{" in line for line in addresses), addresses


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(tmp_path):
    ours = psutil.Process()
    known = {"pid": os.getpid(), "started": ours.create_time() - 100}
    gone = {"pid": 2**22 + 1, "started": 0.0}
    (tmp_path / "state.json").write_text(json.dumps({"processes": {"bitcoind": known, "relay": gone}}))
    stack = Regtest(tmp_path, quiet)
    stack.down()
    assert ours.is_running()
    assert stack.running.process("bitcoind") is None


def test_the_status_of_what_was_never_made_is_that_nothing_runs(tmp_path):
    status = Regtest(tmp_path / "none", quiet).status()
    assert (status["up"], status["made"], status["processes"], status["links"]) == (False, False, {}, {})


@pytest.mark.parametrize(("hours", "blocks"), [(0.5, 0), (10.6, 1), (24 * 9, 1)])
def test_a_chain_that_has_lain_for_a_while_gets_a_block_and_says_so(tmp_path, monkeypatch, hours, blocks):
    said, mined = [], []
    stack = Regtest(tmp_path, said.append)
    tip = {"time": int(time.time() - 3600 * hours)}
    answers = {"getblockchaininfo": tip, "getnewaddress": "an address"}
    monkeypatch.setattr(stack, "_bitcoin", lambda method, *params: answers.get(method) or mined.append(params))
    stack._freshen()
    assert mined == [(1, "an address")] * blocks
    assert len(said) == blocks and all("hours old" in text for text in said)
