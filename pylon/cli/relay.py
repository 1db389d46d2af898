"""`pylon relay`: runs a relay in the foreground, by default with the bank of play money."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from pylon import config as settings
from pylon import log
from pylon.cli.output import out
from pylon.cli.running import Json, print_json, run, say_if_heard, stop_event
from pylon.errors import UsageError, WireError
from pylon.node.bank import BankHost
from pylon.node.home import Home, private_folder
from pylon.node.relay_settings import public_urls, relay_limits
from pylon.node.restored import refuse_backup_itself
from pylon.node.settings import public_keys
from pylon.nostr.bech32 import nip19
from pylon.relay.server import RelayServer
from pylon.sections import MOST


def relay(
    host: Annotated[str | None, typer.Option(help="The address to listen on (default: this machine only).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="The port; 0 picks a free one.")] = None,
    database: Annotated[
        Path | None, typer.Option("--database", help="The file for stored events (default: relay.db in PYLON_HOME).")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="A key that may publish. Repeatable (default: everyone may).")
    ] = None,
    writes_per_minute: Annotated[
        int | None,
        typer.Option(min=0, max=MOST, help="The most events a connection may publish per minute; 0: no limit."),
    ] = None,
    max_mb: Annotated[
        int | None, typer.Option(min=0, max=MOST, help="The most disk space for events, in MiB; 0: no limit.")
    ] = None,
    require_auth: Annotated[
        bool, typer.Option("--require-auth", help="Require clients to authenticate (NIP-42).")
    ] = False,
    public_url: Annotated[
        list[str] | None,
        typer.Option(help="An address by which clients reach the relay, such as a proxy's. Repeatable."),
    ] = None,
    bank: Annotated[bool, typer.Option(help="Also run the playbank, if the network is play.")] = True,
    as_json: Json = False,
) -> None:
    """Run a relay. It needs no home and no key."""
    serving = _relay(host, port, database, allow, writes_per_minute, max_mb, require_auth, public_url, bank, as_json)
    run(serving, as_json=as_json)


async def _relay(
    host: str | None,
    port: int | None,
    database: Path | None,
    allow: list[str] | None,
    writes_per_minute: int | None,
    max_mb: int | None,
    require_auth: bool,
    public_url: list[str] | None,
    bank: bool,
    as_json: bool,
) -> None:
    home = settings.home_directory()
    config = settings.found_or_default(home)
    log.configure(config.log.level, json_lines=config.log.json_lines)
    refuse_backup_itself(Home(home, config.network))
    private_folder(home)
    if database is None:
        database = home / "relay.db"
    elif not database.absolute().parent.is_dir():
        raise UsageError(f"folder {database.parent} does not exist", hint="Create it, or name another file.")
    try:
        allowed = frozenset(nip19.parse_public_key(key) for key in allow or ())
    except WireError as error:
        raise UsageError(
            f"--allow needs public keys: {error}", hint="A public key starts with npub1, or has 64 hex digits."
        ) from error
    writers = allowed | public_keys("relay.writers", config.relay.writers) or None
    readers = public_keys("relay.readers", config.relay.readers) or None
    known_as = public_urls(config.relay, public_url)
    server = RelayServer(
        database,
        host=host or config.relay.host,
        port=config.relay.port if port is None else port,
        limits=relay_limits(config.relay, writes_per_minute=writes_per_minute, max_mb=max_mb),
        require_auth=require_auth,
        allow_writers=writers,
        allow_readers=readers,
        public_urls=known_as,
    )
    stop = stop_event()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        # A relay that only some may use would keep the bank's customers out.
        bank = bank and config.network == "play" and writers is None and readers is None
        if bank:
            await stack.enter_async_context(BankHost(home, known_as[0] if known_as else server.url))
        if as_json:
            print_json({"url": server.url, "database": str(database), "playbank": bank})
        else:
            out.print(f"relay at {server.url}, events in {database}; press Ctrl-C to end it")
            if bank:
                first = "`pylon wallet connect` before `pylon start`"
                out.print(f"  with a playbank: run {first}, then `pylon wallet faucet 1000`", style="dim")
        await stop.wait()
    if not as_json:
        say_if_heard("the relay has ended", dim=True)
