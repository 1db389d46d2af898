"""What counts as memory that the system refused, of all that can be raised in an engine."""

import errno

import pytest

from pylon.inference.child.main import is_out_of_memory


def hidden(first: Exception, second: Exception) -> Exception:
    """`second`, raised while `first` was being handled."""
    try:
        try:
            raise first
        finally:
            raise second
    except Exception as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[malloc] Unable to allocate 4096 bytes."),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        hidden(MemoryError(), ValueError("closing failed too")),
    ],
)
def test_memory_that_was_refused_is_known_by_any_of_its_names(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError(errno.ENOENT, "no such file"), RuntimeError("shapes do not fit")]
)
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)
