"""`pylon wallet`: the node's money. Amounts that are not live money are marked as such on every line."""

import time
from typing import Annotated

import typer

from pylon.cli import stdin
from pylon.cli.calling import call
from pylon.cli.output import err, out, short, table
from pylon.cli.running import Json, fail, print_json, run
from pylon.cli.wallet_decide import decide
from pylon.cli.wallet_live import go_live, spending_lines
from pylon.cli.wallet_payee import trust_payee
from pylon.errors import MoneyError, PylonError, UsageError
from pylon.money.books.ledger import meaning
from pylon.money.msat import sats_text
from pylon.money.nwc.uri import parse_uri
from pylon.node.bank import bank_socket
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.home import Home, open_home
from pylon.node.identity import load
from pylon.node.wallet.connection import save_link
from pylon.nostr.bech32 import nip19
from pylon.text import counted

app = typer.Typer(no_args_is_help=True, help="The wallet: connect one, see what it holds, check the books.")

Sats = Annotated[int, typer.Argument(min=1, help="Whole sats.")]


@app.command()
def connect(
    link: Annotated[
        str | None, typer.Argument(help="A Nostr Wallet Connect link, or - to read it from standard input.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Connect a wallet. Without a link, connects to the playbank of this home's relay.

    Pass the link on standard input to keep it out of your shell's history.
    """
    run(_connect(link, as_json), as_json=as_json)


async def _connect(link: str | None, as_json: bool) -> None:
    home, config = open_home()
    if link is None:
        if config.network != "play":
            raise UsageError(
                f"on {config.network} a wallet needs its own link",
                hint="Run `pylon wallet connect -` and paste the wallet's Nostr Wallet Connect link.",
            )
        link = (await result_of(RemoteNode(bank_socket(home.root)), "bank-link", {"account": _own(home)}))["link"]
    try:
        uri = parse_uri(await stdin.text() if link == "-" else str(link))
    except MoneyError as error:
        raise UsageError(str(error), hint=error.hint) from error
    save_link(home, uri)
    if as_json:
        print_json({"wallet": nip19.npub(uri.wallet), "relays": list(uri.relays), "network": config.network})
    else:
        out.print(f"connected to the wallet {short(uri.wallet)} over {', '.join(uri.relays)}")
        out.print("A running node uses it after its next start.", style="dim")


@app.command()
def link(
    account: Annotated[str, typer.Argument(help="The account's name. It is created if it does not exist.")],
    receive_only: Annotated[bool, typer.Option("--receive-only", help="Make a link that cannot pay.")] = False,
    budget: Annotated[int | None, typer.Option(min=1, help="The most play sats the link may pay per day.")] = None,
    as_json: Json = False,
) -> None:
    """Make a link to an account at the playbank of this home's relay, for another machine. The link is shown
    once."""
    run(_link(account, receive_only, budget, as_json), as_json=as_json)


async def _link(account: str, receive_only: bool, budget: int | None, as_json: bool) -> None:
    home, _ = open_home()
    params = {"account": account, "receive_only": receive_only, "budget_sat": budget}
    made = await result_of(RemoteNode(bank_socket(home.root)), "bank-link", params)
    if as_json:
        print_json(made)
    else:
        out.whole(made["link"])
        err.print(
            "Anyone with this link can use the account. On the other machine, run `pylon wallet connect -`.",
            style="dim",
        )


@app.command()
def faucet(
    sats: Sats,
    account: Annotated[str | None, typer.Option(help="The account (default: this node's own).")] = None,
    as_json: Json = False,
) -> None:
    """Get play money from the playbank of this home's relay."""
    run(_faucet(sats, account, as_json), as_json=as_json)


async def _faucet(sats: int, account: str | None, as_json: bool) -> None:
    home, _ = open_home()
    params = {"account": account or _own(home), "sats": sats}
    given = await result_of(RemoteNode(bank_socket(home.root)), "bank-faucet", params)
    if as_json:
        print_json(given)
    else:
        name = given["account"] if account else short(given["account"])
        out.print(f"{name} now has {sats_text(given['balance_msat'], 'play sat')}")


@app.command()
def balance(as_json: Json = False) -> None:
    """Show the wallet's balance, the spending limits and the books."""
    run(_balance(as_json), as_json=as_json)


async def _balance(as_json: bool) -> None:
    data = await call("wallet-balance")
    if as_json:
        print_json(data)
        return
    unit = data["unit"]
    out.print(f"{sats_text(data['balance_msat'], unit)} in the wallet ({data['network']})")
    for line in spending_lines(data["spending"], unit):
        out.print(line)
    made = table("in the books", ">balance", "meaning")
    for name, msat in data["accounts"].items():
        made.add_row(_party(name), sats_text(msat, unit), meaning(name, msat))
    if data["accounts"]:
        out.print(made)


@app.command()
def history(
    limit: Annotated[int, typer.Option("-n", min=1, help="How many entries to show.")] = 20,
    as_json: Json = False,
) -> None:
    """List the ledger's entries, newest first."""
    run(_history(limit, as_json), as_json=as_json)


async def _history(limit: int, as_json: bool) -> None:
    data = await call("wallet-history", {"limit": limit})
    if as_json:
        print_json(data)
        return
    if not data["entries"]:
        out.print("no entries yet")
        return
    made = table("|when", "what", "from", "to", ">amount")
    for row in data["entries"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["booked_at"]))
        amount = sats_text(row["amount_msat"], data["unit"])
        what = f"{row['kind'].replace('_', ' ')}{', decided' if row['decided'] else ''}"
        made.add_row(when, what, _party(row["credit"]), _party(row["debit"]), amount)
    out.print(made)


@app.command()
def invoice(
    sats: Sats,
    description: Annotated[str, typer.Option(help="The description that the payer sees.")] = "",
    as_json: Json = False,
) -> None:
    """Make an invoice, to put money into the wallet by hand."""
    run(_invoice(sats, description, as_json), as_json=as_json)


async def _invoice(sats: int, description: str, as_json: bool) -> None:
    data = await call("wallet-invoice", {"sats": sats, "description": description})
    if as_json:
        print_json(data)
    else:
        out.whole(data["invoice"])
        err.print(f"for {sats_text(data['amount_msat'], data['unit'])}", style="dim")


@app.command()
def pay(
    text: Annotated[str, typer.Argument(metavar="INVOICE", help="The invoice to pay.")],
    most: Annotated[int, typer.Option(min=1, help="The most the invoice may ask for, in sats.")],
    as_json: Json = False,
) -> None:
    """Pay an invoice by hand, within the node's spending limits."""
    run(_pay(text, most, as_json), as_json=as_json)


async def _pay(text: str, most: int, as_json: bool) -> None:
    data = await call("wallet-pay", {"invoice": text, "most_sat": most})
    if as_json:
        print_json(data)
    else:
        words = {"settled": "paid", "unknown": "payment unknown (checking)"}.get(data["state"], data["state"])
        out.print(f"{words}: {sats_text(data['amount_msat'], data['unit'])}")
        if data["state"] == "unknown":
            out.print(
                "`pylon wallet decide` asks the wallet again, and tells you what to do if it never answers.",
                style="dim",
            )


@app.command()
def audit(as_json: Json = False) -> None:
    """Check that the books balance, that each paid invoice was credited once, and that wallet and ledger
    agree."""
    run(_audit(as_json), as_json=as_json)


async def _audit(as_json: bool) -> None:
    data = await call("wallet-audit")
    if as_json:
        print_json(data)
    else:
        out.print(f"{data['audit']}: {counted(data['entries'], 'entry', 'entries')},"
                  f" {counted(data['payments'], 'payment')} made,"
                  f" {counted(data['invoices_paid'], 'invoice')} paid to us")  # fmt: skip
        for row in data["decided"]:
            proof = "with its preimage" if row["proof"] else "without proof"
            said = f"paid, {proof}" if row["state"] == "settled" else "not paid"
            out.print(f"  decided by you: {row['payment']} ({sats_text(row['amount_msat'], data['unit'])}) {said}")
        for finding in data["findings"]:
            out.print(f"  {finding['code']}: {finding['text']}")
    if data["findings"]:
        fail(PylonError("the books have errors", hint="docs/money.md explains each finding."))


app.command("decide")(decide)
app.command("go-live")(go_live)
app.command("trust-payee")(trust_payee)


def _own(home: Home) -> str:
    return nip19.npub(load(home.identity_file).public)


def _party(account: str) -> str:
    kind, _, key = account.partition(":")
    return f"{kind.replace('_', ' ')} {short(key)}" if key else kind
