"""The house's laws: imports run downhill, rooms of one floor do not meet, deciders touch nothing."""

import ast
from functools import cache
from pathlib import Path

import pytest

import pylon

PACKAGE = Path(pylon.__file__).parent
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
        "loop_thread",
        "frames",
        "childprocess",
        "records",
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
# What reads sockets, clocks or disks: no file that decides may import it.
EDGES = {"asyncio", "socket", "time", "os", "pathlib", "sqlite3", "websockets", "subprocess"}
DECIDERS = [
    "provider/admission.py",
    "provider/newcomers.py",
    "provider/pieces.py",
    "provider/queue.py",
    "provider/refusals.py",
    "provider/rules.py",
    "provider/rulings.py",
    "provider/schedule.py",
    "provider/unheard.py",
    "provider/waiting.py",
    "swarm/allowance.py",
    "swarm/budget.py",
    "swarm/reservation.py",
    "swarm/case.py",
    "swarm/checks.py",
    "swarm/conclusions.py",
    "swarm/coordinator.py",
    "swarm/directory.py",
    "swarm/dispatch.py",
    "swarm/evidence.py",
    "swarm/examination.py",
    "swarm/hedging.py",
    "swarm/in_flight.py",
    "swarm/lane.py",
    "swarm/looks.py",
    "swarm/open_slots.py",
    "swarm/outcomes.py",
    "swarm/pieces.py",
    "swarm/places.py",
    "swarm/reputation.py",
    "swarm/ruling.py",
    "swarm/selection.py",
    "swarm/silence.py",
    "swarm/standing.py",
    "swarm/unchecked.py",
    "swarm/unsent.py",
    "swarm/verification.py",
    "swarm/witnesses.py",
    "gateway/budget.py",
    "gateway/chat.py",
    "gateway/completion.py",
    "gateway/deltas.py",
    "gateway/doors.py",
    "gateway/fields.py",
    "gateway/metrics.py",
    "inference/memory.py",
    "inference/catalogue.py",
    "inference/headroom.py",
    "inference/prefixes.py",
    "inference/batching.py",
    "inference/reuse.py",
    "money/agreed.py",
    "money/decision.py",
    "money/ledger.py",
    "money/account.py",
    "money/limits.py",
    "relay/subscriptions.py",
    "relay/access.py",
    "node/doctor/finding.py",
    "node/doctor/machine.py",
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
        "mlx",
        "mlx_batch",
        "mlx_cpu",
        "mlx_heads",
        "mlx_model",
        "rows",
        "llama_model",
        "llama_text",
        "llama_sampling",
    )
}


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


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
    for path in files():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
