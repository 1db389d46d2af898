"""Chooses the prompts that are read together: of similar length, since a group is padded to its longest."""

from collections.abc import Sequence

# The share of a group that may be padding.
MOST_PADDING = 0.15


def alike(lengths: Sequence[int], most: int) -> list[int]:
    """Indices of the first prompt, which has waited longest, and of up to `most - 1` others of about its length."""
    nearest = sorted(range(1, len(lengths)), key=lambda place: abs(lengths[place] - lengths[0]))
    chosen = [0]
    for place in nearest[: most - 1]:
        tried = [lengths[other] for other in (*chosen, place)]
        if 1 - sum(tried) / (max(tried) * len(tried)) > MOST_PADDING:
            break
        chosen.append(place)
    return sorted(chosen)
