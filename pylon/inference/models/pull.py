"""Downloads a model by huggingface_hub: checks the free space first, reports progress, resumes, verifies each file.

Only what a model needs is taken: weights, settings, tokenizer and template, or one GGUF file, which holds all of
them. No code of a repository is fetched.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.file_download import http_get
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils.tqdm import disable_progress_bars

from pylon.errors import ModelError, UnreachableError
from pylon.inference.models.weights import GGUF, model_name

_WANTED = (".safetensors", ".json", ".jinja", ".model", ".txt")
# The GGUF file to take of a repository's many: about 4.8 bits a weight, the usual compromise.
DEFAULT_GGUF = "Q4_K_M"
_GIT_BLOB_CHUNK = 1024 * 1024
# Bytes to leave free on the disk.
SPARE_BYTES = 2 * 10**9

_PART, _COMMIT = ".part", ".commit"
_CLOSED = frozenset({401, 403})
_REFUSED = _CLOSED | {404}
_ACCEPT = "Accept its licence on its page at the hub, and set HF_TOKEN to a token that may read it."
# What it is at: the file, and how many bytes the whole model has.
type Report = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository. `sha256` is known for large files, for others `blob`: git's SHA-1 of the content."""

    name: str
    size: int
    sha256: str | None
    blob: str | None


def remote_files(model: str, revision: str | None, hub: str | None, gguf: str | None) -> tuple[str, list[RemoteFile]]:
    """The commit and the files to fetch. Raises UnreachableError offline, ModelError if it is no model.

    Of a repository of GGUF files it is the one whose name holds `gguf`, or Q4_K_M.
    """
    try:
        info = HfApi(endpoint=hub).model_info(model, revision=revision, files_metadata=True)
    except OfflineModeIsEnabled:
        raise _offline() from None
    except (HFValidationError, HfHubHTTPError) as error:
        status = _status(error)
        if status in _CLOSED:
            # Without a token, a hub says the same of a model that does not exist.
            raise ModelError(
                f"the hub does not show {model} (status {status}): it is private, takes a licence, or there is"
                " none of that name",
                hint=f"Is the name right? Then: {_ACCEPT}",
            ) from None
        raise ModelError(
            f"there is no model {model} to fetch{f' (status {status})' if status else ''}",
            hint="`pylon models list` shows good ones; a name looks like mlx-community/Qwen3-4B-4bit.",
        ) from None
    except Exception:  # a lost connection is an error of whatever library the hub's client speaks HTTP with
        raise _offline() from None
    commit, siblings = str(info.sha or "main"), info.siblings or []
    files = [_remote(entry) for entry in siblings if _wanted(entry.rfilename)]
    if gguf is None and any(file.name.endswith(".safetensors") for file in files):
        return commit, files
    names = [entry.rfilename for entry in siblings if entry.rfilename.endswith(GGUF) and _is_plain(entry.rfilename)]
    chosen = chosen_gguf(model, names, gguf)
    return commit, [_remote(entry) for entry in siblings if entry.rfilename in chosen]


def chosen_gguf(model: str, names: Sequence[str], wish: str | None) -> list[str]:
    """One of a repository's GGUF files, or all parts of one. Raises ModelError."""
    if not names:
        raise ModelError(
            f"{model} holds neither safetensors nor GGUF files, so it is no model for an engine here",
            hint="Names of MLX models often end in -4bit, those of GGUF models in -GGUF.",
        )
    fitting = list(names)
    if wish or len(names) > 1:
        fitting = [name for name in names if (wish or DEFAULT_GGUF).lower() in name.lower()]
    models = {model_name(name) for name in fitting}
    if len(models) != 1:
        there = ", ".join(sorted({model_name(name) for name in names}))
        raise ModelError(
            f"{len(models) or 'none'} of the GGUF files of {model} have {wish or DEFAULT_GGUF} in their names",
            hint=f"Choose one with --file; there are: {there[:500]}.",
        )
    return fitting


def pull(
    model: str,
    directory: Path,
    report: Report,
    *,
    revision: str | None = None,
    hub: str | None = None,
    gguf: str | None = None,
) -> int:
    """Downloads a model into `directory`, which appears only when it is complete; returns its bytes.

    `hub` is the address to fetch from; None leaves it to HF_ENDPOINT. `gguf` is part of the name of the GGUF file
    that is wanted. Raises UnreachableError, ModelError.
    """
    commit, files = remote_files(model, revision, hub, gguf)
    partial = _partial(directory, commit)
    size = sum(file.size for file in files)
    check_space(partial, size - sum(_there(partial, file) for file in files), model)
    disable_progress_bars()  # the caller shows its own
    for file in files:
        report(file.name, size)
        _fetch(model, commit, file, partial, hub)
    (partial / _COMMIT).unlink()
    if directory.exists():
        shutil.rmtree(directory)
    partial.rename(directory)
    return size


def _partial(directory: Path, commit: str) -> Path:
    """The folder of an incomplete download: empty, or with files of the same commit."""
    partial = directory.with_name(directory.name + ".partial")
    mark = partial / _COMMIT
    if partial.exists() and not (mark.is_file() and mark.read_text() == commit):
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark.write_text(commit)
    return partial


def check_space(folder: Path, missing: int, model: str) -> None:
    """Raises ModelError when `missing` bytes do not fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if missing + SPARE_BYTES > free:
        raise ModelError(
            f"{model} needs {missing / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free on this disk",
            hint="`pylon models remove` frees space.",
        )


def _fetch(model: str, commit: str, file: RemoteFile, folder: Path, hub: str | None) -> None:
    path, part = folder / file.name, folder / (file.name + _PART)
    if path.exists():
        return  # a file gets this name only when it is complete
    url = hf_hub_url(model, file.name, revision=commit, endpoint=hub)
    try:
        # The library would begin a file anew in each process; this resumes within it.
        with part.open("ab") as stream:
            http_get(url, stream, resume_size=stream.tell(), headers=build_hf_headers(), expected_size=file.size)
    except Exception as error:
        if (status := _status(error)) in _REFUSED:
            hint = _ACCEPT if status in _CLOSED else "It was changed meanwhile, or taken away: run the command again."
            raise ModelError(f"{file.name} of {model} may not be fetched (status {status})", hint=hint) from None
        raise UnreachableError(
            f"the download of {model} broke off at {file.name}", hint="Run the command again: it goes on from there."
        ) from None
    if not _holds(part, file):
        part.unlink()
        raise ModelError(
            f"{file.name} of {model} arrived damaged: its checksum differs", hint="Run the command again."
        )
    part.rename(path)


def _holds(path: Path, file: RemoteFile) -> bool:
    if path.stat().st_size != file.size:
        return False
    # For small files the hub tells only git's SHA-1 of the blob.
    digest: Any = hashlib.sha256() if file.sha256 else hashlib.sha1(f"blob {file.size}\0".encode())  # noqa: S324
    with path.open("rb") as stream:
        while chunk := stream.read(_GIT_BLOB_CHUNK):
            digest.update(chunk)
    wanted = file.sha256 or file.blob
    return wanted is None or digest.hexdigest() == wanted


def _remote(entry: Any) -> RemoteFile:
    large = getattr(entry, "lfs", None)
    return RemoteFile(entry.rfilename, int(entry.size or 0), large.sha256 if large else None, entry.blob_id)


def _wanted(name: str) -> bool:
    return _is_plain(name) and name.endswith(_WANTED)


def _is_plain(name: str) -> bool:
    # Not from subfolders, which hold other formats; and a name from the network must not lead out of our folder.
    return len(PurePosixPath(name).parts) == 1 and not name.startswith(".")


def _status(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _there(folder: Path, file: RemoteFile) -> int:
    """The bytes of a file that are here already."""
    sizes = [path.stat().st_size for path in (folder / file.name, folder / (file.name + _PART)) if path.is_file()]
    return max(sizes, default=0)


def _offline() -> UnreachableError:
    return UnreachableError(
        "the model hub does not answer: this machine is offline, or HF_HUB_OFFLINE is set",
        hint="Models may also be copied by hand into PYLON_HOME/models; needle-1 comes with Pylon.",
    )
