"""Every error Pylon raises on purpose.

    PylonError
    ├── UsageError            a command was called wrongly                              exit 2
    ├── SetupError            no home, no key, a broken config file, wrong permissions  exit 3
    │   ├── HomeBusyError     another process owns this PYLON_HOME
    │   └── LinkBusyError     another home has this wallet link open
    ├── UnreachableError      no relay, no node or no provider answers                  exit 4
    ├── NodeSilentError       a process has this home, and does not answer              exit 4
    ├── JobsFailedError       some jobs of a run got no answer                          exit 5
    ├── WireError             something from the network is not what it must be         exit 1
    │   ├── MalformedError    bytes, JSON or fields that break the standard
    │   ├── SignatureError    an event's id or signature does not hold
    │   ├── DecryptionError   a payload that is not for us, or was tampered with
    │   └── TooLargeError     over a limit that is known beforehand
    ├── RelayError            a relay refused or closed something, or did not answer    exit 4
    │   ├── ConnectionLostError    it is not connected, or was lost before it answered
    │   └── NotAcknowledgedError   it neither took nor refused an event in time
    │       └── RateLimitedError   it refused an event because they come too fast
    ├── EngineError           a model did not answer                                    exit 1
    │   ├── ModelError        no such model, or its files do not load
    │   │   └── NoRoomError   it does not fit into the memory that is free now
    │   ├── PromptError       a prompt that this model cannot take
    │   ├── ParameterError    a wish that this engine cannot meet, such as a schema it cannot follow
    │   └── EngineFailedError the inference child died, stalled or sent garbage
    ├── SandboxError          the RLM's REPL cannot start or cannot go on               exit 1
    ├── MoneyError            an amount, an invoice or a wallet                         exit 1
    └── InterruptError        somebody ended the command before it was done             exit 130

The message says what happened and what it means; `hint` says what to do next. No message holds a secret, a
prompt or an answer.
"""

import errno
import os
import re


class PylonError(Exception):
    """Base of all. `hint` is one sentence that tells the reader what to do next, or empty."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            # Where nobody catches the error, as in a notebook, its traceback ends with the hint.
            self.add_note(hint)


def error_row(error: PylonError) -> dict[str, str]:
    """An error as a JSON object, for `--json` and `pylon mcp`."""
    return {"type": type(error).__name__, "message": str(error), "hint": error.hint}


def refusal(error: OSError) -> str:
    """The system's reason and the file that it concerns, in words for people."""
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"


def system_reason(error: OSError) -> str:
    """The system's reason alone. asyncio puts an address and the number of the error in place of its words."""
    numbers = [error.errno] if error.errno else [int(each) for each in re.findall(r"\[Errno (\d+)\]", str(error))]
    reasons = dict.fromkeys(os.strerror(number) for number in numbers if number > 0)
    return ", ".join(reasons) or error.strerror or str(error)


def refused(error: OSError) -> PylonError:
    """The error of the system as one that ends a command, with a hint at what to do next."""
    return PylonError(refusal(error), hint=_TODO.get(error.errno or 0, ""))


_ROOM = "Free some space on that disk and try again."
_RIGHTS = "Give your user permission, or choose another place."
_NO_FOLDER = "Choose another place: that path is a file, not a folder."
_TODO = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "Choose another place: that disk is read-only.",
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.EISDIR: "Name a file: that path is a folder.",
    errno.ENOENT: "Choose a place in an existing folder that you can write to.",
}


class UsageError(PylonError):
    exit_code = 2


class SetupError(PylonError):
    exit_code = 3


class HomeBusyError(SetupError):
    pass


class LinkBusyError(SetupError):
    pass


class UnreachableError(PylonError):
    exit_code = 4


class NodeSilentError(PylonError):
    exit_code = 4


class JobsFailedError(PylonError):
    exit_code = 5


class WireError(PylonError):
    pass


class MalformedError(WireError):
    pass


class SignatureError(WireError):
    pass


class DecryptionError(WireError):
    pass


class TooLargeError(WireError):
    pass


class RelayError(PylonError):
    """A relay refused or closed something, or did not answer.

    `may_have_arrived`: the event that was published was sent and not answered, so that a relay may have it.
    """

    exit_code = 4
    may_have_arrived = False

    def __init__(self, message: str, *, hint: str = "", may_have_arrived: bool | None = None) -> None:
        super().__init__(message, hint=hint)
        if may_have_arrived is not None:
            self.may_have_arrived = may_have_arrived


class ConnectionLostError(RelayError):
    """A relay is not connected, or the connection ended before it answered."""


class NotAcknowledgedError(RelayError):
    """A relay neither took nor refused an event in time."""

    may_have_arrived = True


class RateLimitedError(NotAcknowledgedError):
    """A relay refused an event because they come too fast (NIP-01, `rate-limited`)."""

    may_have_arrived = False


class EngineError(PylonError):
    pass


class ModelError(EngineError):
    pass


class NoRoomError(ModelError):
    pass


class PromptError(EngineError):
    pass


class ParameterError(EngineError):
    pass


class EngineFailedError(EngineError):
    pass


class SandboxError(PylonError):
    pass


class MoneyError(PylonError):
    pass


class InterruptError(PylonError):
    exit_code = 130
