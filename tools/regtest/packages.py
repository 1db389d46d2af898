"""The programs of `scripts/regtest`, fetched by name through apt and pip and unpacked into one folder.

Nothing is installed on the machine: packages are downloaded by a private apt (its lists, state and cache lie in the
folder too), unpacked with dpkg, and run from there. Signatures are checked by apt as always.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pylon.errors import SetupError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE = "PYLON_DEBIAN_MIRROR"
# Bitcoin Knots needs a newer C library than stable systems have. So it runs by the loader and C library of its own
# release; its other libraries are from the oldest release that is new enough, so that it runs on any newer system.
PACKAGES = (
    "bitcoin-knots/sid", "libc6/trixie", "libstdc++6/trixie", "libgcc-s1/trixie", "libevent-core-2.1-7t64/trixie",
    "libevent-extra-2.1-7t64/trixie", "libevent-pthreads-2.1-7t64/trixie", "libzmq5/bookworm",
    "libsodium23/bookworm", "libpgm-5.3-0/bookworm", "libnorm1/bookworm", "libsecp256k1-1/bookworm",
    "electrum/sid", "python3-electrum/sid",
)  # fmt: skip
SUITES = ("sid", "trixie", "bookworm")
# ElectrumX 2 needs a newer bitcoind than Knots; the last 1.20 release is published under this name.
ELECTRUMX = ("e-x==1.20.0", "aiorpcX==0.25.0")
ELECTRUM = (
    "electrum_ecc==0.0.8", "electrum_aionostr==0.1.0", "aiorpcX==0.25.0", "aiohttp>=3.11,<4", "aiohttp_socks>=0.9.2",
    "attrs", "certifi", "cryptography", "dnspython", "jsonpatch", "qrcode",
)  # fmt: skip
_LIBRARIES = {"x86_64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
              "aarch64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1")}  # fmt: skip
# The name of the file that lists the packages of an unpacked part.
STAMP = "made-from"


@dataclass(frozen=True, slots=True)
class Programs:
    """The commands of the unpacked programs."""

    folder: Path

    @property
    def _libraries(self) -> tuple[str, str]:
        return _LIBRARIES[platform.machine()]

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def libraries(self) -> Path:
        return self.root / "usr" / "lib" / self._libraries[0]

    @property
    def bitcoind(self) -> list[str]:
        """The command, by its own loader and libraries, with the system's libraries after them."""
        own, triplet = self.libraries, self._libraries[0]
        paths = f"{own}:/lib/{triplet}:/usr/lib/{triplet}"
        loader = str(own / self._libraries[1])
        return [loader, "--library-path", paths, str(self.root / "usr" / "bin" / "bitcoind")]

    @property
    def electrumx(self) -> list[str]:
        return [str(self.folder / "electrumx" / "bin" / "electrumx_server")]

    @property
    def electrum(self) -> list[str]:
        return [str(self.folder / "electrum" / "bin" / "python"), str(self.root / "usr" / "bin" / "electrum")]


def fetch(folder: Path, say: Callable[[str], None]) -> Programs:
    """Fetches the programs that are missing. Raises `SetupError` if that cannot work here."""
    programs = Programs(folder)

    def electrum() -> None:
        _environment(_python(), folder / "electrum", ELECTRUM, ELECTRUM_ECC_DONT_COMPILE="1")
        site = next((folder / "electrum" / "lib").glob("python3*/site-packages"))
        shutil.copy(programs.libraries / "libsecp256k1.so.1", site / "electrum_ecc")
        shutil.copytree(programs.root / "usr" / "lib" / "python3" / "dist-packages" / "electrum", site / "electrum")

    parts: dict[str, tuple[Sequence[str], Callable[[], None]]] = {
        "root": (PACKAGES, lambda: _unpack(folder, _mirror())),
        "electrumx": (ELECTRUMX, lambda: _environment(_python(), folder / "electrumx", ELECTRUMX)),
        "electrum": (ELECTRUM, electrum),
    }
    for name, (wanted, make) in parts.items():
        stamp = folder / name / STAMP
        if stamp.exists() and stamp.read_text(encoding="utf-8") == "\n".join(wanted):
            continue
        say(f"fetching {name}")
        shutil.rmtree(folder / name, ignore_errors=True)
        make()
        stamp.write_text("\n".join(wanted), encoding="utf-8")
    return programs


def _unpack(folder: Path, mirror: str) -> None:
    apt = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial", "state"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    lines = (f"deb [signed-by={KEYRING}] {mirror} {suite} main\n" for suite in SUITES)
    (apt / "sources.list").write_text("".join(lines), encoding="utf-8")
    settings = {
        "Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "-", "Dir::State": apt / "state",
        "Dir::State::lists": apt / "lists", "Dir::State::status": apt / "status", "Dir::Cache": apt / "cache",
    }  # fmt: skip
    config = apt / "apt.conf"
    text = "".join(f'{name} "{value}";\n' for name, value in settings.items())
    # The unprivileged user by which apt downloads cannot enter a private folder.
    config.write_text(text + f'APT::Sandbox::User "{os.environ.get("USER", "root")}";\n', encoding="utf-8")
    environment = {**os.environ, "APT_CONFIG": str(config)}
    debs = folder / "debs"
    shutil.rmtree(debs, ignore_errors=True)
    debs.mkdir()
    _run(["apt-get", "update", "-qq"], environment)
    _run(["apt-get", "download", "-qq", *PACKAGES], environment, cwd=debs)
    for package in sorted(debs.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(folder / "root")], environment)
    shutil.rmtree(debs)


def _environment(python: str, folder: Path, packages: Sequence[str], **variables: str) -> None:
    environment = {**os.environ, **variables}
    _run([python, "-m", "venv", str(folder)], environment)
    pip = [str(folder / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", "--no-input"]
    # Without a built wheel these take a compiler and minutes: fail at once instead.
    built = ["--only-binary", "plyvel,cryptography,aiohttp"]
    _run([*pip, *built, *packages], environment)


def _mirror() -> str:
    if platform.system() != "Linux" or platform.machine() not in _LIBRARIES:
        raise SetupError(
            "real Lightning on regtest comes from Debian's packages, for Linux on x86-64 and arm64",
            hint="On a Mac, run it in a Linux machine of its own: see docs/regtest.md.",
        )
    missing = [name for name in ("apt-get", "dpkg") if shutil.which(name) is None]
    if missing:
        raise SetupError(f"{' and '.join(missing)} are not here", hint="This needs Debian or Ubuntu.")
    if not KEYRING.exists():
        raise SetupError(
            "Debian's keys are not on this machine", hint="Ubuntu has them: apt-get install debian-archive-keyring"
        )
    configured = os.environ.get(MIRROR_VARIABLE) or _configured_mirror()
    if not configured:
        raise SetupError(
            "no Debian mirror is configured on this machine",
            hint=f"Name one: {MIRROR_VARIABLE}=ADDRESS scripts/regtest up",
        )
    return configured


def _configured_mirror() -> str:
    asked = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split("\n")
    found = [line.split(" ", 1)[1] for line in listed if line.startswith("Debian ")]
    return next((url for url in found if "security" not in url), "")


def _python() -> str:
    # There are wheels of the LevelDB bindings, which ElectrumX needs, for these versions only.
    homes = sorted(Path.home().glob(".pyenv/versions/3.1[12]*/bin/python"))
    for name in ("python3.12", "python3.11", "python3", *map(str, homes), sys.executable):
        found = shutil.which(name)
        check = "import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))"
        if found and subprocess.run([found, "-c", check], capture_output=True, check=False).returncode == 0:
            return found
    raise SetupError(
        "no Python 3.11 or 3.12 with its venv module found",
        hint="Debian and Ubuntu: apt-get install python3-venv; or uv python install 3.12",
    )


def _run(command: list[str], environment: dict[str, str], cwd: Path | None = None) -> None:
    ended = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines()
        raise SetupError(f"`{' '.join(command[:3])}` failed: {said[-1] if said else 'it said nothing'}")
