"""The node's life: `init`, `status`, `pause`, `resume`, `drain`, `jobs`; and `version`."""

import time
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from pylon import __version__
from pylon import config as settings
from pylon.cli.identity import BARE, new_passphrase
from pylon.cli.output import ago, brief, counted, err, out, rest_text, short, speed, table
from pylon.cli.owner import rule_line, seconds_of, waived_line
from pylon.cli.running import NEEDLE_ASK, Json, fail, household_line, print_json, run
from pylon.cli.wallet_live import spending_lines
from pylon.errors import PylonError, UnreachableError, UsageError
from pylon.inference.models import needle
from pylon.money.network import Network
from pylon.node import identity
from pylon.node.binding import bind
from pylon.node.calls.control import Event, result_of
from pylon.node.hindrance import paused_line
from pylon.node.home import Home, open_home
from pylon.node.session import open_node, running_node
from pylon.nostr.bech32 import nip19
from pylon.nostr.keys import SecretKey
from pylon.sections import Config, InferenceSection


def init(
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Protect the key with a passphrase, which every start then needs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create a home: folders, a config file that lists every setting, and a key.

    --passphrase encrypts a new key (NIP-49, `ncryptsec1…`). The command asks for the passphrase, or takes it from
    PYLON_PASSPHRASE; set that variable wherever the node starts.
    """
    try:
        root = settings.home_directory()
        config = settings.found_or_default(root)
        home = Home(root, config.network)
        new = not home.identity_file.exists()
        # Asked for before anything is made.
        protection = new_passphrase(BARE) if new and passphrase else ""
        home.create()
        secret = identity.create(home.identity_file, passphrase=protection) if new else _found(home, passphrase)
        bind(home.folder)
    except PylonError as error:
        fail(error, as_json=as_json)
    npub = nip19.npub(secret.public)
    if as_json:
        print_json({"home": str(home.root), "network": home.network, "npub": npub, "new": new})
        return
    out.print(f"{'made' if new else 'found'} {npub}\n  home     {home.root}\n  settings {home.config_file}")
    if new:
        out.print(f"\n{_next(config.inference)}\nBack up the key: `pylon identity backup FILE`.")


def _next(inference: InferenceSection) -> str:
    """What to do with a new home. Whoever asks the model in the box whatever comes to mind hears `none`."""
    boxed = inference.engine == "mlx" and inference.model == needle.MODEL_ID
    asks = f":\n  {NEEDLE_ASK}" if boxed else ' `pylon ask "…"`.'
    return f"Next: run `pylon relay` in one terminal and `pylon start` in another, then{asks}"


def found_or_made() -> tuple[Home, Config]:
    """The home, made with a new key where there is none. Raises `SetupError`."""
    root = settings.home_directory()
    config = settings.found_or_default(root)
    home = Home(root, config.network)
    if not home.identity_file.exists():
        home.create()
        identity.create(home.identity_file)
        bind(home.folder)
    return home, config


def _found(home: Home, passphrase: bool) -> SecretKey:
    if passphrase and not identity.is_protected(home.identity_file):
        raise UsageError(
            f"{home.identity_file} already holds a key, without a passphrase",
            hint=(
                "To encrypt it: back it up, move that file away, and run `pylon identity restore FILE --passphrase`."
            ),
        )
    return identity.load(home.identity_file)


def status(
    everyone: Annotated[bool, typer.Option("--all", help="Show all machines of the household.")] = False,
    as_json: Json = False,
) -> None:
    """Show what the node is doing: jobs, model, relays.

    Exits with status 0 if a node serves this home, even while paused, and with 4 if none does.
    """
    run(_status_of_all(as_json) if everyone else _status(as_json), as_json=as_json)


async def _status_of_all(as_json: bool) -> None:
    home, config = open_home()
    async with open_node(home, config) as node:
        data = await result_of(node, "household")
    if as_json:
        print_json(data)
        return
    made = table("machine", "|key", "state", "model", ">free", ">queue s", ">tokens/s out")
    for row in data["members"]:
        name = f"{row['name']} (here)" if row["here"] else row["name"]
        if not row["alive"]:
            made.add_row(name, short(row["npub"]), "away", "", "", "", "")
            continue
        state = f"paused ({row['paused']})" if row["paused"] else "loading" if row["loading"] else "ready"
        if row["rests"] is not None and state == "ready":
            state = rest_text(row["rests"])
        free = f"{row['slots_free']} of {row['slots']}"
        figures = (free, f"{row['queue_s']:g}", speed(row["tokens_out_per_s"]))
        made.add_row(name, short(row["npub"]), state, row["model"], *figures)
    out.print(made)
    for row in data["members"]:
        if row["rests"] is not None:
            err.print(f"{row['name']} {rest_text(row['rests'])}: {row['rests']['why']}", style="dim")


async def _status(as_json: bool) -> None:
    home, config = open_home()
    try:
        data = await result_of(running_node(home), "status")
    except UnreachableError:
        data = {"running": False, "network": config.network, "home": str(home.root)}
    if as_json:
        print_json(data)
    elif not data.get("running", True):
        out.print(f"no node is running in {home.root}\n  Start one with `pylon start`.")
    else:
        _print_status(data)
    if data.get("provider") is None:
        raise typer.Exit(UnreachableError.exit_code)


def latency_line(latency: dict[str, Any]) -> str:
    """`0.2 s waiting, 3.1 s computed, 0.04 s until a relay had it (medians)`."""
    middles = [latency[phase]["median_s"] for phase in ("queue", "compute", "publish")]
    if None in middles:
        return "no jobs answered since the start"
    waited, computed, published = map(brief, middles)
    return f"{waited} waiting, {computed} computing, {published} until a relay had it (medians)"


def _serving(data: dict[str, Any]) -> str:
    provider = data["provider"]
    if provider["paused"]:
        return paused_line(provider["paused"], data["owner"])
    if provider["engine"]["state"] == "failed":
        return "refusing every job: the model failed"
    state = "draining" if provider["draining"] else "taking jobs"
    if provider["engine"]["state"] == "loading" and not provider["draining"]:
        state = "the model is loading: jobs begin when it is ready"
    # A node that began with an older Pylon does not say.
    return f"{state}, but {data['hindrance']}" if data.get("hindrance") else state


def _print_status(data: dict[str, Any]) -> None:
    made = table("", "", show_header=False)
    made.add_row("node", data["npub"])
    made.add_row("", f"{data['network']}, process {data['pid']}, up {ago(data['uptime_s'])}")
    for relay in data["relays"]:
        note = relay["error"] or relay["notice"]
        made.add_row("relay", f"{relay['url']} {relay['state']}{f' ({note})' if note else ''}")
    if data["household"] is not None:
        made.add_row("household", household_line(data["household"]))
    for line in spending_lines(data["spending"], Network(data["network"]).unit) if data["spending"] else ():
        made.add_row("money", line)
    provider = data.get("provider")
    if provider is None:
        made.add_row("serving", "not serving: a command is using the home, and ends by itself")
    else:
        engine, now = provider["engine"], time.time()
        owner = data["owner"]
        made.add_row("serving", _serving(data))
        for rule in owner["rules"]:
            made.add_row("rule", rule_line(rule, now))
        if owner["waiver_ends_local"] is not None:
            made.add_row("owner", waived_line(owner["waiver_ends_local"], now))
        times = counted(engine["restarts"], "time")
        restarts = f", restarted {times}: {engine['reason']}" if engine["restarts"] else ""
        made.add_row("model", f"{data['model']} {engine['state']}{restarts}")
        for line in filter(None, (engine["failure"], engine["hint"])):
            made.add_row("", line)
        measured = f"{speed(engine['tokens_in_per_s'])} tokens/s in, {speed(engine['tokens_out_per_s'])} out"
        made.add_row("speed", measured if engine["tokens_in_per_s"] else "not measured yet")
        made.add_row("a job", latency_line(provider["latency"]))
        counts = ", ".join(f"{count} {state}" for state, count in sorted(provider["jobs"].items())) or "none yet"
        made.add_row("now", f"{provider['running']} running, {provider['queued']} waiting")
        made.add_row("jobs", counts)
    out.print(made)


def pause(as_json: Json = False) -> None:
    """Stop taking new jobs until `pylon resume`, even after a restart. Jobs already here are finished."""
    run(_simple("pause", as_json), as_json=as_json)


def resume(
    despite: Annotated[
        str | None,
        typer.Option(
            "--for",
            help=(
                "Serve this long although you are using the machine, such as 30min or 2h, at most 30d; 0s ends it."
            ),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Let this node take jobs again after `pylon pause` or `drain`, as far as the owner rules allow.

    --for suspends those rules for a time, except the ones that protect the machine (heat, memory). 0s puts them
    back in force without ending a manual pause.
    """
    run(_resume(despite, as_json), as_json=as_json)


async def _resume(despite: str | None, as_json: bool) -> None:
    await _simple("resume", as_json, {} if despite is None else {"for_s": seconds_of(despite)})


async def _simple(method: str, as_json: bool, params: dict[str, Any] | None = None) -> None:
    home, _ = open_home()
    data = await result_of(running_node(home), method, params)
    if as_json:
        print_json(data)
    else:
        out.print(paused_line(data["paused"], data.get("owner")) if data["paused"] else "taking jobs")


def drain(as_json: Json = False) -> None:
    """Stop taking new jobs and wait until those already here are finished. `pylon resume` undoes it."""
    run(_drain(as_json), as_json=as_json)


async def _drain(as_json: bool) -> None:
    home, _ = open_home()
    node = running_node(home)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=err, transient=True, disable=as_json or not err.is_terminal) as progress:
        task = progress.add_task("draining", total=None)
        async for answer in node.call("drain"):
            if isinstance(answer, Event):
                left = answer.data
                progress.update(task, description=f"{left['running']} running, {left['queued']} waiting")
                continue
            if not answer.data["drained"]:
                raise PylonError(
                    "the node takes jobs again: `pylon resume` ended this drain",
                    hint="Run `pylon drain` again to drain it.",
                )
            if as_json:
                print_json(answer.data)
            else:
                out.print("drained: no jobs are left, and none are taken")


def jobs(
    limit: Annotated[int, typer.Option("-n", min=1, max=10_000, help="How many jobs to show.")] = 20,
    state: Annotated[str, typer.Option(help="Show only jobs in this state.")] = "",
    as_json: Json = False,
) -> None:
    """List the jobs this node has served, newest first."""
    run(_jobs(limit, state, as_json), as_json=as_json)


async def _jobs(limit: int, state: str, as_json: bool) -> None:
    home, config = open_home()
    async with open_node(home, config) as node:
        data = await result_of(node, "jobs", {"limit": limit, "state": state})
    if as_json:
        print_json(data)
        return
    if not data["jobs"]:
        out.print("no jobs yet")
        return
    made = table("job", "customer", "state", ">in", ">out", ">ms", "received")
    for row in data["jobs"]:
        state = f"{row['state']} ({row['code']})" if row["code"] else row["state"]
        received = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["received_at"]))
        tokens = (str(row["prompt_tokens"]), str(row["completion_tokens"]))
        made.add_row(row["id"][:12], short(row["customer"]), state, *tokens, str(row["run_ms"]), received)
    out.print(made)


def version(as_json: Json = False) -> None:
    """Print the version, like the option `--version`."""
    if as_json:
        print_json({"version": __version__})
    else:
        out.print(f"pylon {__version__}")
