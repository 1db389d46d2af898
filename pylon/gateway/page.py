"""The routes of the gateway's web page: one self-contained HTML file, and the data that it fetches."""

import asyncio
import base64
import hashlib
import html
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from pylon import __version__
from pylon.gateway import trajectories
from pylon.gateway.asks import Asks
from pylon.gateway.bodies import Bodies
from pylon.gateway.completions import json_response
from pylon.gateway.keys import Sessions
from pylon.gateway.metrics import Histogram, Sample
from pylon.gateway.problems import Problem
from pylon.gateway.view import View

_FILE = Path(__file__).with_name("page.html")
# Small limits, since anybody may send a key: a request for a session needs no token.
_KEY_BYTES = 4_096
KEY_S = 10.0


class Page:
    """See the module. `runs` is the folder of trajectories, `unit` the network's name for 1,000 msat; `token_file` is
    where the locked page says that the token is.
    """

    def __init__(self, asks: Asks, view: View, sessions: Sessions, runs: Path, unit: str, *, token_file: str) -> None:
        self._asks = asks
        self._view = view
        self._sessions = sessions
        self._runs = runs
        self._unit = unit
        self._token_file = html.escape(token_file).encode("utf-8", "replace")
        self._keys = Bodies(_KEY_BYTES, slowest_s=KEY_S, together=None)

    async def page(self, _: Request) -> Response:
        """The HTML file, which tells nothing about this node except where its token is."""
        file, policy = page_file()
        return Response(
            file.replace(b"{token_file}", self._token_file),
            media_type="text/html",
            headers={"content-security-policy": policy, "cache-control": "no-store"},
        )

    async def named_run(self, request: Request) -> Response:
        """Redirects from `/runs/NAME`, which somebody may guess, to the run's address, `/runs#NAME`."""
        return RedirectResponse(f"/runs#{quote(request.path_params['run'], safe='')}")

    async def session(self, request: Request) -> Response:
        """Opens a session for a client that shows the token or the printed code. Raises `Problem` (401).

        The session is returned in the body, not as a cookie: the page sends it to this port only, while a browser
        sends a cookie to every port of this host.
        """
        async with self._keys.read(request) as body:
            try:
                said = orjson.loads(body)
            except orjson.JSONDecodeError:
                said = None
        key = said.get("key") if isinstance(said, dict) else None
        session = self._sessions.open(key) if isinstance(key, str) else None
        if session is None:
            raise Problem(401, "invalid_api_key", "that is neither the token nor a valid code")
        return json_response({"session": session})

    async def now(self, _: Request) -> Response:
        """The state of the node and the gateway, as JSON."""
        tally, budget = self._asks.tally, self._asks.budget
        gateway: dict[str, Any] = {
            "unit": self._unit,
            "in_flight": tally.in_flight,
            "outcomes": dict(tally.outcomes),
            "paid_msat": budget.spent,
            "held_msat": budget.held,
            "open_msat": budget.open,
            "limit_msat": budget.limit,
            "prompt_tokens": tally.prompt_tokens,
            "completion_tokens": tally.completion_tokens,
        }
        return json_response({"version": __version__, **await self._view.now(), "gateway": gateway})

    async def metrics(self, _: Request) -> Response:
        """The metrics, in Prometheus' text format."""
        tally = self._asks.tally
        metrics: list[Sample | Histogram] = [
            *await self._view.samples(),
            *tally.samples(self._asks.budget),
            tally.seconds,
        ]
        lines = "\n".join(line for metric in metrics for line in metric.lines())
        return PlainTextResponse(f"{lines}\n", media_type="text/plain; version=0.0.4")

    async def runs(self, _: Request) -> Response:
        """The list of trajectories."""
        found = await asyncio.to_thread(trajectories.listed, self._runs)
        return json_response({"unit": self._unit, "runs": found})

    async def run(self, request: Request) -> Response:
        """One trajectory: up to `trajectories.MOST_EVENTS` events from number `after` on."""
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) < 10):
            raise Problem(400, "invalid_value", "after must be a whole number", param="after")
        name = request.path_params["run"]
        return json_response(await asyncio.to_thread(trajectories.shown, self._runs, name, int(after)))

    async def text(self, request: Request) -> Response:
        """A text that an event of a trajectory names."""
        name, sha256 = request.path_params["run"], request.path_params["sha256"]
        found = await asyncio.to_thread(trajectories.text, self._runs, name, sha256)
        return json_response({"text": found})

    async def export(self, request: Request) -> Response:
        """A trajectory as JSONL, for the viewer of `rlms`."""
        name = request.path_params["run"]
        body = await asyncio.to_thread(trajectories.exported, self._runs, name)
        # Sent as an attachment, since a browser might show it as a page. RFC 6266 allows any letters in its name.
        headers = {"content-disposition": f"attachment; filename*=utf-8''{quote(name, safe='')}.jsonl"}
        return Response(body, media_type="application/x-ndjson", headers=headers)


@cache
def page_file() -> tuple[bytes, str]:
    """The HTML file, and the `Content-Security-Policy` that allows its own script and style and nothing else."""
    file = _FILE.read_bytes()
    script, style = (_hash_of(file, tag) for tag in (b"script", b"style"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return file, policy


def _hash_of(file: bytes, tag: bytes) -> str:
    found = re.search(rb"<%b>(.*?)</%b>" % (tag, tag), file, re.DOTALL)
    if found is None:
        raise RuntimeError(f"the page has no {tag.decode()}")
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1]).digest()).decode()}'"
