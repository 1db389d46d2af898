import hashlib
import os
from pathlib import Path

import pytest

from pylon.errors import ModelError
from pylon.inference.models.weights import PACKAGED, gguf_file, model_directory, model_name, weights_sha256


def model(directory: Path, **files: bytes) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text("{}")
    for name, data in files.items():
        (directory / f"{name}.safetensors").write_bytes(data)
    return directory


def test_the_packaged_model_is_found_without_any_home(tmp_path: Path) -> None:
    assert model_directory("needle-1", tmp_path) == PACKAGED / "needle-1"


def test_other_models_lie_under_the_homes_models(tmp_path: Path) -> None:
    directory = model(tmp_path / "some-org" / "A-4bit", model=b"1")
    assert model_directory("some-org/A-4bit", tmp_path) == directory


def test_a_missing_model_names_where_its_files_belong(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        model_directory("absent", tmp_path)
    assert str(tmp_path / "absent") in caught.value.hint


@pytest.mark.parametrize("name", ["../x", "/etc", "a/../b", "", ".hidden", "a/.b", "a/b/c", "a b"])
def test_an_id_cannot_lead_out_of_the_models(tmp_path: Path, name: str) -> None:
    model(tmp_path / "x", model=b"1")
    with pytest.raises(ModelError):
        model_directory(name, tmp_path / "models")


def test_a_folder_without_weights_is_no_model(tmp_path: Path) -> None:
    model(tmp_path / "empty")
    with pytest.raises(ModelError):
        model_directory("empty", tmp_path)


def test_the_hash_is_that_of_the_files_one_after_the_other(tmp_path: Path) -> None:
    directory = model(tmp_path / "m", b=b"second", a=b"first")
    assert weights_sha256(directory) == hashlib.sha256(b"firstsecond").hexdigest()


def test_the_remembered_hash_is_used_until_a_file_changes(tmp_path: Path) -> None:
    directory = model(tmp_path / "m", a=b"one")
    cache = tmp_path / "hashes.json"
    file = directory / "a.safetensors"
    first = weights_sha256(directory, cache)
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(b"two")
    os.utime(file, ns=times)
    assert weights_sha256(directory, cache) == first, "size and time are the same: not read again"
    os.utime(file, ns=(times[0], times[1] + 1))
    assert weights_sha256(directory, cache) == hashlib.sha256(b"two").hexdigest()


@pytest.mark.parametrize("junk", [b"", b"[]", b"{", b'{"x": 3}'])
def test_a_broken_cache_is_made_anew(tmp_path: Path, junk: bytes) -> None:
    directory = model(tmp_path / "m", a=b"one")
    cache = tmp_path / "hashes.json"
    cache.write_bytes(junk)
    assert weights_sha256(directory, cache) == hashlib.sha256(b"one").hexdigest()
    assert weights_sha256(directory, cache) == hashlib.sha256(b"one").hexdigest()


def test_the_packaged_gguf_is_found_without_any_home(tmp_path: Path) -> None:
    assert gguf_file("needle-1", tmp_path) == PACKAGED / "needle-1.gguf"


def test_a_gguf_may_lie_by_itself_in_a_repositorys_folder_or_anywhere(tmp_path: Path) -> None:
    (tmp_path / "org" / "A-GGUF").mkdir(parents=True)
    alone, fetched = tmp_path / "mine.gguf", tmp_path / "org" / "A-GGUF" / "A-Q4_K_M.gguf"
    alone.write_bytes(b"1")
    fetched.write_bytes(b"2")
    assert gguf_file("mine", tmp_path) == alone
    assert gguf_file("org/A-GGUF", tmp_path) == fetched
    assert gguf_file(str(fetched), tmp_path / "elsewhere") == fetched
    assert model_name(str(fetched)) == "A-Q4_K_M"
    assert model_name("org/A-GGUF") == "org/A-GGUF"
    fetched.with_name("A-Q8_0.gguf").write_bytes(b"3")
    with pytest.raises(ModelError, match="there are 2"):
        gguf_file("org/A-GGUF", tmp_path)


@pytest.mark.parametrize("name", ["../x.gguf", "a/../b.gguf", "../x", "absent", "/absent.gguf", ""])
def test_what_is_no_gguf_is_a_model_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.gguf").write_bytes(b"1")
    with pytest.raises(ModelError):
        gguf_file(name, tmp_path / "models")


def test_a_gguf_in_parts_is_one_model_and_hashed_as_one(tmp_path: Path) -> None:
    (tmp_path / "org" / "B").mkdir(parents=True)
    parts = [tmp_path / "org" / "B" / f"B-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, part in enumerate(parts):
        part.write_bytes(b"part" + bytes([number]))
    assert gguf_file("org/B", tmp_path) == parts[0]
    assert weights_sha256(parts[0]) == hashlib.sha256(b"part\0part\1").hexdigest()
    assert model_name(str(parts[0])) == "B"
