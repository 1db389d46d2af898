import errno
from contextlib import nullcontext
from pathlib import Path

import pytest

from pylon.files import flush_to_disk, write_whole


def test_a_written_file_is_whole_private_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.delattr("fcntl.F_FULLFSYNC", raising=False)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        write_whole(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("refuses", "calls"),
    [(None, ["full"]), (errno.ENOTSUP, ["full", "usual"]), (errno.EIO, ["full"])],
)
def test_a_file_is_flushed_through_the_cache_of_the_disk_where_the_system_can(tmp_path, monkeypatch, refuses, calls):
    made: list[str] = []

    def control(_: int, command: int) -> int:
        assert command == 51
        made.append("full")
        if refuses is not None:
            raise OSError(refuses, "refused")
        return 0

    monkeypatch.setattr("fcntl.F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr("fcntl.fcntl", control)
    monkeypatch.setattr("os.fsync", lambda _: made.append("usual"))
    expected = pytest.raises(OSError, match="refused") if refuses == errno.EIO else nullcontext()
    with expected, (tmp_path / "a").open("wb") as stream:
        flush_to_disk(stream.fileno())
    assert made == calls
