import hashlib
import os
from pathlib import Path

import pytest

from pylon.errors import ModelError
from pylon.inference.weights import PACKAGED, model_directory, weights_sha256


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
