"""`pylon wallet decide`: lets the owner decide whether a payment was made, if the wallet cannot tell."""

import time
from typing import Annotated, Any

import typer
from rich.console import Console

from pylon.cli import stdin
from pylon.cli.calling import call
from pylon.cli.output import err, out
from pylon.cli.running import Json, print_json, run
from pylon.errors import UsageError
from pylon.money.msat import MSAT_PER_SAT, sats_text
from pylon.nostr.event import is_hex64

_PAID, _NOT_PAID = "paid", "not paid"


def decide(
    payment: Annotated[
        str | None,
        typer.Argument(
            metavar="PAYMENT", help="The payment hash, or its beginning. Without it, all such payments are listed."
        ),
    ] = None,
    paid: Annotated[bool, typer.Option("--paid", help="The wallet shows it as paid.")] = False,
    preimage: Annotated[
        str,
        typer.Option(
            "--preimage", metavar="HEX", help="The preimage that the wallet shows, which proves the payment."
        ),
    ] = "",
    not_paid: Annotated[
        bool, typer.Option("--not-paid", help="The wallet did not pay it, and its invoice can no longer be paid.")
    ] = False,
    fee: Annotated[int, typer.Option(min=0, help="The routing fee in sats, if it was paid.")] = 0,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --paid and without a preimage: do not ask for confirmation.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Settle a payment whose outcome is unknown because the wallet can neither look it up nor list it.

    First look the payment up in the wallet yourself. Until it is settled, its money stays reserved, and its
    provider gets no other deposit. A preimage proves that it was paid. Without one, and for --not-paid, the
    command asks the wallet once more and then has you type your decision. The books record that you decided it.
    You cannot change it later.
    """
    if payment is None:
        run(_list(as_json, alone=not (paid or preimage or not_paid or fee or yes)), as_json=as_json)
    else:
        run(_decide(payment.lower(), paid or bool(preimage), preimage, not_paid, fee, yes, as_json), as_json=as_json)


async def _list(as_json: bool, *, alone: bool) -> None:
    if not alone:
        raise UsageError(
            "which payment?", hint="`pylon wallet decide` lists them; give a payment hash from the list."
        )
    data = await call("wallet-undecided", {"look": True})
    if as_json:
        print_json(data)
        return
    if not data["payments"]:
        out.print("no payment has an unknown outcome")
        return
    for row in data["payments"]:
        _show(out, row, data["unit"])
    out.print(
        "Look each payment up in the wallet itself. If it was paid, run `pylon wallet decide "
        "PAYMENT --preimage HEX`, or use --paid if the wallet shows no preimage. If it was not "
        "paid and its invoice has expired, run `pylon wallet decide PAYMENT --not-paid`.",
        style="dim",
    )


async def _decide(named: str, paid: bool, preimage: str, not_paid: bool, fee: int, yes: bool, as_json: bool) -> None:
    if paid == not_paid:
        raise UsageError(
            "was it paid or not?",
            hint="Give --preimage HEX or --paid if the wallet shows it as paid, otherwise --not-paid.",
        )
    if not_paid and (yes or fee):
        raise UsageError(
            "--not-paid takes neither --yes nor --fee: a mistake would pay twice, so you must confirm it by typing",
            hint="Leave them out.",
        )
    data = await call("wallet-undecided")
    row = _named(named, data["payments"])
    # If the payment is not listed it has ended, and if it is under way it cannot be decided. The node reports both.
    if row is not None and row["state"] == "unknown" and not preimage and not yes:
        _show(err, row, data["unit"])
        await _consent(row, data["unit"], paid=paid)
    params = {
        "payment": named if row is None else row["payment"],
        "verdict": "paid" if paid else "not_paid",
        "preimage": preimage.lower() or None,
        "fee_msat": fee * MSAT_PER_SAT,
    }
    decided = await call("wallet-decide", params)
    if as_json:
        print_json(decided)
        return
    by = "confirmed by the wallet" if decided["decided_by"] == "wallet" else "decided by you"
    proof = ", with its preimage" if decided["proof"] else ""
    before = "" if decided["changed"] else "; it was already settled that way"
    said = _PAID if decided["state"] == "settled" else _NOT_PAID
    out.print(f"{said}: {sats_text(decided['amount_msat'], decided['unit'])} ({by}{proof}){before}")


async def _consent(row: dict[str, Any], unit: str, *, paid: bool) -> None:
    amount = sats_text(row["amount_msat"], unit)
    if paid:
        wanted = _PAID
        err.print(
            f"Without the preimage, nothing proves that these {amount} arrived. Confirm only if "
            "the wallet shows this payment hash as paid. If it was not, the books stay wrong for "
            f"good{', and its provider is avoided for not crediting it' if row['provider'] else ''}."
        )
    else:
        wanted = _NOT_PAID
        if row["releasable_at"] >= time.time():
            # Checked here too, so that nobody types a confirmation that is refused.
            raise UsageError(
                "nothing was decided: until ten minutes after its invoice expires, it may still be paid",
                hint=f"Try again after {_at(row['releasable_at'])}.",
            )
        err.print(
            f"A mistake pays twice: these {amount} become free again, and may pay another "
            "invoice. Confirm only if the wallet shows this payment hash as failed, or does not "
            "show it among its payments at all."
        )
    err.print(f"Type `{wanted}` to confirm:")
    if " ".join((await stdin.line()).lower().split()) != wanted:
        raise UsageError("nothing was decided", hint=f"Type `{wanted}` and nothing else.")


def _show(where: Console, row: dict[str, Any], unit: str) -> None:
    to = row["provider"] or "an invoice that you paid by hand"
    where.print(f"{row['payment']}")
    where.print(f"  {sats_text(row['amount_msat'], unit)} to {to}, sent {_at(row['sent_at'])}")
    where.print(f"  Lightning node {row['payee']}")
    where.print(f"  invoice expires {_at(row['expires_at'])}")
    if row["state"] == "unknown":
        where.print(f"  unknown ({row['reason']})")
    else:
        where.print("  in progress")


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _named(named: str, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    found = [row for row in rows if row["payment"].startswith(named)] if named else []
    if len(found) > 1:
        raise UsageError(f"{len(found)} payments begin with {named}", hint="Give more of the hash.")
    if not found and not is_hex64(named):
        raise UsageError(
            f"no payment of unknown outcome begins with {named!r}", hint="`pylon wallet decide` lists them."
        )
    return found[0] if found else None
