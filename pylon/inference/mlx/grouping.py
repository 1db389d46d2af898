"""Which waiting prompts are read together: a batch is padded to its longest prompt, so alike ones go together."""

from collections.abc import Sequence

# The part of a batch that may be padding.
MOST_PADDING = 0.15


def alike(lengths: Sequence[int], most: int) -> list[int]:
    """Places of the first prompt, which has waited longest, and of up to `most - 1` others near its length."""
    nearest = sorted(range(1, len(lengths)), key=lambda place: abs(lengths[place] - lengths[0]))
    chosen = [0]
    for place in nearest[: most - 1]:
        tried = [lengths[other] for other in (*chosen, place)]
        if 1 - sum(tried) / (max(tried) * len(tried)) > MOST_PADDING:
            break
        chosen.append(place)
    return sorted(chosen)
