"""What all connections of one relay have in common."""

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pylon.clock import Clock
from pylon.relay.intake import Intake
from pylon.relay.limits import RelayLimits
from pylon.relay.store import EventStore
from pylon.relay.subscription_memory import SubscriptionMemory
from pylon.relay.subscriptions import SubscriptionIndex

if TYPE_CHECKING:
    from pylon.relay.reading import Reading


@dataclass(frozen=True, slots=True)
class Shared:
    """See the module. `writers` are the keys that may publish, `readers` those that may read; None means all."""

    store: EventStore
    intake: Intake
    index: "SubscriptionIndex[Reading]"
    memory: SubscriptionMemory
    limits: RelayLimits
    clock: Clock
    require_auth: bool
    writers: Container[str] | None
    readers: Container[str] | None = None
