"""Publishes the provider's announcement (NIP-89) once a day, and its heartbeat every 30 seconds."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pylon import __version__, log
from pylon.clock import Clock
from pylon.errors import RelayError
from pylon.forever import forever
from pylon.inference.service import EngineStatus
from pylon.jobs import heartbeat as hb
from pylon.jobs.announcement import Announcement, OfferedModel, announcement_draft, withdrawal_draft
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.settings import ProviderSettings
from pylon.tasks import Tasks

logger = log.get("provider")

ANNOUNCE_EVERY_S = 86_400
# Relays commonly refuse events that are dated further ahead, and customers do not believe them.
MOST_AHEAD_S = 900


class Presence:
    """`engine` returns what runs and how fast; `load` the free slots, the queue in seconds, and the pause reason.

    `model` is the id of the model, also while that is loading.
    """

    def __init__(
        self,
        *,
        secret: SecretKey,
        pool: RelayPool,
        settings: ProviderSettings,
        model: str,
        clock: Clock,
        engine: Callable[[], EngineStatus],
        load: Callable[[], tuple[int, float, str]],
    ) -> None:
        self._secret = secret
        self._pool = pool
        self._settings = settings
        self._model = model
        self._clock = clock
        self._engine = engine
        self._load = load
        self._tasks = Tasks()
        self._changed = asyncio.Event()
        # Why no relay took the last event, by its kind.
        self._faults: dict[int, str] = {}
        self._announced: Announcement | None = None
        self._announced_at = 0.0
        self._last_created_at = 0
        self._announcement_created_at = 0

    def start(self) -> None:
        """Starts publishing, even while the model is `loading`.

        Raises `MalformedError` for settings that cannot be announced.
        """
        announcement_draft(self._announcement(), created_at=0)
        self._tasks.start(forever(self._beat, "presence"), "presence")

    def changed(self) -> None:
        """Publishes now instead of at the next beat: something changed (paused, resumed, the model is ready)."""
        self._changed.set()

    @property
    def fault(self) -> str:
        """Why no relay took the last announcement or heartbeat; empty when one did."""
        return "; ".join(dict.fromkeys(self._faults.values()))

    async def close(self) -> None:
        """Publishes a last heartbeat that says `stopping`, and withdraws the announcement."""
        await self._tasks.close()
        if all(relay.state != "open" for relay in self._pool.statuses):
            # Nothing can be published. The last heartbeat expires by itself.
            return
        await self._publish(self._heartbeat(stopping=True))
        # Dated as early as possible: relays would refuse an announcement of the next start that is dated before it.
        created_at = self._dated(self._announcement_created_at)
        await self._publish(withdrawal_draft(self._secret.public, self._settings.d, created_at=created_at))

    async def _beat(self) -> None:
        self._changed.clear()
        now = self._clock.boot()
        announcement = self._announcement()
        if announcement != self._announced or now - self._announced_at >= ANNOUNCE_EVERY_S:
            self._announcement_created_at = self._dated(self._announcement_created_at + 1)
            draft = announcement_draft(announcement, created_at=self._announcement_created_at)
            if await self._publish(draft):
                self._announced, self._announced_at = announcement, now
        await self._publish(self._heartbeat())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), hb.INTERVAL_S)

    def _announcement(self) -> Announcement:
        settings, model = self._settings, self._engine().model
        offered: tuple[OfferedModel, ...] = ()
        if model is not None:
            longest = settings.longest_answer(model.max_completion_tokens)
            offered = (OfferedModel(model.id, model.sha256, model.quantization, model.context, longest),)
        return Announcement(
            settings.d,
            settings.name,
            settings.about,
            settings.kinds,
            offered,
            settings.price,
            settings.network,
            tuple(self._pool.urls),
            f"pylon/{__version__}",
        )

    def _heartbeat(self, *, stopping: bool = False) -> EventDraft:
        engine = self._engine()
        free, queue_s, paused = self._load()
        model, loading = engine.model, engine.state == "loading"
        created_at = self._next_created_at()
        beat = hb.Heartbeat(
            self._settings.d,
            slots=engine.slots,
            slots_free=0 if stopping or loading else free,
            queue_s=round(queue_s, 1),
            tokens_in_per_s=round(engine.tokens_in_per_s, 1),
            tokens_out_per_s=round(engine.tokens_out_per_s, 1),
            # Customers wait for one that is loading the model that they want, and for no other.
            models=((self._model, ""),) if model is None else ((model.id, model.sha256),),
            price_version=_price_version(self._settings),
            loading=loading,
            paused="stopping" if stopping else paused or ("engine" if engine.state == "failed" else ""),
            expires_at=created_at + (hb.INTERVAL_S if stopping else hb.EXPIRY_S),
        )
        return hb.heartbeat_draft(beat, created_at=created_at)

    def _next_created_at(self) -> int:
        # Of two replaceable events of the same second relays keep the one with the lower id (NIP-01).
        self._last_created_at = self._dated(self._last_created_at + 1)
        return self._last_created_at

    def _dated(self, earliest: int) -> int:
        """Now, or `earliest` if that is later: relays take no event that is older than the one that it replaces.

        If `earliest` is further ahead than relays accept, they never took that event, and there is none to replace.
        """
        now = int(self._clock.wall())
        return earliest if now < earliest <= now + MOST_AHEAD_S else now

    async def _publish(self, draft: EventDraft) -> bool:
        try:
            await self._pool.publish(self._secret.sign(draft), timeout=hb.INTERVAL_S / 3)
        except RelayError as error:
            self._faults[draft.kind] = str(error)
            logger.warning("not announced", kind=draft.kind, error=str(error))
            return False
        self._faults.pop(draft.kind, None)
        return True


def _price_version(settings: ProviderSettings) -> str:
    price = settings.price
    return "/".join(str(amount) for amount in (price.base_msat, price.in_msat_per_1k, price.out_msat_per_1k))
