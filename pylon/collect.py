"""Settings of the garbage collector for processes that live long and hold many objects."""

import gc

# Thresholds of the three generations (`gc.set_threshold`). Python's own make it look after every few thousand new
# objects. What a node makes is freed by reference counts (events, frames and tasks hold no cycles), so that with a
# thousand connections a twelfth of its time went into finding nothing. The oldest generation is to be looked at least
# of all: a map's hundred thousand questions all live on, and a million objects hold a node up for half a second.
_YOUNG, _MIDDLE, _OLD = 50_000, 4, 500


def collect_rarely() -> None:
    """Makes the collector look less often in this process, from now on."""
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)


def keep_for_good() -> None:
    """Exempts all objects that exist now from collection: to be called when what is to be measured is set up."""
    gc.collect()
    gc.freeze()
