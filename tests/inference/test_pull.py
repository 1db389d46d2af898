"""Fetching a model from a hub on loopback that serves the packaged one under another name."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from pylon.errors import ModelError, UnreachableError
from pylon.inference.models.pull import chosen_gguf, pull
from pylon.inference.models.weights import PACKAGED, weights_sha256
from tests.inference.hub import LATER, Hub

TINY = "mlx-community/Tiny-4bit"
NEEDLE = PACKAGED / "needle-1"


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    # The other tests of this folder run as the inference child does, which may not fetch.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    # It writes ten megabytes at a time, more than the packaged model has.
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 65_536)
    files = {path.name: path.read_bytes() for path in NEEDLE.iterdir()}
    made = Hub(TINY, files | {"modeling.py": b"print('never fetched')", "original/model.safetensors": b"other"})
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "models" / TINY


def fetch(hub: Hub, directory: Path, model: str = TINY) -> list[str]:
    said: list[str] = []
    pull(model, directory, lambda name, size: said.append(name), hub=hub.url)
    return said


def test_weights_settings_and_tokenizer_are_fetched_and_neither_code_nor_other_folders(hub, directory) -> None:
    said = fetch(hub, directory)
    assert {path.name for path in directory.iterdir()} == {path.name for path in NEEDLE.iterdir()} == set(said)
    assert weights_sha256(directory) == weights_sha256(NEEDLE)


def test_a_download_that_broke_off_goes_on_where_it_was(hub: Hub, directory: Path) -> None:
    hub.break_after = 3_000_000
    with pytest.raises(UnreachableError, match="broke off"):
        fetch(hub, directory)
    assert not directory.exists(), "a model appears when it is whole"
    hub.break_after, hub.gone = None, False
    hub.asked.clear()
    fetch(hub, directory)
    assert any(wanted for name, wanted in hub.asked if name == "model.safetensors")
    assert weights_sha256(directory) == weights_sha256(NEEDLE)


def test_what_is_there_of_another_commit_is_not_mixed_in(hub: Hub, directory: Path) -> None:
    hub.break_after = 3_000_000
    with pytest.raises(UnreachableError):
        fetch(hub, directory)
    hub.break_after, hub.gone, hub.commit = None, False, LATER
    hub.files = {name: data[:-1] + b" " if name.endswith(".json") else data for name, data in hub.files.items()}
    hub.asked.clear()
    fetch(hub, directory)
    assert all(wanted is None for _, wanted in hub.asked)
    assert (directory / "config.json").read_bytes() == hub.files["config.json"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_arrives_damaged_is_not_kept(hub: Hub, directory: Path, name: str) -> None:
    hub.damaged = {name}
    with pytest.raises(ModelError, match="damaged"):
        fetch(hub, directory)
    assert not directory.exists()
    hub.damaged = set()
    fetch(hub, directory)
    assert (directory / name).read_bytes() == (NEEDLE / name).read_bytes()


def test_what_does_not_fit_on_the_disk_is_not_begun(hub: Hub, directory: Path) -> None:
    hub.sizes["model.safetensors"] = 10**18
    with pytest.raises(ModelError, match="free on this disk"):
        fetch(hub, directory)
    assert not hub.asked


def test_a_hub_that_does_not_answer_and_one_that_must_not_be_asked_are_offline(
    hub: Hub, directory: Path, monkeypatch
) -> None:
    with pytest.raises(UnreachableError, match="offline"):
        pull(TINY, directory, lambda *_: None, hub="http://127.0.0.1:1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match="offline"):
        fetch(hub, directory)


@pytest.mark.parametrize("closed", ["/api/models/", "/model.safetensors"])
def test_a_model_that_takes_a_licence_says_what_to_do_and_that_is_enough(hub, directory, monkeypatch, closed) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    hub.token, hub.closed = "hf_test", closed
    with pytest.raises(ModelError, match="status 401") as caught:
        fetch(hub, directory)
    assert "licence" in caught.value.hint and "HF_TOKEN" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    fetch(hub, directory)
    assert weights_sha256(directory) == weights_sha256(NEEDLE)


def test_a_file_that_is_gone_from_the_hub_meanwhile_says_what_to_do(hub, directory, monkeypatch) -> None:
    known = hub.info()
    monkeypatch.setattr(hub, "info", lambda: known)
    del hub.files["config.json"]
    with pytest.raises(ModelError, match=r"config.json .*status 404") as caught:
        fetch(hub, directory)
    assert "run the command again" in caught.value.hint


def test_what_is_not_there_and_what_is_no_mlx_model_are_told_apart(hub: Hub, directory: Path) -> None:
    with pytest.raises(ModelError, match=r"^there is no model"):
        fetch(hub, directory, "mlx-community/Nothing")
    del hub.files["model.safetensors"]
    with pytest.raises(ModelError, match="no model for an engine here"):
        fetch(hub, directory)


def test_of_a_repository_of_gguf_files_one_is_fetched(hub: Hub, directory: Path) -> None:
    hub.files = {f"Tiny-{kind}.gguf": kind.encode() * 9 for kind in ("Q2_K", "Q4_K_M", "Q8_0")} | {"README.md": b""}
    fetch(hub, directory)
    assert [path.name for path in directory.iterdir()] == ["Tiny-Q4_K_M.gguf"]
    pull(TINY, directory, lambda *_: None, hub=hub.url, gguf="q8")
    assert [path.name for path in directory.iterdir()] == ["Tiny-Q8_0.gguf"]


def test_a_gguf_file_is_chosen_by_its_name_and_comes_with_all_its_parts() -> None:
    parts = ["A-Q4_K_M-00001-of-00002.gguf", "A-Q4_K_M-00002-of-00002.gguf"]
    assert chosen_gguf("a", [*parts, "A-Q8_0.gguf"], None) == parts
    assert chosen_gguf("a", ["only.gguf"], None) == ["only.gguf"]
    for names, wish in ((["A-Q8_0.gguf", "A-Q6_K.gguf"], None), ([*parts, "A-Q8_0.gguf"], "Q"), ([], None)):
        with pytest.raises(ModelError) as caught:
            chosen_gguf("a", names, wish)
        assert caught.value.hint
