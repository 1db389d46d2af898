"""The node, its code, its model and its service, judged. Values in, findings out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pylon.errors import NodeSilentError, PylonError
from pylon.inference.memory import memory_limit
from pylon.inference.models import needle
from pylon.node.doctor.finding import RESTART, Finding, ok, warning, wrong

# How the last process of a service ended when its program was not there: systemd's own code, then a shell's.
_NO_PROGRAM = ("203", "127")


@dataclass(frozen=True, slots=True)
class ModelReading:
    """`fault`: it is not here, or its server does not answer. `weights`, `free`, `wished` in bytes, 0 if unknown.

    `unnamed`: it is a server's, and goes by the id of another, the default.
    """

    engine: str
    model: str
    fault: str = ""
    hint: str = ""
    weights: int = 0
    free: int = 0
    wished: int = 0
    unnamed: bool = False


@dataclass(frozen=True, slots=True)
class CodeReading:
    """The Pylon of this command: its version, and when its newest file of code was written, in Unix time."""

    version: str
    written_at: float


@dataclass(frozen=True, slots=True)
class ServiceReading:
    """`install` is the command that installs it, empty on a machine without a manager that Pylon knows.

    `manager` is that one's name, `fault` what asking it raised.
    """

    manager: str = ""
    installed: bool = False
    pid: int | None = None
    state: str = ""
    last_exit: str = ""
    log: str = ""
    install: str = ""
    fault: str = ""


def judge_node(
    status: Mapping[str, Any] | None,
    service: ServiceReading,
    paused_on_disk: str = "",
    *,
    mend: str = "",
    fault: PylonError | None = None,
) -> Finding:
    """Whether a node serves; `status` is what it says of itself, None where none runs. `mend` says what comes before
    any start, empty where nothing is in its way. `fault` is what one that runs failed with when it was to say how it
    does.
    """
    if isinstance(fault, NodeSilentError):
        return wrong("node", str(fault), fault.hint, no_jobs=True)
    if fault is not None:
        return wrong(
            "node",
            f"one is running, but it cannot report its state: {fault}",
            f"Its log says why. {RESTART} may fix it.",
        )
    if status is None:
        return _none_runs(service, paused_on_disk, mend)
    provider = status["provider"]
    if provider is None:
        return wrong(
            "node",
            f"process {status['pid']} is using this home, but does not serve",
            "Another command is running. When it has ended, run `pylon start`.",
            no_jobs=True,
        )
    if provider["paused"]:
        rules = [rule for rule in (status["owner"] or {"rules": ()})["rules"] if rule["holds"]]
        return _paused(provider["paused"], rules, mend)
    if provider["draining"]:
        return wrong("node", "draining: it takes no new jobs", "Run `pylon resume` to end that.", no_jobs=True)
    if provider["engine"]["state"] == "failed":
        return wrong("node", "it is running, but refuses every job", "Its model failed; see below.", no_jobs=True)
    served = sum(count for state, count in provider["jobs"].items() if state == "settled")
    return ok("node", f"takes jobs; {provider['running']} running, {provider['queued']} waiting, {served} served")


def _none_runs(service: ServiceReading, paused_on_disk: str, mend: str) -> Finding:
    held = f", and it will start paused ({paused_on_disk})" if paused_on_disk else ""
    if service.installed:
        todo = "`pylon service restart`"
    else:
        todo = f"`pylon start`{f', or `{service.install}`' if service.install else ''}"
    if held:
        todo += "; then `pylon resume`"
    return wrong("node", f"not running{held}", f"{f'{mend}; then {todo}' if mend else todo}.", no_jobs=True)


def _paused(reason: str, rules: Sequence[Mapping[str, Any]], mend: str) -> Finding:
    """`rules` are those that hold: over a pause by hand they are not seen, and its end alone brings no jobs."""
    names, todo, said = [rule["name"] for rule in rules], [], f"paused ({reason})"
    if reason == "disk":
        todo.append(f"{mend or 'Free some disk space'}: the node tries again every few seconds")
    elif reason == "database":
        todo.append(
            "The database is damaged: `pylon stop`, restore it from a backup, and start again. The log says more"
        )
    elif reason != ", ".join(names):
        said = f"{said} by hand{f'; these owner rules also pause it: {", ".join(names)}' if rules else ''}"
        todo.append("`pylon resume` ends the manual pause")
    todo += [f"{rule['ends']} ends `{rule['name']}`" for rule in rules]
    if any(rule["yielding"] for rule in rules):
        firm = [rule["name"] for rule in rules if not rule["yielding"]]
        despite = f" all rules but {' and '.join(firm)}" if firm else " all of it"
        todo.append(f"`pylon resume --for 2h` suspends{despite} for that time")
    return wrong("node", said, f"{'; '.join(todo)}.", no_jobs=True)


def judge_model(read: ModelReading, status: Mapping[str, Any] | None) -> Finding:
    """Whether there is a model that answers: as the node says, or as its files and the memory promise."""
    if status is not None and status["provider"] is not None:
        engine = status["provider"]["engine"]
        said = f"{status['model']} {engine['state']}"
        if engine["state"] == "failed":
            todo = engine["hint"] or (
                "See `pylon models list` for the models here, and `pylon models recommend` for those that fit."
            )
            return wrong("model", f"{said}: {engine['failure']}", todo, no_jobs=True)
        # One that was there before may only have left memory meanwhile.
        again = engine["hint"] or (engine["restarts"] and engine["model"] is None)
        if engine["state"] == "loading" and again:
            todo = engine["hint"] or "The node tries again. For the last error, see logs/pylon.log in PYLON_HOME."
            return wrong("model", f"{said}, again: {engine['reason']}", todo, no_jobs=True)
        if engine["state"] == "loading":
            return warning("model", said, "Wait; if it fails, the log says so.", no_jobs=True)
        return _by_name(ok("model", said), status["model"], read)
    if read.fault:
        return wrong("model", read.fault, read.hint, no_jobs=True)
    limit = memory_limit(read.free, None, read.wished) if read.free else 0
    said = f"{read.model} by {read.engine}"
    if read.weights and limit:
        said = f"{said}: its weights take {_size(read.weights)} of the {_size(limit)} that it may use now"
        if read.weights >= limit:
            return _too_large(read, said)
    return _by_name(ok("model", said), read.model, read)


def _too_large(read: ModelReading, said: str) -> Finding:
    todo = "Choose a smaller model (`pylon models recommend`), or close programs that use memory."
    if 0 < read.wished < memory_limit(read.free, None):
        said = f"{said}, as set by `memory_gb`"
        if read.weights < memory_limit(read.free, None):
            least = math.ceil(read.weights / 1e8) / 10
            todo = f"Set `memory_gb` in [inference] to more than {least:g}, or to 0 to use what the machine allows."
    return wrong("model", said, todo, no_jobs=True)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 10**8 else f"{size / 1e6:.0f} MB"


def _by_name(found: Finding, model: str, read: ModelReading) -> Finding:
    """What customers are to expect of a model by its id."""
    if read.unnamed:
        return warning(
            "model",
            f"{found.said}; its server's model has no name in the settings, so customers see it as {model}",
            "Set `model` in [inference] to the name that the server uses, and restart the node.",
        )
    if model != needle.MODEL_ID or read.engine == "openai":
        return found
    return warning(
        "model",
        f"{found.said}; it only finds numbers stated in a text",
        "`pylon models recommend` lists models for any question.",
    )


def judge_code(read: CodeReading, status: Mapping[str, Any], now: float) -> Finding | None:
    """Whether the node that runs is what is installed here: what it loads only when it is needed is the newer one."""
    if status["version"] != read.version:
        said = f"the running node is Pylon {status['version']}, but {read.version} is installed here"
    elif now - status["uptime_s"] < read.written_at:
        since = (now - read.written_at) / 60
        said = f"the running node started before Pylon's files were changed here, {since:,.0f} min ago"
    else:
        return None
    return warning("code", said, f"{RESTART}; until then, calls to the node may fail.")


def judge_calls(status: Mapping[str, Any]) -> Finding | None:
    """Whether the node that runs failed in what commands asked of it."""
    # One that began with an older Pylon does not count them.
    faults = status.get("faults")
    if not faults or not faults["count"]:
        return None
    calls = "1 call" if faults["count"] == 1 else f"{faults['count']:,} calls"
    said = f"the node failed in {calls} since its start; the last: {faults['last']}"
    return warning("calls", said, f"For details, see {faults['log']}.")


def judge_service(read: ServiceReading) -> Finding:
    """Whether the machine starts the node by itself."""
    if read.fault:
        return warning("service", read.fault, "`pylon service status` says more.")
    if not read.installed:
        if not read.install:
            # A container lacks nothing.
            return ok("service", "neither launchd nor systemd is available; the node runs when you start it")
        return ok("service", f"not installed; the node runs when you start it (to install it: `{read.install}`)")
    if read.pid is not None:
        return ok("service", f"{read.manager}: {read.state}")
    if read.last_exit in ("", "0"):
        return warning(
            "service",
            f"{read.manager}: {read.state or 'not loaded'}",
            "The service was stopped. Run `pylon service restart` to start it.",
        )
    if read.last_exit.split(":")[0] in _NO_PROGRAM:
        return wrong(
            "service",
            "its program is missing; Pylon may have been moved",
            "`pylon service install` from where Pylon is now.",
        )
    return wrong("service", f"{read.manager}: {read.state}, last exit: {read.last_exit}", f"Read {read.log}")
