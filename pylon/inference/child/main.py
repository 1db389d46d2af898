"""The program of the inference child: one engine, one loop, two pipes.

The node starts it as `python -m pylon.inference.child.main`. One thread loads, steps and frees the model, since MLX's
streams belong to a thread; the threads of `intake.py` bring it the node's commands. When the pipe closes, the node is
gone, and the child ends.
"""

import contextlib
import errno
import faulthandler
import importlib
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from pylon.clock import Clock, SystemClock
from pylon.errors import EngineError, EngineFailedError, ModelError, NoRoomError, WireError
from pylon.frames import encode
from pylon.inference.blas import prefer_openblas, threads_for
from pylon.inference.child.intake import Intake
from pylon.inference.child.loop import EngineLoop
from pylon.inference.child.messages import OUT_OF_MEMORY, Again, FromChild, Load, Ready, Unloadable
from pylon.inference.engine import Engine, EngineSpec
from pylon.inference.models.weights import weight_files

# Messages of MLX on Linux and on Metal without memory, and of the C++ library and Python if no thread can be started.
_REFUSED = (
    "unable to allocate",
    "attempting to allocate",
    "insufficient memory",
    "bad_alloc",
    "resource temporarily unavailable",
    "can't start new thread",
)

# By name, so that an engine's libraries are imported in the child that runs it and nowhere else.
ENGINES = {
    "mlx": ("pylon.inference.mlx.engine", "MlxEngine"),
    "llama": ("pylon.inference.llama.engine", "LlamaEngine"),
    "openai": ("pylon.inference.openai.engine", "OpenAIEngine"),
    "instant": ("pylon.inference.instant", "InstantEngine"),
}
# How to install the library of an engine that not every installation has.
_INSTALL = {"llama": "Run `./scripts/setup --llama` to build it; this takes some minutes and needs a C++ compiler."}


def open_engine(spec: EngineSpec) -> Engine:
    """The engine of a spec, not loaded yet. Raises ModelError."""
    if spec.engine not in ENGINES:
        raise ModelError(f"there is no engine {spec.engine!r}", hint=f"The engines are: {', '.join(ENGINES)}.")
    module, name = ENGINES[spec.engine]
    if spec.engine == "mlx" and spec.model_dir is not None:
        prefer_openblas(threads_for(sum(file.stat().st_size for file in weight_files(spec.model_dir))))
    try:
        made: Callable[[EngineSpec], Engine] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"the {spec.engine} engine needs {error.name}, which is not installed",
            hint=_INSTALL.get(spec.engine, ""),
        ) from error
    return made(spec)


def main(open_engine: Callable[[EngineSpec], Engine] = open_engine) -> None:
    """Runs the child. Tests replace `open_engine` by engines that misbehave."""
    faulthandler.enable()
    # Ctrl-C and systemd's stop reach every process, but the node decides when the child ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    source, sink = _private_pipes()
    clock = SystemClock()
    intake = Intake(source, clock, _leave)
    load = intake.get(None)
    if not isinstance(load, Load):
        raise WireError("the first message must be load")
    # A private folder, since MLX compiles kernels into a predictable folder under TMPDIR and runs what it finds.
    os.environ["TMPDIR"] = str(load.scratch)
    os.environ["HF_HOME"] = str(load.scratch / "hf")

    writing = threading.Lock()

    def send(messages: Sequence[FromChild]) -> None:
        frames = b"".join(map(encode, messages))
        with writing:
            _write(sink, frames)

    try:
        _serve(load.spec, open_engine, intake, send, clock)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        with contextlib.suppress(MemoryError):
            traceback.print_exc()
            sys.stderr.flush()
        # Without closing the engine, which may need more memory.
        os._exit(OUT_OF_MEMORY)


def _serve(
    spec: EngineSpec,
    open_engine: Callable[[EngineSpec], Engine],
    intake: Intake,
    send: Callable[[Sequence[FromChild]], None],
    clock: Clock,
) -> None:
    try:
        engine = open_engine(spec)
        model = engine.load()
    except (ModelError, EngineFailedError) as error:
        if isinstance(error, EngineFailedError) and is_out_of_memory(error):
            raise
        send([Unloadable(str(error), error.hint, _again(error))])
        return
    send([Ready(model)])
    intake.prepare_for(engine, send)
    try:
        EngineLoop(engine, intake, send, clock).run()
    finally:
        engine.close()


def _again(error: EngineError) -> Again:
    match error:
        case EngineFailedError():
            return "soon"
        case NoRoomError():
            return "with room"
        case _:
            return "never"


def _leave(scratch: Path | None) -> None:
    """Ends the process at once, as the node is gone: the engine may be in a long computation."""
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the system refused memory, or a thread for lack of memory. MLX has no exception type for that."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, MemoryError) or (isinstance(found, OSError) and found.errno == errno.ENOMEM):
            return True
        if isinstance(found, RuntimeError) and any(sign in str(found).lower() for sign in _REFUSED):
            return True
        # Closing the engine may fail, too, and hide the first error.
        found = found.__context__
    return False


def _private_pipes() -> tuple[int, int]:
    """Moves the pipes off descriptors 0 and 1, so that nothing a library prints lands between frames."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return source, sink


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]


if __name__ == "__main__":
    main()
