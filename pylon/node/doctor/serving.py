"""The node, its code, its model and its service, judged. Values in, findings out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pylon.errors import NodeSilentError, PylonError
from pylon.inference.memory import memory_limit
from pylon.inference.models import needle
from pylon.node.doctor.finding import RESTART, Finding, ok, warning, wrong

# Exit codes of a service whose program is missing: of systemd (EXIT_EXEC), and of a shell.
_NO_PROGRAM = ("203", "127")


@dataclass(frozen=True, slots=True)
class ModelReading:
    """`fault` and `hint` say why the model is not here, or its server does not answer. In bytes, 0 if unknown: the
    model's `weights`, the `free` memory, and the memory `wished` for in the settings. `unnamed`: the model of a
    server has no name in the settings, so it goes by the id of the default model."""

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
    """The Pylon of this command: its version, and when its newest code file was written (Unix seconds)."""

    version: str
    written_at: float


@dataclass(frozen=True, slots=True)
class ServiceReading:
    """The node's service: `manager` is launchd or systemd, `state` and `last_exit` are in its words. `pid` is None if
    the service does not run. `log` is where to look. `install` is the command that installs the service, empty on a
    machine without such a manager. `fault` is the error in asking the manager."""

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
    """Whether a node serves. `status` is what it reports, None if none runs or reporting failed with `fault`.
    `paused_on_disk` is why the next start will be paused. `mend` is what must be done before a node can start. All
    are empty or None if there is nothing to say."""
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
    """`rules` are the owner rules that hold. `reason` hides them during a pause by hand, although ending that pause
    alone brings no jobs."""
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
    """Whether there is a model that can answer: as the running node reports, or else judged from files and memory."""
    if status is not None and status["provider"] is not None:
        engine = status["provider"]["engine"]
        said = f"{status['model']} {engine['state']}"
        if engine["state"] == "failed":
            todo = engine["hint"] or (
                "See `pylon models list` for the models here, and `pylon models recommend` for those that fit."
            )
            return wrong("model", f"{said}: {engine['failure']}", todo, no_jobs=True)
        # A model that was loaded once may only have been unloaded to free memory.
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
    """Warns where the id makes customers expect something else of the model."""
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
    """Whether the running node has the code that is installed here. If not, modules that it imports later do not fit;
    None if it has. `now` is in Unix seconds."""
    if status["version"] != read.version:
        said = f"the running node is Pylon {status['version']}, but {read.version} is installed here"
    elif now - status["uptime_s"] < read.written_at:
        since = (now - read.written_at) / 60
        said = f"the running node started before Pylon's files were changed here, {since:,.0f} min ago"
    else:
        return None
    return warning("code", said, f"{RESTART}; until then, calls to the node may fail.")


def judge_calls(status: Mapping[str, Any]) -> Finding | None:
    """Whether calls to the running node failed by its own fault; None if not."""
    # A node that was started with an older Pylon does not count them.
    faults = status.get("faults")
    if not faults or not faults["count"]:
        return None
    calls = "1 call" if faults["count"] == 1 else f"{faults['count']:,} calls"
    said = f"the node failed in {calls} since its start; the last: {faults['last']}"
    return warning("calls", said, f"For details, see {faults['log']}.")


def judge_service(read: ServiceReading) -> Finding:
    """Whether the machine starts the node by itself, and how that went."""
    if read.fault:
        return warning("service", read.fault, "`pylon service status` says more.")
    if not read.installed:
        if not read.install:
            # No warning: a container needs no service manager.
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
