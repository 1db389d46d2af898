"""The gateway as an ASGI application: its routes, put together."""

from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from pylon.clock import Clock, SystemClock
from pylon.errors import PylonError
from pylon.gateway.access import AccessRules
from pylon.gateway.asks import Asks
from pylon.gateway.bodies import Bodies
from pylon.gateway.budget import Budget
from pylon.gateway.chat import ANY_MODEL
from pylon.gateway.completions import Completions, json_response
from pylon.gateway.fit import model_not_found
from pylon.gateway.guard import Guard
from pylon.gateway.keys import Sessions
from pylon.gateway.offers import Offers
from pylon.gateway.page import Page
from pylon.gateway.problems import problem_of_error
from pylon.gateway.upstream import Upstream
from pylon.gateway.view import View
from pylon.swarm.job import TIMEOUT_S


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """`runs` is the folder of trajectories. `most_msat` is what all requests together may cost, `unit` the network's
    name for 1,000 msat. `max_requests` may be in progress at once. With `plain`, providers that read only the open
    form are asked too. A request that names no timeout may take `timeout_s` seconds.
    """

    runs: Path
    most_msat: int
    unit: str = "sat"
    max_requests: int = 4_000
    max_body_bytes: int = 4 * 1024 * 1024
    plain: bool = False
    timeout_s: float = TIMEOUT_S


class Gateway:
    """`app` is the ASGI application; `sessions` holds the code that opens its page once."""

    def __init__(
        self, upstream: Upstream, settings: GatewaySettings, rules: AccessRules, clock: Clock | None = None
    ) -> None:
        clock = clock or SystemClock()
        self.view = View(upstream, clock)
        budget = Budget(settings.most_msat)
        self.asks = Asks(
            upstream, self.view, clock, budget=budget, most=settings.max_requests, plain=settings.plain,
            timeout_s=settings.timeout_s,
        )  # fmt: skip
        self.sessions = Sessions(rules.token, clock)
        completions = Completions(self.asks, Bodies(settings.max_body_bytes), clock)
        page = Page(self.asks, self.view, self.sessions, settings.runs, settings.unit, token_file=rules.token_file)
        routes = [
            Route("/health", self._health, methods=["GET"]),
            Route("/v1/chat/completions", completions.answer, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{model:path}", self._model, methods=["GET"]),
            Route("/metrics", page.metrics, methods=["GET"]),
            Route("/", page.page, methods=["GET"]),
            Route("/runs", page.page, methods=["GET"]),
            Route("/runs/{run}", page.named_run, methods=["GET"]),
            Route("/session", page.session, methods=["POST"]),
            Route("/api/now", page.now, methods=["GET"]),
            Route("/api/runs", page.runs, methods=["GET"]),
            Route("/api/runs/{run}", page.run, methods=["GET"]),
            Route("/api/runs/{run}/text/{sha256}", page.text, methods=["GET"]),
            Route("/api/runs/{run}/export", page.export, methods=["GET"]),
        ]
        self.app: ASGIApp = Guard(Router(routes, redirect_slashes=False), rules, self.sessions)

    async def close(self) -> None:
        """Ends all calls to the core that go on between requests."""
        await self.asks.close()
        await self.view.close()

    async def _health(self, _: Request) -> Response:
        return json_response({"status": "ok"})

    async def _models(self, _: Request) -> Response:
        models = (await self._offers()).listed
        aliases = map(_alias, sorted(ANY_MODEL)) if models else ()
        return json_response({"object": "list", "data": [*aliases, *models]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["model"]
        if not name:
            raise HTTPException(404)
        models = (await self._offers()).models
        if models and name in ANY_MODEL:
            return json_response(_alias(name))
        if name not in models:
            raise model_not_found(name)
        return json_response(models[name])

    async def _offers(self) -> Offers:
        try:
            await self.view.providers()
        except PylonError as error:
            raise problem_of_error(error) from error
        return self.view.offers


def _alias(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "pylon"}
