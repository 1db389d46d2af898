"""The child as it is, but for its memory: after loading it may take only `options["room"]` bytes more.

The system then refuses what the engine asks for, as it does on a machine whose memory is full. With
`options["marks"]` only the first child is starved: a file there tells the next one.
"""

import resource
from pathlib import Path

from pylon.inference.child import main as child


def starved(spec):
    engine = child.open_engine(spec)
    load = engine.load
    mark = Path(spec.options["marks"]) / "starved" if "marks" in spec.options else None

    def load_and_starve():
        model = load()
        if mark is None or not mark.exists():
            if mark is not None:
                mark.touch()
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + spec.options["room"]
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        return model

    engine.load = load_and_starve
    return engine


if __name__ == "__main__":
    child.main(starved)
