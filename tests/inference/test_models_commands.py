"""`pylon models`, as its own process, before a hub on loopback that serves the packaged model under another name."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylon.inference.weights import PACKAGED, weights_sha256
from tests.inference.hub import Hub

TINY = "mlx-community/Tiny-4bit"
NEEDLE = PACKAGED / "needle-1"


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in NEEDLE.iterdir()}
    made = Hub(TINY, files | {"modeling.py": b"print('never fetched')", "original/model.safetensors": b"other"})
    yield made
    made.shutdown()
    made.server_close()


Models = Callable[..., tuple[int, dict, str]]


@pytest.fixture
def models(hub: Hub, tmp_path: Path) -> Models:
    """Runs `pylon models …`: its exit code, its JSON, its standard error."""
    home = tmp_path / "home"
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    plain = {"PYLON_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}

    def run(*arguments: str, command: str = "models", **environment: str) -> tuple[int, dict, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pylon.cli.main", command, *arguments, "--json"],
            env=kept | plain | environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr

    return run


def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "models" / TINY


def test_a_model_is_fetched_used_listed_and_removed(models: Models, hub: Hub, tmp_path: Path) -> None:
    assert models("init", command="init")[0] in (0, 2)
    code, pulled, errors = models("pull", TINY)
    assert code == 0, errors
    assert pulled["sha256"] == weights_sha256(NEEDLE)
    there = {path.name for path in folder(tmp_path).iterdir()}
    assert there == {path.name for path in NEEDLE.iterdir()}, "no code, nothing of other folders"
    known = json.loads((tmp_path / "home" / "models" / "weights.json").read_text())
    assert next(iter(known.values()))["sha256"] == pulled["sha256"]
    assert models("use", TINY)[0] == 0
    assert f'model = "{TINY}"' in (tmp_path / "home" / "config.toml").read_text()
    here = {entry["id"]: entry for entry in models("list")[1]["here"]}
    assert here[TINY]["used"] and here["needle-1"]["packaged"]
    assert models("remove", TINY)[0] == 2, "it is in use"
    assert models("use", "needle-1")[0] == 0
    assert models("remove", TINY)[0] == 0
    assert not folder(tmp_path).parent.exists()


def test_a_download_that_broke_off_goes_on_where_it_was(models: Models, hub: Hub, tmp_path: Path) -> None:
    hub.break_after = 3_000_000
    code, said, _ = models("pull", TINY)
    assert code == 4, said
    assert "broke off" in said["error"]["message"]
    assert not folder(tmp_path).exists(), "a model appears when it is whole"
    hub.break_after = None
    hub.asked.clear()
    assert models("pull", TINY)[0] == 0
    assert any(wanted for name, wanted in hub.asked if name == "model.safetensors")
    assert weights_sha256(folder(tmp_path)) == weights_sha256(NEEDLE)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_arrives_damaged_is_not_kept(models: Models, hub: Hub, tmp_path: Path, name: str) -> None:
    hub.damaged = {name}
    code, said, _ = models("pull", TINY)
    assert code == 1
    assert "damaged" in said["error"]["message"]
    assert not folder(tmp_path).exists()
    hub.damaged = set()
    assert models("pull", TINY)[0] == 0


def test_what_does_not_fit_on_the_disk_is_not_begun(models: Models, hub: Hub) -> None:
    hub.sizes["model.safetensors"] = 10**18
    code, said, _ = models("pull", TINY)
    assert code == 1
    assert "are free on this disk" in said["error"]["message"]
    assert not hub.asked


def test_offline_is_said_plainly(models: Models) -> None:
    for environment in ({"HF_ENDPOINT": "http://127.0.0.1:1"}, {"HF_HUB_OFFLINE": "1"}):
        code, said, _ = models("pull", TINY, **environment)
        assert code == 4
        assert "offline" in said["error"]["message"]


def test_what_is_no_model_is_refused(models: Models, hub: Hub) -> None:
    assert models("pull", "mlx-community/Nothing")[0] == 1
    assert models("pull", "../../etc")[0] == 2
    assert models("use", TINY)[0] in (1, 3)
    del hub.files["model.safetensors"]
    code, said, _ = models("pull", TINY)
    assert (code, "no MLX model" in said["error"]["message"]) == (1, True)
