"""`pylon conformance`: tests a provider against the schema `pylon/1`."""

from typing import Annotated

import typer
from rich.text import Text

from pylon.cli.output import err, out, table
from pylon.cli.running import Json, fail, print_json, run
from pylon.conformance.clauses import ClauseOutcome, Verdict
from pylon.conformance.run import Report, examine
from pylon.errors import PylonError, UsageError, WireError
from pylon.node.home import open_home
from pylon.nostr.bech32 import nip19
from pylon.relay_url import normalize_relay_url

NOT_CONFORMING = 1
_STYLES = {ClauseOutcome.PASS: "green", ClauseOutcome.FAIL: "bold red", ClauseOutcome.SKIPPED: "yellow"}


def conformance(
    npub: Annotated[str, typer.Argument(help="The provider's public key, as npub or hex.")],
    relay: Annotated[
        list[str] | None,
        typer.Option(
            help=("A relay where the provider reads requests. Repeatable (default: the relays of this home).")
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for an answer.")] = 60.0,
    silence: Annotated[float, typer.Option(min=0.1, help="Seconds of silence that count as no answer.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Test a provider against the schema `pylon/1`, clause by clause; see docs/conformance.md.

    Sends about seventy small jobs under newly made keys. Exits with status 0 when every clause passes, otherwise
    with 1.
    """
    try:
        provider = _public_key(npub)
        relays = [_relay(url) for url in relay] if relay else list(open_home()[1].relays)
    except PylonError as error:
        fail(error, as_json=as_json)

    def told(verdict: Verdict) -> None:
        if not as_json:
            err.print(f"{verdict.outcome.value:8}{verdict.clause.value}", style="dim")

    report = run(examine(provider, relays, answer_s=timeout, silence_s=silence, told=told), as_json=as_json)
    if as_json:
        print_json({"provider": nip19.npub(provider), "relays": relays, **report.to_dict()})
    else:
        _print(report)
    if not report.passed:
        raise typer.Exit(NOT_CONFORMING)


def _public_key(text: str) -> str:
    try:
        return nip19.parse_public_key(text)
    except WireError as error:
        raise UsageError(
            f"NPUB is not a public key: {error}", hint="A public key starts with npub1, or has 64 hex digits."
        ) from error


def _relay(url: str) -> str:
    try:
        return normalize_relay_url(url)
    except WireError as error:
        raise UsageError(
            f"--relay {url!r} is not a relay address: {error}",
            hint="Write it like this: --relay wss://relay.example.org",
        ) from error


def _print(report: Report) -> None:
    made = table("|clause", "|", "what it says, or what was wrong")
    for verdict in report.verdicts:
        clause = verdict.clause
        outcome = Text(verdict.outcome.value, style=_STYLES[verdict.outcome])
        where = f"; see *{clause.place}* in docs/protocol.md"
        made.add_row(clause.value, outcome, f"{verdict.why}{where}" if verdict.why else clause.says)
    out.print(made)
    counts = report.to_dict()
    out.print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
