"""`pylon models`: what is here, what suits, which is used; and, slow, a whole fetch as a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pylon.cli import models as command
from pylon.cli.program import app
from pylon.inference.capacity import Capacity, save_capacity
from pylon.inference.models.weights import PACKAGED, weights_sha256
from pylon.node.example import example_toml
from pylon.node.home import Home
from tests.inference.hub import Hub

TINY = "mlx-community/Tiny-4bit"
NEEDLE = PACKAGED / "needle-1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(example_toml())
    monkeypatch.setenv("PYLON_HOME", str(home))
    return home


def models(*arguments: str) -> tuple[int, dict]:
    done = CliRunner().invoke(app, ["models", *arguments, "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_a_model_is_listed_used_and_removed(home: Path) -> None:
    shutil.copytree(NEEDLE, home / "models" / TINY)
    assert models("use", TINY) == (0, {"model": TINY})
    here = {entry["id"]: entry for entry in models("list")[1]["here"] if entry["engine"] == "mlx"}
    assert here[TINY]["used"] and not here["needle-1"]["used"]
    code, said = models("remove", TINY)
    assert code == 2 and TINY not in said["error"]["hint"] and "models list" in said["error"]["hint"], "it is in use"
    assert models("use", "needle-1")[0] == 0
    assert models("remove", TINY) == (0, {"removed": TINY, "bytes": here[TINY]["bytes"]})
    assert [(entry["id"], entry["engine"]) for entry in models("list")[1]["here"]] == [
        ("needle-1", "mlx"),
        ("needle-1", "llama"),
    ]
    assert not (home / "models" / "mlx-community").exists()


def test_a_gguf_model_is_listed_used_and_removed(home: Path) -> None:
    file = home / "models" / "org" / "Tiny-GGUF" / "Tiny-Q4_K_M.gguf"
    file.parent.mkdir(parents=True)
    shutil.copy(PACKAGED / "needle-1.gguf", file)
    assert models("use", "org/Tiny-GGUF")[0] == 0
    assert [(entry["id"], entry["engine"]) for entry in models("list")[1]["here"] if entry["used"]] == [
        ("org/Tiny-GGUF", "llama")
    ]
    assert models("remove", "org/Tiny-GGUF")[0] == 2, "it is in use"
    assert models("use", str(file))[0] == 0
    assert models("use", "needle-1", "--engine", "llama")[0] == 0
    assert 'engine = "llama"' in (home / "config.toml").read_text()
    assert models("remove", "org/Tiny-GGUF")[1]["bytes"] == (PACKAGED / "needle-1.gguf").stat().st_size
    assert not file.parent.parent.exists()


def test_what_came_with_pylon_is_not_removed(home: Path) -> None:
    assert models("use", "needle-1")[0] == 0
    (home / "config.toml").write_text('[inference]\nengine = "instant"\n')
    assert models("remove", "needle-1")[0] == 2
    assert (NEEDLE / "model.safetensors").exists()


@pytest.mark.parametrize("model", ["../../etc", "mlx-community/Not-Here", "/etc"])
@pytest.mark.parametrize("command", ["use", "remove"])
def test_what_is_not_here_is_neither_used_nor_removed(home: Path, command: str, model: str) -> None:
    code, said = models(command, model)
    assert code in (1, 2) and said["error"]["hint"]


def test_a_path_that_steps_back_out_of_the_models_deletes_nothing(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "weights.gguf"
    mine.parent.mkdir()
    shutil.copy(PACKAGED / "needle-1.gguf", mine)
    (home / "models").mkdir()
    assert models("remove", str(home / "models" / ".." / ".." / "mine" / "weights.gguf"))[0] == 2
    assert mine.exists()


def test_what_cannot_be_removed_since_it_is_not_here_need_not_be_fetched_first(home: Path) -> None:
    code, said = models("remove", "mlx-community/Not-Here")
    assert code == 1 and said["error"]["hint"] == "`pylon models list` shows the models here."


def test_a_recommendation_shows_its_arithmetic(home: Path, monkeypatch) -> None:
    monkeypatch.setattr(command, "has_metal", lambda: True)
    code, said = models("recommend", "--memory-gb", "16")
    assert code == 0
    best = said["choices"][0]
    assert best["fits"] and best["id"] == "mlx-community/Qwen3-8B-4bit"
    assert "8.2 G weights × 4.5 bits" in best["arithmetic"]
    assert not models("recommend", "--memory-gb", "0.5")[1]["choices"][0]["fits"]


def test_without_an_accelerator_it_is_gguf_files_for_llama_and_what_reads_least_is_named_first(
    home: Path, monkeypatch
) -> None:
    """A 14B model for MLX was recommended to a Linux machine of two cores, for its memory alone."""
    monkeypatch.setattr(command, "has_metal", lambda: False)
    small, large = "unsloth/Qwen3-0.6B-GGUF", "unsloth/Qwen3-14B-GGUF"
    code, said = models("recommend", "--memory-gb", "32")
    assert code == 0
    ids = [choice["id"] for choice in said["choices"]]
    assert ids[0] == small and large in ids and {choice["engine"] for choice in said["choices"]} == {"llama"}
    assert "0.6 G weights × 4.84 bits" in said["choices"][0]["arithmetic"]
    assert said["choices"][0]["tokens_out_per_s"] is None
    shown = CliRunner().invoke(app, ["models", "recommend", "--memory-gb", "32"]).stdout
    assert shown.endswith(f"Download it with: pylon models pull {small}\n") and "setup --llama" in shown
    assert "mlx-community" not in shown and "0.4 GB with the first of these, up to 9.0 GB" in shown
    (home / "models").mkdir()
    save_capacity(
        Home(home).capacity_file, small, Capacity(tokens_in_per_s=9, tokens_out_per_s=31, slots=2, measured_at=0)
    )
    shown = CliRunner().invoke(app, ["models", "recommend", "--memory-gb", "32"]).stdout
    assert shown.count("measured here: 31 answer tokens per second") == 1
    assert "mlx-community" not in CliRunner().invoke(app, ["models", "list"]).stdout


@pytest.mark.slow
def test_a_model_is_fetched_by_the_command_and_its_hash_is_remembered(home: Path, tmp_path: Path) -> None:
    hub = Hub(TINY, {path.name: path.read_bytes() for path in NEEDLE.iterdir()})
    # The other tests of this folder run as the inference child does, which may not fetch.
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    environment = plain | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-m", "pylon.cli.main", "models", "pull", TINY, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    hub.shutdown()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sha256"] == weights_sha256(NEEDLE)
    known = json.loads((home / "models" / "weights.json").read_text())
    assert next(iter(known.values()))["sha256"] == weights_sha256(NEEDLE)
