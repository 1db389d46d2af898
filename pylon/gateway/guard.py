"""The ASGI application around all routes: applies the rules of `access`, and answers errors in one form."""

from collections.abc import Container, Mapping

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pylon import log
from pylon.gateway.access import AccessRules, RequestHead, is_open
from pylon.gateway.completions import ClientGoneError, json_response
from pylon.gateway.connection import mark_admitted
from pylon.gateway.problems import Problem

logger = log.get("gateway")

_API = "POST /v1/chat/completions and GET /v1/models"
# A browser must not guess the type of a response, show it in a frame of another page, or pass its address on.
_ALWAYS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY"}


class Guard:
    """See the module. `sessions` are those that are open."""

    def __init__(self, app: ASGIApp, rules: AccessRules, sessions: Container[str]) -> None:
        self._app = app
        self._rules = rules
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": [*message["headers"], *_more()]}
            await send(message)

        try:
            self._check(scope)
            # Starlette raises errors such as 404 only if the scope has an `app`; else the router answers them itself.
            await self._app({**scope, "app": self}, receive, answer)
        except ClientGoneError:
            # Nobody reads this response, but the server needs one.
            await Response(status_code=499)(scope, receive, answer)
        except Problem as problem:
            await _told(problem)(scope, receive, answer)
        except HTTPException as error:
            await _told(_lost(error, scope["path"]), error.headers)(scope, receive, answer)
        except Exception as error:
            logger.error("a request failed", path=scope["path"], exc_info=error)
            if begun:
                raise
            unknown = Problem(500, "internal_error", "the gateway failed; its log says more", again=False)
            await _told(unknown)(scope, receive, answer)

    def _check(self, scope: Scope) -> None:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            text = value.decode("latin-1")
            if name in (b"host", b"origin") and headers.setdefault(name.decode(), text) != text:
                raise Problem(400, "invalid_header", "a header is given twice")
            headers[name.decode("latin-1")] = text
        if "content-length" in headers and "transfer-encoding" in headers:
            # RFC 9112, 6.3: a proxy in between may see another end of this body, and take its rest for a request.
            raise Problem(
                400, "invalid_header", "a body must have either a length or be chunked, not both", closes=True
            )
        head = RequestHead(scope["method"], scope["path"], headers)
        refusal = self._rules.refusal(head, self._sessions)
        if refusal is not None:
            raise refusal
        if not is_open(head):
            mark_admitted(scope)


def _lost(error: HTTPException, path: str) -> Problem:
    """The error for a path or method that has no route."""
    if error.status_code == 405:
        return Problem(
            405, "wrong_method", f"this path only accepts {(error.headers or {}).get('Allow', 'another method')}"
        )
    # A client of another of OpenAI's interfaces, such as embeddings, asks here first.
    api = path.rstrip("/") == "/v1" or path.startswith("/v1/")
    said = (
        f"this gateway offers only {_API}: set the client to chat completions" if api else "this path does not exist"
    )
    return Problem(error.status_code, "not_found", said)


def _told(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    return json_response(problem.body(), problem.status, {**problem.headers(), **(headers or {})})


def _more() -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in _ALWAYS.items()]
