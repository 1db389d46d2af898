from pathlib import Path

from pylon.inference.blas import openblas_places, prefer_openblas, threads_for
from pylon.inference.child.environment import child_environment


def test_the_nodes_secrets_do_not_reach_the_child() -> None:
    environment = child_environment({"PATH": "/bin", "PYLON_PASSPHRASE": "secret", "HF_TOKEN": "secret"}, "Linux")
    assert "secret" not in environment.values()
    assert environment["PATH"] == "/bin"


def test_the_child_may_fetch_no_model() -> None:
    assert child_environment({}, "Darwin")["HF_HUB_OFFLINE"] == "1"


def test_kernels_are_compiled_on_metal_alone() -> None:
    assert "MLX_DISABLE_COMPILE" in child_environment({}, "Linux")
    assert "MLX_DISABLE_COMPILE" not in child_environment({}, "Darwin")


def test_openblas_is_for_linux_alone() -> None:
    assert openblas_places("Darwin", "arm64") == []
    assert Path("/usr/lib/aarch64-linux-gnu/libopenblas.so.0") in openblas_places("Linux", "aarch64")


def test_a_library_that_does_not_load_is_passed_over(tmp_path: Path) -> None:
    broken = tmp_path / "libopenblas.so.0"
    broken.write_bytes(b"not a library")
    assert prefer_openblas(places=[tmp_path / "absent.so", broken]) is None


def test_a_small_model_gets_one_thread_and_a_large_one_all() -> None:
    assert threads_for(6_000_000) == 1
    assert threads_for(4_000_000_000) is None
