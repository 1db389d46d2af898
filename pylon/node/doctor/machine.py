"""The machine and the home, judged: Python, disk, permissions, database, key. Values in, findings out."""

import shlex
from dataclasses import dataclass
from datetime import datetime

from pylon.node.doctor.finding import Finding, ok, warning, wrong

# Bytes. With less than the first a model cannot be fetched; with less than the second SQLite and the logs soon fail.
LITTLE_DISK, NO_DISK = 5 * 10**9, 200 * 10**6


@dataclass(frozen=True, slots=True)
class MachineReading:
    """`system` and `processor` are named as in `platform`. `translated`: Rosetta runs this Python. `disk_free` is in
    bytes. `read_only`: the home's disk is mounted read-only."""

    system: str
    processor: str
    translated: bool
    python: str
    disk_free: int
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class HomeReading:
    """`owner` is the user whose home it is. `open_to_others` are paths in it that other users may read, and `foreign`
    paths that belong to other users. `reader` is the user who runs the check, and `root` tells whether that is root.

    `fault` and `hint` are those of the error in loading the key. `locked`: it needs a passphrase that was not given.
    `same_machine` tells whether the key was made on this machine, None if that is unknown; it comes from the file
    `mark` in `folder`, beside the key.
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
    """A database that no node has open. `size` is in bytes, 0 if there is none yet.

    `whole` is False if there was no time to check all of it. `copied_at` (Unix seconds) is set for a backup's copy
    with which no node has started yet. `fault` and `hint` say why no node can start with the database.
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
                "Install an arm64 Python (`brew install python@3.13` in /opt/homebrew), delete "
                ".venv, and set up again.",
                no_jobs=True,
            )
        return wrong(
            "python",
            f"{said}: MLX needs Apple Silicon",
            'Set `engine = "llama"` or `"openai"` in [inference].',
            no_jobs=True,
        )
    return ok("python", said)


def judge_disk(read: MachineReading) -> Finding:
    """Whether the disk has room for database, logs and models."""
    if read.read_only:
        # First, because free space would not help.
        return wrong(
            "disk",
            "the disk of the home is mounted read-only",
            "Mount it for writing. Systems mount a disk read-only when it has errors, so check "
            "the system log and the disk.",
            no_jobs=True,
        )
    said = f"{read.disk_free / 1e9:.1f} GB free on the home's disk"
    if read.disk_free < NO_DISK:
        return wrong("disk", said, "Free some space: a node that cannot write takes no jobs.", no_jobs=True)
    if read.disk_free < LITTLE_DISK:
        return warning("disk", said, "Free some space before `pylon models pull`.")
    return ok("disk", said)


def judge_database(read: DatabaseReading) -> Finding:
    """Whether a node can start with this database."""
    if read.fault:
        return wrong("database", read.fault, read.hint, no_jobs=True)
    if not read.size:
        return ok("database", "none yet; the first start creates it")
    said = (
        f"{read.size / 1e6:,.1f} MB, no damage"
        if read.whole
        else (f"{read.size / 1e6:,.1f} MB; no damage in the part that there was time to check")
    )
    if read.copied_at is None:
        return ok("database", said)
    made = datetime.fromtimestamp(read.copied_at).astimezone().strftime("%Y-%m-%d %H:%M")
    return warning(
        "database",
        f"{said}; restored from a backup of {made}, and no node has started with it yet",
        "It lacks everything earned, paid and spent since. docs/backup.md explains what a start does about that.",
    )


def judge_permissions(read: HomeReading) -> Finding:
    """Whether other users can read the owner's files, or own some of them."""
    if read.foreign:
        return wrong(
            "home",
            f"{read.path} belongs to {read.owner}, but some files in it belong to others: {', '.join(read.foreign)}",
            "If Pylon once ran as root, restore the owner: "
            f"{'' if read.root else 'sudo '}{shlex.join(('chown', '-R', read.owner, read.path))}",
            no_jobs=True,
        )
    if read.owner != read.reader:
        return _of_another(read)
    if read.open_to_others:
        return wrong(
            "home",
            f"other users can read {', '.join(read.open_to_others)}",
            shlex.join(("chmod", "go-rwx", *read.open_to_others)),
        )
    return ok("home", f"{read.path}, private to its owner")


def _of_another(read: HomeReading) -> Finding:
    if read.root:
        again = shlex.join(("sudo", "-u", read.owner, "env", f"PYLON_HOME={read.path}", "pylon", "doctor"))
        return warning(
            "home", f"{read.path} belongs to {read.owner}, and only that user can run its node; you are root", again
        )
    todo = "Set PYLON_HOME to a folder of your own."
    return wrong("home", f"{read.path} belongs to {read.owner}, and you are {read.reader}", todo, no_jobs=True)


def judge_key(read: HomeReading, *, running: bool) -> Finding:
    """Whether the node has a key, and can open it."""
    if read.locked:
        return warning(
            "key",
            f"protected by a passphrase, {'and open in the running node' if running else 'which every start needs'}",
            "Set PYLON_PASSPHRASE to have the key checked. A service cannot start with such a key.",
        )
    if read.fault:
        return wrong("key", read.fault, read.hint, no_jobs=True)
    return ok("key", "readable")


def judge_binding(read: HomeReading) -> Finding | None:
    """Whether the home was copied from another machine: two with one key answer each other's jobs. None if
    unknown."""
    if read.same_machine is None:
        return None
    if read.same_machine:
        return ok("machine", "the one that this key was made on")
    stays, anew = shlex.join(("rm", read.mark)), shlex.join(("mv", read.folder, f"{read.folder}.copied"))
    return warning(
        "machine",
        "this key was made on another machine; if both machines serve with it, they spoil each other's jobs",
        f"If you moved this home for good, run `{stays}`, then `pylon init`. If you copied it, "
        f"make a new key: `{anew}`, then `pylon init`.",
    )
