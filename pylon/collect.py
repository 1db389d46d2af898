"""How often the garbage collector looks, in processes that live long and hold much."""

import gc

# Python looks at everything after every few thousand new objects. What a node makes goes away by itself (events,
# frames and tasks hold no circles), so that with a thousand connections a twelfth of its time went into finding
# nothing. What is left of four young generations is looked at together: of a map's hundred thousand questions all are
# left, and one look at a million objects holds a node up for half a second.
_YOUNG, _MIDDLE, _OLD = 50_000, 4, 500


def collect_rarely() -> None:
    """For this process, from now on."""
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)


def keep_for_good() -> None:
    """What is there by now stays, and is not looked at again: after setting up what is then measured."""
    gc.collect()
    gc.freeze()
