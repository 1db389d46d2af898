"""llama.cpp's own server, as a process that a benchmark asks. It comes from the wheels of xllamacpp.

`python -m pylon.bench.llama_server GGUF SLOTS CONTEXT THREADS` prints its address and serves until it is killed.
"""

import sys
import time

_FOR_EVER_S = 1e9


def main() -> None:
    import xllamacpp

    file, slots, context, threads = sys.argv[1], *map(int, sys.argv[2:])
    params = xllamacpp.CommonParams()
    params.model.path, params.verbosity = file, -1
    params.n_parallel, params.n_ctx, params.kv_unified = slots, slots * context, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    time.sleep(_FOR_EVER_S)


if __name__ == "__main__":
    main()
