"""The relays, judged: reachable, willing, in time, and showing this node. Values in, findings out."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pylon.jobs.heartbeat import EXPIRY_S, INTERVAL_S, Heartbeat
from pylon.jobs.size import MAX_EVENT_BYTES
from pylon.node.doctor.finding import Finding, ok, warning, wrong
from pylon.nostr.nip11 import RelayInformation

# `EHOSTUNREACH` of macOS: what a program gets that the owner has not allowed to look into the local network.
MACOS_NO_ROUTE = 65
# A relay's date has whole seconds, and its answer takes some.
CLOCK_FINE_S = 5.0
# Heartbeats of a clock that is further back have expired when the next one comes.
CLOCK_WRONG_S = float(EXPIRY_S - INTERVAL_S)


@dataclass(frozen=True, slots=True)
class RelayReading:
    """`error` is empty where the relay could be connected to; `errno` is the system's, if it was the system's.

    `ahead_s` is how far this machine's clock is ahead of the relay's, None where that does not say. `heartbeat` and
    `announced` are what the relay shows of this node; `refusal` is why it shows nothing to us.
    """

    url: str
    error: str = ""
    errno: int | None = None
    information: RelayInformation | None = None
    ahead_s: float | None = None
    announced: bool = False
    heartbeat: Heartbeat | None = None
    refusal: str = ""
    here: bool = False
    near: bool = False


def judge_relay(read: RelayReading, *, system: str, key: bool) -> Finding:
    """Whether it can be reached, and what it says of itself (NIP-11) that stands in the way."""
    check = f"relay {read.url}"
    if read.error:
        return _unreachable(check, read, system)
    if read.refusal:
        return wrong(check, f"it lets this key in no further: {read.refusal}", "Ask its operator, or take another.")
    information = read.information
    if information is None:
        return ok(check, "open; it says nothing of its limits (NIP-11)")
    if information.payment_required:
        return warning(check, "open; it wants to be paid before it takes events", "Pay there, or take another.")
    if information.auth_required and not key:
        return warning(check, "open; it wants a key, which is locked here", "Set PYLON_PASSPHRASE and look again.")
    if information.restricted_writes and not read.announced:
        return warning(check, "open; it takes events of chosen keys only", "Ask its operator to let your npub write.")
    size = information.event_bytes
    if size is not None and size < MAX_EVENT_BYTES:
        return warning(
            check,
            f"open; it takes events up to {size:,} bytes, where others take {MAX_EVENT_BYTES:,}",
            "Longer prompts and answers do not pass it: name another one too.",
        )
    return ok(check, "open, and its limits are wide enough")


def judge_reach(reads: Sequence[RelayReading], *, household: bool) -> Finding:
    """Whether anybody else can meet this node anywhere."""
    reached = [read for read in reads if not read.error]
    if not reached:
        return wrong(
            "relays",
            "none of them can be reached, so nobody can ask this node",
            "Start one with `pylon relay`, or name others as `relays` in config.toml.",
            no_jobs=True,
        )
    if all(read.here for read in reached) and not household:
        return warning(
            "relays",
            "all that are reached are this machine's own: only its own programs meet this node there",
            'Name one that customers use too: relays = ["wss://…"] in config.toml.',
            no_jobs=True,
        )
    return ok("relays", f"{len(reached)} of {len(reads)} reached")


def judge_port(port: int, *, taken: bool, running: bool) -> Finding:
    """Whether the relay of one's own household can listen; one that a node runs beside itself is the taker."""
    if taken and not running:
        todo = f"`lsof -i :{port}` says who it is; or set `relay.port`."
        return warning("port", f"something listens on {port} already, where `pylon start --relay` would", todo)
    return ok("port", f"{port}, {'in use by what runs here' if taken else 'free'}")


def judge_clock(reads: Sequence[RelayReading]) -> Finding:
    """How far this machine's clock is from the relays': jobs have deadlines, heartbeats expire."""
    said = [read.ahead_s for read in reads if read.ahead_s is not None]
    if not said:
        return ok("clock", "not compared: no relay told its time")
    ahead = median(said)
    words = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the relays"
    if abs(ahead) > CLOCK_WRONG_S:
        return wrong(
            "clock",
            f"{words}: jobs seem expired, and so do this node's heartbeats",
            "Let the system set the time (macOS: Date & Time; Linux: `timedatectl set-ntp true`).",
            no_jobs=True,
        )
    if abs(ahead) > CLOCK_FINE_S:
        return warning("clock", words, "Let the system set the time: jobs with short deadlines are lost.")
    return ok("clock", f"within {CLOCK_FINE_S:.0f} s of the relays'")


def judge_presence(reads: Sequence[RelayReading], now: float) -> Finding | None:
    """Whether a node that runs can be seen by customers. None where no relay is there to look at."""
    reached = [read for read in reads if not read.error]
    if not reached:
        return None
    beats = [read.heartbeat for read in reached if read.heartbeat is not None]
    fresh = [beat for beat in beats if beat.expires_at > now]
    if not fresh or not any(read.announced for read in reached):
        lacking = "announcement" if fresh else "heartbeat"
        return wrong(
            "seen",
            f"no relay shows this node's {lacking}: to customers it is not there",
            "Wait half a minute after a start; then look for `not announced` in its log.",
            no_jobs=True,
        )
    beat = max(fresh, key=lambda one: one.expires_at)
    if beat.loading or beat.paused:
        return ok("seen", f"announced; its heartbeat says {'paused' if beat.paused else 'loading'}")
    return ok("seen", f"announced, and alive with {beat.slots_free} of {beat.slots} slots free")


def _unreachable(check: str, read: RelayReading, system: str) -> Finding:
    if system == "Darwin" and read.errno == MACOS_NO_ROUTE and read.near:
        return wrong(
            check,
            "macOS lets this program not into the local network (errno 65)",
            "System Settings, Privacy & Security, Local Network: allow Python and your terminal; then restart.",
        )
    todo = "`pylon relay` starts one here." if read.here else "Is the address right, and does it run?"
    return wrong(check, f"cannot be reached: {read.error}", todo)
