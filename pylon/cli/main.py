"""`pylon`'s entry. Loading the program takes half a second, in which Ctrl-C should end it as it does later: at once,
with 130, and with nothing printed that is not for the person who pressed it.
"""

import contextlib
import os
import signal
import sys

# What the program prints when it is interrupted, spelt out because the libraries that make it may not be there yet.
_INTERRUPTED = b'{"error":{"type":"InterruptError","message":"interrupted","hint":""}}\n'


def main() -> None:
    """The program's entry."""
    arguments = sys.argv[1:]
    as_json = "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)
    # Else a shell that runs the command in the background had it ignored, or the caller has a use of its own for it.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, lambda *_: _end(as_json))
    from pylon.cli.program import main as run

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run(as_json)


def _end(as_json: bool) -> None:
    """Ends the process as it is. Nothing has begun that would need an end of its own, and an exception would leave a
    module half loaded, which some libraries report in words of theirs."""
    if as_json:
        # Whoever asked for it may have gone.
        with contextlib.suppress(OSError):
            os.write(1, _INTERRUPTED)
    os._exit(130)


if __name__ == "__main__":
    main()
