"""The house's laws: imports run downhill, rooms of one floor do not meet, deciders touch nothing."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pylon

PACKAGE = Path(pylon.__file__).parent
# What lies beside the package in a checkout. It may use the package, and is not installed with it.
ROOT = PACKAGE.parent
BESIDE = {"benchmarks", "scripts", "tests", "tools", "training"}
FLOORS = {
    0: {
        "config",
        "sections",
        "errors",
        "files",
        "log",
        "clock",
        "collect",
        "forever",
        "rounds",
        "unsettled",
        "event_loop",
        "loop_thread",
        "frames",
        "latest",
        "childprocess",
        "records",
        "tasks",
        "token_bucket",
        "relay_url",
        "text",
    },
    1: {"nostr", "store"},
    2: {"money", "host"},
    3: {"jobs", "inference", "relay"},
    4: {"provider", "swarm", "conformance"},
    5: {"rlm"},
    6: {"gateway"},
    7: {"node"},
    8: {"bench", "api"},
    9: {"cli"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
# The packages of a room, each of which may use those before it. What a room has outside of them may use any.
PACKAGES = {
    "inference": ["models", "schema", "batching", "mlx", "llama", "openai", "child"],
    "money": ["books", "invoices", "accounts", "payments", "nwc", "playbank"],
    "node": ["calls", "wallet", "service", "rlm", "mcp", "household", "doctor"],
    "nostr": ["crypto", "bech32", "websocket", "client"],
    "provider": ["owner", "payments", "work", "intake"],
    "swarm": ["providers", "dispatch", "spending", "checks", "runs", "wire"],
}
# Files that hold each other's values, each circle one idea in several files. No others know each other.
CIRCLES = [
    {f"swarm/dispatch/{name}.py" for name in ("constraints", "lane", "seats", "slot", "standing", "waiting")},
    {"relay/reading.py", "relay/shared.py"},
    {"bench/simulation/machine.py", "bench/simulation/world.py"},
]
# What reads sockets, clocks or disks: no file that decides may import it.
EDGES = {"asyncio", "socket", "time", "os", "pathlib", "sqlite3", "websockets", "subprocess"}
DECIDERS = [
    "provider/admission.py",
    "provider/payments/fair_queue.py",
    "provider/work/pieces.py",
    "provider/queue.py",
    "provider/refusal_budget.py",
    "provider/owner/rules.py",
    "provider/owner/rulings.py",
    "provider/owner/schedule.py",
    "provider/work/unheard.py",
    "provider/payments/waiting.py",
    "swarm/checks/allowance.py",
    "swarm/dispatch/budget.py",
    "swarm/runs/reservation.py",
    "swarm/checks/case.py",
    "swarm/checks/checks.py",
    "swarm/checks/conclusions.py",
    "swarm/spending/charge.py",
    "swarm/runs/coordinator.py",
    "swarm/providers/directory.py",
    "swarm/dispatch/dispatcher.py",
    "swarm/checks/evidence.py",
    "swarm/checks/examination.py",
    "swarm/dispatch/hedging.py",
    "swarm/dispatch/in_flight.py",
    "swarm/dispatch/lane.py",
    "swarm/wire/looks.py",
    "swarm/wire/relay_record.py",
    "swarm/dispatch/open_slots.py",
    "swarm/dispatch/outcomes.py",
    "swarm/runs/pieces.py",
    "swarm/runs/places.py",
    "swarm/checks/reputation.py",
    "swarm/checks/ruling.py",
    "swarm/checks/selection.py",
    "swarm/dispatch/seats.py",
    "swarm/dispatch/silence.py",
    "swarm/dispatch/standing.py",
    "swarm/checks/unchecked.py",
    "swarm/wire/unsent.py",
    "swarm/checks/verification.py",
    "swarm/checks/witnesses.py",
    "gateway/access.py",
    "gateway/budget.py",
    "gateway/chat.py",
    "gateway/completion.py",
    "gateway/deltas.py",
    "gateway/fields.py",
    "gateway/metrics.py",
    "inference/memory.py",
    "inference/models/catalogue.py",
    "inference/mlx/headroom.py",
    "inference/batching/prefixes.py",
    "inference/mlx/grouping.py",
    "inference/batching/reuse.py",
    "money/payments/agreed.py",
    "money/payments/decision.py",
    "money/books/ledger.py",
    "money/accounts/account.py",
    "money/accounts/gaps.py",
    "money/accounts/mirror.py",
    "nostr/copies.py",
    "money/limits.py",
    "relay/subscriptions.py",
    "relay/access.py",
    "node/hindrance.py",
    "node/doctor/examination.py",
    "node/doctor/finding.py",
    "node/doctor/machine.py",
    "node/doctor/offer.py",
    "node/doctor/relays.py",
    "node/doctor/serving.py",
    "rlm/budget.py",
    "rlm/charges.py",
    "rlm/history.py",
    "rlm/parsing.py",
    "rlm/progress.py",
    "rlm/prompts.py",
    "rlm/repl/stopwatch.py",
]
# Only what runs inside the inference child may load a model's library.
CHILD_ONLY = {"mlx", "mlx_lm", "llama_cpp"}
CHILD_FILES = {
    f"inference/{name}.py"
    for name in (
        "mlx/engine",
        "mlx/batch",
        "mlx/cpu",
        "mlx/prefix_rows",
        "mlx/model",
        "mlx/rows",
        "llama/model",
        "llama/text",
        "llama/sampling",
    )
}


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def tool_files() -> list[Path]:
    return sorted((ROOT / "tools").rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imported(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.level:
                continue  # a sibling of the same folder
            names.add(node.module)
            if node.module == "pylon":
                names.update(f"pylon.{alias.name}" for alias in node.names)
    return frozenset(names)


def rooms_imported(path: Path) -> set[str]:
    parts = (name.split(".") for name in imported(path))
    return {part[1] for part in parts if part[0] == "pylon" and len(part) > 1 and not part[1].startswith("__")}


def test_every_room_stands_on_a_floor():
    assert {room_of(path) for path in files()} <= set(FLOOR_OF)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downhill(path):
    room = room_of(path)
    for other in rooms_imported(path) - {room}:
        assert FLOOR_OF[other] < FLOOR_OF[room] or {room, other} <= FLOORS[0], f"{room} imports {other}"


def test_the_package_imports_nothing_that_lies_beside_it():
    for path in files():
        assert not {module.split(".")[0] for module in imported(path)} & BESIDE, path


@pytest.mark.parametrize("room", PACKAGES)
def test_packages_of_a_room_use_those_before_them_alone(room):
    order = PACKAGES[room]
    folders = {path.parent.name for path in (PACKAGE / room).glob("*/*.py")}
    assert folders == set(order)
    for path in (PACKAGE / room).glob("*/*.py"):
        parts = (name.split(".") for name in imported(path))
        for part in parts:
            if part[:2] == ["pylon", room] and len(part) > 2 and part[2] in order:
                package, own = part[2], path.parent.name
                assert order.index(package) <= order.index(own), f"{own}/{path.name} imports {package}"


def files_imported(path: Path) -> set[str]:
    """Also those that it imports for its types alone, or inside of a function. As paths within the checkout."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found.update(f"{name.replace('.', '/')}.py" for name in names if name.startswith(("pylon.", "tools.")))
    return found


def test_no_file_imports_one_that_imports_it_whatever_for():
    users = {str(path.relative_to(ROOT)): files_imported(path) for path in (*files(), *tool_files())}
    for circle in CIRCLES:
        for name in circle:
            users[f"pylon/{name}"] -= {f"pylon/{other}" for other in circle}
    # Raises `CycleError`, which names the files.
    TopologicalSorter(users).prepare()


@pytest.mark.parametrize("name", DECIDERS)
def test_deciders_know_no_socket_no_clock_and_no_disk(name):
    path = PACKAGE / name
    assert path.exists()
    assert not {module.split(".")[0] for module in imported(path)} & EDGES


@pytest.mark.parametrize("path", sorted((PACKAGE / "jobs").glob("*.py")), ids=lambda path: path.name)
def test_the_job_language_is_pure(path):
    assert not {module.split(".")[0] for module in imported(path)} & EDGES


def test_only_the_inference_child_loads_models():
    for path in files():
        if room_of(path) == "bench" or str(path.relative_to(PACKAGE)) in CHILD_FILES:
            continue
        assert not {module.split(".")[0] for module in imported(path)} & CHILD_ONLY, path


def test_a_public_docstring_opens_every_file():
    for path in (*files(), *tool_files()):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
