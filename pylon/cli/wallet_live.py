"""`pylon wallet go-live`: allows live money once its caps are typed. Also the lines on what limits are used up."""

from typing import Annotated

import typer

from pylon.cli import stdin
from pylon.cli.output import err, out
from pylon.cli.running import Json, print_json, run
from pylon.errors import UsageError
from pylon.money.msat import Msat, sats_text
from pylon.money.payments.agreed import FIRST, MOST, Agreed
from pylon.node.home import open_home
from pylon.node.identity import load
from pylon.node.wallet import live
from pylon.nostr.bech32 import nip19
from pylon.text import counted


def go_live(
    payment: Annotated[
        int | None,
        typer.Option(
            help=f"The most for one payment, in sats: at first {FIRST.payment:,}, at most {MOST.payment:,}."
        ),
    ] = None,
    day: Annotated[
        int | None, typer.Option(help=f"The most per day: at first {FIRST.day:,}, at most {MOST.day:,}.")
    ] = None,
    total: Annotated[
        int | None,
        typer.Option("--all", help=f"The most of all time: at first {FIRST.all:,}, at most {MOST.all:,}."),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Withdraw the permission.")] = False,
    as_json: Json = False,
) -> None:
    """Allow real money: shows the spending caps, and has you type them to confirm.

    Needs `network = "mainnet"` in config.toml. If live money is already allowed, caps that you name replace the
    old ones; without any, the command shows the current caps. Caps above the initial ones must be typed in a
    terminal. A file named STOP in PYLON_HOME halts all spending at once.
    """
    run(_go_live({"payment": payment, "day": day, "all": total}, off, as_json), as_json=as_json)


async def _go_live(named: dict[str, int | None], off: bool, as_json: bool) -> None:
    home, _ = open_home()
    live.need_mainnet(home)
    public = load(home.identity_file).public
    given = {name: sats for name, sats in named.items() if sats is not None}
    allowed = live.permission(home, public)
    if off and given:
        raise UsageError("--off withdraws the permission and takes no caps", hint="Leave the caps out.")
    if off:
        live.withdraw(home)
    elif (wanted := live.proposed(allowed, given, by_person=stdin.is_terminal())) is not None:
        _state(wanted)
        live.allow(home, public, wanted, await stdin.line())
    allowed = live.permission(home, public)
    if as_json:
        caps = {} if allowed is None else _caps(allowed)
        print_json({"live": allowed is not None, "network": home.network, **caps})
        return
    if allowed is None:
        out.print(f"live money is not allowed for {nip19.npub(public)}")
    else:
        out.print(f"live money is allowed for {nip19.npub(public)}: {allowed.in_words}")
    out.print("This takes effect now, also for a running node. To halt all spending: `touch "
        f"{home.root / live.STOP_FILE}`", style="dim")  # fmt: skip


def spending_lines(spending: dict[str, int], unit: str) -> list[str]:
    """What is used of each spending limit (`0 sat of 200 sat in the last hour`), and payments of unknown outcome.

    `spending` is what the `status` call returns.
    """
    windows = (("hour", "in the last hour"), ("day", "in the last day"), ("all", "in total"))
    used = [
        f"{sats_text(spending[f'{name}_msat'], unit)} of {sats_text(spending[f'most_{name}_msat'], unit)} {told}"
        for name, told in windows
    ]
    payment, fee = (sats_text(spending[f"most_{name}_msat"], unit) for name in ("payment", "fee"))
    lines = [f"spent or set aside: {', '.join(used)}", f"one payment: at most {payment}, plus a fee of at most {fee}"]
    if spending["unknown"]:
        lines.append(
            f"{counted(spending['unknown'], 'payment')} of unknown outcome, "
            f"{sats_text(spending['unknown_msat'], unit)} reserved: see `pylon wallet decide`"
        )
    return lines


def _caps(agreed: Agreed) -> dict[str, int]:
    """The caps in msat, by the names that limits have in the `status` call."""
    return {f"most_{name}_msat": int(Msat.from_sats(sats)) for name, sats in agreed.as_dict().items()}


def _state(wanted: Agreed) -> None:
    err.print("If you allow this, the node spends and receives real sats:")
    err.print(f"  {wanted.in_words}.")
    err.print(f"To allow it, type these three numbers: {' '.join(map(str, wanted.as_dict().values()))}")
