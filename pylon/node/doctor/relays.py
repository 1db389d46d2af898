"""The relays, judged: can they be reached, do they accept and show this node? Values in, findings out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median
from typing import Any

from pylon.jobs.heartbeat import EXPIRY_S, INTERVAL_S, Heartbeat
from pylon.jobs.size import MAX_EVENT_BYTES
from pylon.node.doctor.finding import RESTART, Finding, Verdict, ok, warning, wrong
from pylon.nostr.client.nip11 import RelayInformation
from pylon.relay_url import host_and_port

# `EHOSTUNREACH` on macOS: also the error for a program that the user has not allowed into the local network.
MACOS_NO_ROUTE = 65
# Seconds. A relay's date has whole seconds, and its answer takes time.
CLOCK_FINE_S = 5.0
# With a clock further behind than this, each heartbeat expires before the next one comes.
CLOCK_WRONG_S = float(EXPIRY_S - INTERVAL_S)


class Answers(StrEnum):
    """What answers at a relay's address."""

    NOTHING = "nothing"
    # A websocket opens with the other scheme, `ws` or `wss`.
    OTHER_SCHEME = "other scheme"
    # A websocket opens only if the certificate is not checked.
    UNTRUSTED = "untrusted"
    # Something that opens no websocket.
    STRANGER = "stranger"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class RelayReading:
    """What a new connection to the relay showed. `error` says why it failed, empty if it did not, and `errno` is the
    system's number for it, if there is one. `answers` is what listens at the address, and `elsewhere` the same
    address with the other scheme. `here`: the relay is on this machine; `near`: it is in the local network.

    `information` is the relay's document (NIP-11). `ahead_s` is by how many seconds this machine's clock is ahead of
    the relay's, None if the relay does not tell. `announced` and `heartbeat` are what the relay shows of this node,
    and `refusal` is why it shows nothing.

    `own` says why the running node's connection to the relay is of no use, empty if it is; `own_lost`: it is down.
    """

    url: str
    error: str = ""
    errno: int | None = None
    answers: Answers = Answers.NOTHING
    elsewhere: str = ""
    information: RelayInformation | None = None
    ahead_s: float | None = None
    announced: bool = False
    heartbeat: Heartbeat | None = None
    refusal: str = ""
    here: bool = False
    near: bool = False
    own: str = ""
    own_lost: bool = False


def beside_own(reads: Iterable[RelayReading], status: Mapping[str, Any] | None) -> list[RelayReading]:
    """The readings, with what the running node says of its own connections; `status` is None if no node runs."""
    own = {relay["url"]: relay for relay in status["relays"]} if status is not None else {}
    return [
        replace(read, own=relay["error"], own_lost=relay["state"] != "open")
        if (relay := own.get(read.url)) is not None
        else read
        for read in reads
    ]


def judge_relay(read: RelayReading, *, system: str, key: bool) -> Finding:
    """Whether the relay can be reached, and whether its limits (NIP-11) keep this node out. `system` is named as in
    `platform`; `key`: the node's key is open here."""
    check = f"relay {read.url}"
    if read.error:
        return _unreachable(check, read, system)
    if read.refusal:
        said = f"open, but it answers none of this node's queries: {read.refusal}"
        return wrong(check, said, "Check that it is a Nostr relay and ask its operator, or use another relay.")
    if read.own and read.own_lost:
        return warning(
            check, f"open, but not to the running node: {read.own}", "The node tries again within a minute."
        )
    if read.own:
        said = f"open, but not to the running node: {read.own}"
        return wrong(
            check, said, f"The node authenticates again at least every ten minutes. To do it now: {RESTART}."
        )
    information = read.information
    if information is None:
        return ok(check, "open; it publishes no limits (NIP-11)")
    if information.payment_required:
        return warning(
            check, "open, but it demands payment before it accepts events", "Pay the relay, or use another."
        )
    if information.min_pow_difficulty is not None:
        return warning(
            check, "open, but it demands proof of work (NIP-13), which Pylon does not do", "Use another relay."
        )
    if information.auth_required and not key:
        return warning(
            check,
            "open, but it demands authentication, and the key is locked here",
            "Set PYLON_PASSPHRASE and run this again.",
        )
    if information.restricted_writes and not read.announced:
        return warning(
            check, "open, but it accepts events only from selected keys", "Ask its operator to admit your npub."
        )
    size = information.event_bytes
    if size is not None and size < MAX_EVENT_BYTES:
        return warning(
            check,
            f"open, but it accepts events only up to {size:,} bytes; others accept {MAX_EVENT_BYTES:,}",
            "Longer prompts and answers cannot pass through it. Add another relay.",
        )
    return ok(check, "open, and its limits are high enough")


def judge_reach(reads: Sequence[RelayReading], *, household: bool) -> Finding:
    """Whether anybody else can reach this node over any of its relays."""
    reached = [read for read in reads if not read.error]
    if not reached:
        return wrong(
            "relays",
            "none can be reached, so no one can reach this node",
            "Start one with `pylon relay`, or set others as `relays` in config.toml."
            if all(read.answers is Answers.NOTHING for read in reads)
            else "Follow the advice above, or set other `relays` in config.toml.",
            no_jobs=True,
        )
    if all(read.own for read in reached):
        return wrong(
            "relays",
            f"{len(reached)} of {len(reads)} reached, but none by the running node, so no one can reach it",
            "Follow the advice above.",
            no_jobs=True,
        )
    if all(read.here for read in reached) and not household:
        return Finding(
            "relays",
            Verdict.WARNING,
            "the only relays reached are on this machine, so only its own programs can reach this node",
            'To get jobs from others, add a relay that they use too: relays = ["wss://…"] in config.toml.',
            only_own=True,
        )
    return ok("relays", f"{len(reached)} of {len(reads)} reached")


def judge_port(port: int, *, taken: bool, running: bool, system: str) -> Finding:
    """Whether the household's relay can listen on its port. While a node is `running`, it may be what listens
    there."""
    if taken and not running:
        todo = f"{_who_listens(port, system)} shows what it is. Or set another `port` in [relay]."
        return warning("port", f"{port} is already in use, and `pylon start --relay` needs it", todo)
    return ok("port", f"{port}, {'in use by the running node or relay' if taken else 'free'}")


def judge_clock(reads: Sequence[RelayReading]) -> Finding:
    """How far this machine's clock is from the relays': jobs have deadlines, and heartbeats expire."""
    said = [read.ahead_s for read in reads if read.ahead_s is not None]
    if not said:
        return ok("clock", "not compared: no relay told its time")
    ahead = median(said)
    words = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the relays"
    if abs(ahead) > CLOCK_WRONG_S:
        return wrong(
            "clock",
            f"{words}, so jobs and this node's heartbeats seem expired",
            "Let the system set the time (macOS: Date & Time; Linux: `timedatectl set-ntp true`).",
            no_jobs=True,
        )
    if abs(ahead) > CLOCK_FINE_S:
        return warning("clock", words, "Let the system set the time, or jobs with short deadlines are lost.")
    return ok("clock", f"within {CLOCK_FINE_S:.0f} s of the relays'")


def judge_presence(reads: Sequence[RelayReading], now: float, fault: str = "") -> Finding | None:
    """Whether customers can see a running node; None if no relay was reached. `fault` is why no relay accepted its
    last announcement. `now` is in Unix seconds."""
    reached = [read for read in reads if not read.error]
    if not reached:
        return None
    beats = [read.heartbeat for read in reached if read.heartbeat is not None]
    fresh = [beat for beat in beats if beat.expires_at > now]
    if not fresh or not any(read.announced for read in reached):
        lacking = "announcement" if fresh else "heartbeat"
        return wrong(
            "seen",
            f"no relay shows this node's {lacking}, so customers cannot see it{f' ({fault})' if fault else ''}",
            "Fix what the relays complained about. The node tries again every half minute."
            if fault
            else "After a start, wait half a minute. Then look for `not announced` in the log.",
            no_jobs=True,
        )
    beat = max(fresh, key=lambda one: one.expires_at)
    if beat.loading or beat.paused:
        return ok("seen", f"announced; its heartbeat says {'paused' if beat.paused else 'loading'}")
    return ok("seen", f"announced and alive, with {beat.slots_free} of {beat.slots} slots free")


def _unreachable(check: str, read: RelayReading, system: str) -> Finding:
    if system == "Darwin" and read.errno == MACOS_NO_ROUTE and read.near:
        return wrong(
            check,
            "macOS does not let this program use the local network (errno 65)",
            "In System Settings, Privacy & Security, Local Network, allow Python and your terminal. Then restart.",
        )
    match read.answers:
        case Answers.NOTHING:
            todo = (
                "Start one here with `pylon relay`."
                if read.here
                else "Check the address, and that the relay is running."
            )
            return wrong(check, f"cannot be reached: {read.error}", todo)
        case Answers.OTHER_SCHEME:
            secured = "with TLS" if read.elsewhere.startswith("wss:") else "without TLS"
            return wrong(check, f"it accepts websockets only {secured}", f"Change the address to {read.elsewhere}")
        case Answers.UNTRUSTED:
            said = f"its certificate is not trusted here: {read.error}"
            return wrong(check, said, "Check that the certificate is for this host name, and who signed it.")
        case _:
            said = f"something listens there, but it does not answer like a relay: {read.error}"
            return wrong(check, said, _other_place(read, system))


def _other_place(read: RelayReading, system: str) -> str:
    if not read.here:
        return "Check the address and its path, and that the relay is running behind the server that answers."
    _, port = host_and_port(read.url)
    return (
        f"{_who_listens(port, system)} shows what it is. End it, or set another port, both as "
        "`port` in [relay] and in `relays` of config.toml."
    )


def _who_listens(port: int, system: str) -> str:
    return f"`ss -ltnp sport = :{port}`" if system == "Linux" else f"`lsof -nP -iTCP:{port} -sTCP:LISTEN`"
