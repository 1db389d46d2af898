"""The event kinds of the schema `pylon/1`, and its name.

Sources: NIP-90 (5000–7000), NIP-89 (31990), NIP-09 (5); 5940 is the kind in use for sub-queries of recursive
language models, 11998 that of NIP-90's heartbeat convention.
"""

from typing import Final

SCHEMA: Final = "pylon/1"

DELETION: Final = 5
TEXT_REQUEST: Final = 5050
RLM_REQUEST: Final = 5940
FEEDBACK: Final = 7000
HEARTBEAT: Final = 11998
ANNOUNCEMENT: Final = 31990


def result_kind(request_kind: int) -> int:
    """The kind of the result to a request of this kind (NIP-90)."""
    return request_kind + 1_000


REQUEST_KINDS: Final = frozenset({TEXT_REQUEST, RLM_REQUEST})
RESULT_KINDS: Final = frozenset(map(result_kind, REQUEST_KINDS))
