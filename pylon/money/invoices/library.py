"""The library `bolt11`, which reads every invoice a second time, with its slowest function replaced.

The library makes a bit string of each five bits and joins them up, which takes four fifths of the time that it needs
to decode an invoice; a provider that a flood of strangers asks has hundreds to decode. Ours gives the same bits. If
it did not, the two readings of the invoice would differ, and it would be refused.
"""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any


@cache
def bolt11() -> ModuleType:
    """The library. Imported late: with its bit strings it takes megabytes, and most nodes never see an invoice."""
    from bitstring import BitArray

    def joined(values: Sequence[int]) -> Any:
        number = 0
        for value in values:
            number = number << 5 | value
        return BitArray(uint=number, length=5 * len(values))

    # By its name: the attribute `decode` of the library is the function in it.
    import_module("bolt11.decode").u5_to_bitarray = joined  # type: ignore[attr-defined]
    return import_module("bolt11")
