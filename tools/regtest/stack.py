"""The regtest stack: starts and stops its processes, and makes the channel between its two wallets."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from pylon.errors import PylonError, SetupError, UnreachableError
from pylon.files import write_whole
from tools.regtest.packages import Programs, fetch
from tools.regtest.running import Running, free_ports, listens, until

SIDES = ("buyer", "provider")
# The wallet links, and the side whose wallet each opens: no two homes share a link.
LINKS = {"buyer": "buyer", "provider": "provider", "provider-2": "provider"}
PORTS = ("bitcoind", "electrumx", "electrumx_rpc", "lightning", "buyer", "provider", "relay")
MATURE_BLOCKS = 101
CHANNEL_BTC, PUSHED_BTC = "0.1", "0.01"
STARTS_S, OPENS_S = 60.0, 120.0
# Seconds. Electrum takes a chain for stale whose newest block is eight hours old, and then pays nothing.
FRESH_S = 3600


class Regtest:
    """One private chain with its programs, in one folder. `say` is called with each step."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.chain = folder / "chain"
        self._say = say
        self._file = folder / "state.json"
        self._programs = Programs(folder / "programs")
        self._state: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.running = Running(self.chain, lambda: self._state.setdefault("processes", {}), self._save)
        self._http = httpx.Client(timeout=60.0, trust_env=False)

    # --- commands ----------------------------------------------------------------------------------------------

    def up(self) -> dict[str, Any]:
        """Starts everything that does not run; returns the status. Raises `SetupError`, `UnreachableError`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "programs").mkdir(exist_ok=True)
        self._programs = fetch(self.folder / "programs", self._say)
        if not self._state.get("made"):
            # A chain that was not completed is made anew.
            self.down()
            shutil.rmtree(self.chain, ignore_errors=True)
            for name in LINKS:
                self.link_file(name).unlink(missing_ok=True)
            self._state = {"ports": free_ports(PORTS), "password": secrets.token_hex(16), "processes": {}}
        self.chain.mkdir(exist_ok=True)
        self._save()
        self._start_chain()
        self._start_wallets()
        if not self._state.get("made"):
            self._open_channel()
        self._say("the channel")
        self._wait(self._channel_is_open, OPENS_S, "the channel did not open")
        if not self._state.get("made"):
            self._state["made"] = True
            self._save()
        for name in LINKS:
            if not self.link_file(name).exists():
                self._link(name)
        return self.status()

    def down(self) -> None:
        """Stops all processes, the last one started first. Their data stays."""
        for name in reversed(list(self._state.get("processes", {}))):
            self.stop(name)

    def status(self) -> dict[str, Any]:
        """Which processes run, and how to reach them."""
        running = {name: self.running.process(name) is not None for name in self._state.get("processes", {})}
        return {
            "folder": str(self.folder),
            "made": bool(self._state.get("made")),
            "up": bool(running) and all(running.values()) and bool(self._state.get("made")),
            "processes": running,
            "relay": self.relay if self._state else None,
            "links": {name: str(self.link_file(name)) for name in LINKS if self.link_file(name).exists()},
        }

    # --- what tests and the demo ask for ----------------------------------------------------------------------

    @property
    def relay(self) -> str:
        return f"ws://127.0.0.1:{self._port('relay')}"

    def link_file(self, name: str) -> Path:
        """The file of one of `LINKS` (mode 0600)."""
        return self.folder / f"{name}.nwc"

    def start_wallet(self, side: str) -> None:
        """Starts a wallet that was stopped, and waits until its channel is open. Raises `UnreachableError`."""
        self._freshen()
        self._start_wallet(side)
        self._load_wallet(side)
        self._wait(self._channel_is_open, OPENS_S, "the channel did not come back")

    def stop(self, name: str) -> None:
        """Stops a process by its name; that of a wallet is its side."""
        self.running.stop(name)

    def wallet(self, side: str, method: str, **params: Any) -> Any:
        """Runs a command of a side's wallet; returns its result. Raises `PylonError`."""
        return self._ask(self._port(side), method, params)

    # --- the parts --------------------------------------------------------------------------------------------

    def _start_chain(self) -> None:
        self._say("the Bitcoin node and the Electrum server")
        data = self.chain / "bitcoin"
        data.mkdir(exist_ok=True)
        port, password = self._port("bitcoind"), self._state["password"]
        options = {
            "datadir": data, "rpcuser": "pylon", "rpcpassword": password, "rpcport": port, "rpcbind": "127.0.0.1",
            "rpcallowip": "127.0.0.1", "listen": 0, "txindex": 1, "server": 1, "fallbackfee": "0.0002",
        }  # fmt: skip
        arguments = [f"-{name}={value}" for name, value in options.items()]
        self.running.spawn("bitcoind", [*self._programs.bitcoind, "-regtest", *arguments])
        self._wait(lambda: self._bitcoin("getblockcount") is not None, STARTS_S, "bitcoind does not answer")
        if not self._state.get("made"):
            self._bitcoin("createwallet", "pylon")
            self._mine(MATURE_BLOCKS)
        elif "pylon" not in self._bitcoin("listwallets"):
            self._bitcoin("loadwallet", "pylon")
        self._freshen()
        (self.chain / "electrumx").mkdir(exist_ok=True)
        services = f"tcp://127.0.0.1:{self._port('electrumx')},rpc://127.0.0.1:{self._port('electrumx_rpc')}"
        environment = {
            "COIN": "Bitcoin", "NET": "regtest", "DB_ENGINE": "leveldb", "SERVICES": services, "ALLOW_ROOT": "1",
            "DB_DIRECTORY": str(self.chain / "electrumx"), "PEER_DISCOVERY": "off", "COST_SOFT_LIMIT": "0",
            "COST_HARD_LIMIT": "0", "DAEMON_URL": f"http://pylon:{password}@127.0.0.1:{port}",
            "DAEMON_POLL_INTERVAL_BLOCKS": "100", "DAEMON_POLL_INTERVAL_MEMPOOL": "100",
        }  # fmt: skip
        self.running.spawn("electrumx", self._programs.electrumx, environment)
        self._wait(lambda: listens(self._port("electrumx")), STARTS_S, "ElectrumX does not listen")
        # The relay of the wallets keeps its store, so that their announcements survive a restart.
        relay = [sys.executable, "-P", "-m", "pylon.cli.main"]
        home = {"PYLON_HOME": str(self.chain / "relay")}
        if not (self.chain / "relay" / "config.toml").exists():
            subprocess.run([*relay, "init", "--json"], env={**os.environ, **home}, check=True, capture_output=True)
        self.running.spawn("relay", [*relay, "relay", "--port", str(self._port("relay"))], home)
        self._wait(lambda: listens(self._port("relay")), STARTS_S, "the relay does not listen")

    def _start_wallets(self) -> None:
        self._say("two Lightning wallets")
        for side in SIDES:
            self._start_wallet(side)
        for side in SIDES:
            self._load_wallet(side)

    def _start_wallet(self, side: str) -> None:
        folder = self.chain / side
        server = f"127.0.0.1:{self._port('electrumx')}:t"
        command = [*self._programs.electrum, "--regtest", "-D", str(folder)]
        if not (folder / "regtest").exists():
            (folder / "regtest").mkdir(parents=True)
            settings = {
                "config_version": 3, "use_gossip": True, "oneserver": True, "auto_connect": False, "server": server,
                "rpcuser": "pylon", "rpcpassword": self._state["password"], "rpcport": self._port(side),
                "rpchost": "127.0.0.1", "log_to_file": True, "check_updates": False, "lightning_to_self_delay": 144,
                "nostr_relays": self.relay, "plugins": {"nwc": {"enabled": True, "relay": self.relay}},
                **({"lightning_listen": f"127.0.0.1:{self._port('lightning')}"} if side == "provider" else {}),
            }  # fmt: skip
            (folder / "regtest" / "config").write_text(json.dumps(settings), encoding="utf-8")
            ended = subprocess.run([*command, "create", "--offline"], capture_output=True, text=True, check=False)
            if ended.returncode:
                raise SetupError(f"Electrum made no wallet: {ended.stderr.strip()[-300:]}")
        self.running.spawn(side, [*command, "daemon", "-s", server, "-1"])

    def _load_wallet(self, side: str) -> None:
        path = str(self.chain / side / "regtest" / "wallets" / "default_wallet")
        self._wait(
            lambda: self.wallet(side, "load_wallet", wallet_path=path), STARTS_S, f"the {side}'s wallet is shut"
        )

    def _open_channel(self) -> None:
        self._say("coins, and a channel")
        self._bitcoin("sendtoaddress", self.wallet("buyer", "getunusedaddress"), 1)
        self._mine(1)
        has_coins = lambda: float(self.wallet("buyer", "getbalance").get("confirmed", 0)) >= 1  # noqa: E731
        self._wait(has_coins, STARTS_S, "the buyer's coins did not arrive")
        peer = self.wallet("provider", "nodeid")
        channel = {"connection_string": peer, "amount": CHANNEL_BTC, "push_amount": PUSHED_BTC}
        self._wait(lambda: self.wallet("buyer", "open_channel", **channel), STARTS_S, "no channel could be opened")
        self._mine(3)

    def _channel_is_open(self) -> bool:
        found = [self.wallet(side, "list_channels") for side in SIDES]
        return all(one and one[0]["state"] == "OPEN" and one[0]["peer_state"] == "GOOD" for one in found)

    def _link(self, name: str) -> None:
        text = self.wallet(LINKS[name], "nwc_add_connection", name=f"pylon {name}")
        path = self.link_file(name)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(text + "\n")

    def _freshen(self) -> None:
        """Mines a block if the newest is old: nobody mines while nothing is paid."""
        age_s = time.time() - self._bitcoin("getblockchaininfo")["time"]
        if age_s > FRESH_S:
            self._say(f"a block, since the newest is {age_s / 3600:.1f} hours old")
            self._mine(1)

    def _mine(self, blocks: int) -> None:
        self._bitcoin("generatetoaddress", blocks, self._bitcoin("getnewaddress"))

    # --- calls ------------------------------------------------------------------------------------------------

    def _bitcoin(self, method: str, *params: Any) -> Any:
        return self._ask(self._port("bitcoind"), method, list(params))

    def _ask(self, port: int, method: str, params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = self._http.post(f"http://127.0.0.1:{port}/", json=body, auth=("pylon", self._state["password"]))
            said = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnreachableError(f"{method} was not answered: {error}") from error
        if said.get("error"):
            raise PylonError(f"{method} failed: {str(said['error'])[:300]}")
        return said["result"]

    def _wait(self, holds: Callable[[], Any], seconds: float, otherwise: str) -> None:
        anew = "To begin anew: `scripts/regtest down --remove`, then `up`, which fetches the programs again."
        until(holds, seconds, otherwise, hint=f"The logs are in {self.chain}. {anew}")

    def _port(self, name: str) -> int:
        return int(self._state["ports"][name])

    def _save(self) -> None:
        write_whole(self._file, json.dumps(self._state).encode())


def default_folder() -> Path:
    """PYLON_REGTEST, or `~/.cache/pylon-regtest`."""
    return Path(os.environ.get("PYLON_REGTEST") or Path.home() / ".cache" / "pylon-regtest").absolute()
