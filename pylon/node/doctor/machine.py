"""The machine and the home, judged: Python, disk, permissions, database, key. Values in, findings out."""

import shlex
from dataclasses import dataclass
from datetime import datetime

from pylon.node.doctor.finding import Finding, ok, warning, wrong

# Below the first a model cannot be fetched, below the second SQLite and the logs are next.
LITTLE_DISK, NO_DISK = 5 * 10**9, 200 * 10**6


@dataclass(frozen=True, slots=True)
class MachineReading:
    """`system` and `processor` as `platform` names them; `translated`: Rosetta runs this Python. Disk in bytes;
    `read_only`: it is mounted so."""

    system: str
    processor: str
    translated: bool
    python: str
    disk_free: int
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class HomeReading:
    """`open_to_others` are paths that more than their owner may read; `owner` is whose the home is, and `foreign` are
    paths in it that are another's. `reader` is who looks, `root` whether that is root.

    `fault` and `hint` are what loading the key raised; `locked`: it needs a passphrase that was not given.
    `same_machine` is None where that cannot be told. `folder` holds the key and `mark`, the file that tells it.
    """

    path: str
    open_to_others: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    locked: bool = False
    fault: str = ""
    hint: str = ""
    same_machine: bool | None = None
    folder: str = ""
    mark: str = ""
    owner: str = ""
    reader: str = ""
    root: bool = False


@dataclass(frozen=True, slots=True)
class DatabaseReading:
    """What is in the database that no node has open: its size in bytes, 0 where there is none yet.

    `whole` is False where the time for looking was not enough. `copied_at` (Unix seconds): no node has begun with
    this copy. `fault` and `hint` say why none can.
    """

    path: str
    size: int = 0
    whole: bool = True
    copied_at: float | None = None
    fault: str = ""
    hint: str = ""


def judge_python(read: MachineReading, engine: str) -> Finding:
    """Whether this Python can run the engine."""
    said = f"Python {read.python} for {read.processor}"
    if read.system == "Darwin" and read.processor != "arm64" and engine == "mlx":
        if read.translated:
            return wrong(
                "python",
                f"{said}, run by Rosetta on Apple Silicon, where MLX cannot work",
                "Take a Python for arm64 (`brew install python@3.13` in /opt/homebrew), delete .venv, set up again.",
                no_jobs=True,
            )
        return wrong(
            "python",
            f"{said}: MLX needs Apple Silicon",
            'Use `engine = "llama"` or `"openai"` in [inference].',
            no_jobs=True,
        )
    return ok("python", said)


def judge_disk(read: MachineReading) -> Finding:
    """Whether there is room for books, logs and models."""
    if read.read_only:
        # Room would change nothing.
        return wrong(
            "disk",
            "the disk of the home is mounted read-only",
            "Have it mounted for writing. A system does that to a disk with errors: see its log, and check the disk.",
            no_jobs=True,
        )
    said = f"{read.disk_free / 1e9:.1f} GB free where the home is"
    if read.disk_free < NO_DISK:
        return wrong("disk", said, "Make room: a node that cannot write takes no jobs.", no_jobs=True)
    if read.disk_free < LITTLE_DISK:
        return warning("disk", said, "Make room before `pylon models pull`.")
    return ok("disk", said)


def judge_database(read: DatabaseReading) -> Finding:
    """Whether a node can begin with the books that are here."""
    if read.fault:
        return wrong("database", read.fault, read.hint, no_jobs=True)
    if not read.size:
        return ok("database", "none yet: the first start makes it")
    said = (
        f"{read.size / 1e6:,.1f} MB, no damage"
        if read.whole
        else (f"{read.size / 1e6:,.1f} MB; no damage in what there was time to read")
    )
    if read.copied_at is None:
        return ok("database", said)
    made = datetime.fromtimestamp(read.copied_at).astimezone().strftime("%Y-%m-%d %H:%M")
    return warning(
        "database",
        f"{said}; a backup of {made}, which no node has begun with",
        "What was earned, paid and spent since is not in it: docs/backup.md says what a start does about it.",
    )


def judge_permissions(read: HomeReading) -> Finding:
    """Whether others can read or take over what is the owner's."""
    if read.foreign:
        return wrong(
            "home",
            f"it is {read.owner}'s, and what is in it another's: {', '.join(read.foreign)}",
            f"Was Pylon once run by root? Give it back: {'' if read.root else 'sudo '}"
            f"{shlex.join(('chown', '-R', read.owner, read.path))}",
            no_jobs=True,
        )
    if read.owner != read.reader:
        return _of_another(read)
    if read.open_to_others:
        return wrong(
            "home",
            f"others may look into {', '.join(read.open_to_others)}",
            shlex.join(("chmod", "go-rwx", *read.open_to_others)),
        )
    return ok("home", f"{read.path}, its owner's alone")


def _of_another(read: HomeReading) -> Finding:
    if read.root:
        again = shlex.join(("sudo", "-u", read.owner, "env", f"PYLON_HOME={read.path}", "pylon", "doctor"))
        return warning("home", f"{read.path} is {read.owner}'s, who alone can run its node: you are root", again)
    todo = "Set PYLON_HOME to a folder of your own."
    return wrong("home", f"{read.path} is {read.owner}'s, and you are {read.reader}", todo, no_jobs=True)


def judge_key(read: HomeReading, *, running: bool) -> Finding:
    """Whether the node has a key, and can open it."""
    if read.locked:
        return warning(
            "key",
            f"under a passphrase, {'open in the node that runs' if running else 'which every start needs'}",
            "Set PYLON_PASSPHRASE to have it looked at; a service cannot start with it.",
        )
    if read.fault:
        return wrong("key", read.fault, read.hint, no_jobs=True)
    return ok("key", "can be read")


def judge_binding(read: HomeReading) -> Finding | None:
    """Whether the home was copied from another machine: two that serve under one key answer each other's jobs."""
    if read.same_machine is None:
        return None
    if read.same_machine:
        return ok("machine", "the one that this key was made on")
    stays, anew = shlex.join(("rm", read.mark)), shlex.join(("mv", read.folder, f"{read.folder}.copied"))
    return warning(
        "machine",
        "this key was made on another machine; if both serve, they are one node and spoil each other's jobs",
        f"Moved for good? `{stays}`, then `pylon init`. Copied? Begin anew here: `{anew}`, then `pylon init`.",
    )
