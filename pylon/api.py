"""What programs use of Pylon: these names stay where they are, whatever moves behind them (`docs/python-api.md`).

Without a home: `Swarm` and `SwarmClient` ask over relays, free providers only. With the home of a node, its key and
its money: `NodeSwarm` and `NodeSwarmClient` ask the swarm, `Rlm` and `RlmClient` about texts of any length. Of each
pair the first is for scripts and notebooks, the second for asynchronous code.
"""

from pylon.errors import PylonError, SetupError, UnreachableError, UsageError
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat
from pylon.node.rlm.blocking import Rlm
from pylon.node.rlm.client import RlmAnswer, RlmClient
from pylon.node.swarm_blocking import NodeSwarm
from pylon.node.swarm_client import NodeSwarmClient
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.swarm.blocking import Swarm
from pylon.swarm.client import SwarmClient
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, JobFailed, JobSpec, Outcome, Progress
from pylon.swarm.settings import CheckSettings, DispatchSettings, SwarmSettings

__all__ = [
    "Answer",
    "CheckSettings",
    "DispatchSettings",
    "Failure",
    "JobFailed",
    "JobSpec",
    "Msat",
    "NodeSwarm",
    "NodeSwarmClient",
    "Outcome",
    "Progress",
    "PylonError",
    "RelayPool",
    "Rlm",
    "RlmAnswer",
    "RlmClient",
    "SecretKey",
    "SetupError",
    "Swarm",
    "SwarmClient",
    "SwarmSettings",
    "UnreachableError",
    "Usage",
    "UsageError",
]
