"""A headless Chromium, spoken to over its DevTools websocket.

Source: https://chromedevtools.github.io/devtools-protocol/
"""

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect

# On a machine that is busy with other things.
PATIENCE_S = 30.0
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MAC_APPS = ("Google Chrome", "Chromium")
# It is to reach the gateway and nothing else, whatever it does of itself.
_OPTIONS = (
    "--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--use-mock-keychain",
    "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip


def found() -> str | None:
    """The browser of this machine, or None."""
    apps = (Path(f"/Applications/{name}.app/Contents/MacOS/{name}") for name in _MAC_APPS)
    on_path = (shutil.which(name) for name in _NAMES)
    return next((path for path in (*on_path, *(str(app) for app in apps if app.exists())) if path), None)


class Tab:
    """One tab. `faults` are errors of its page: exceptions, and what its policy kept it from."""

    def __init__(self, socket: ClientConnection) -> None:
        self.faults: list[str] = []
        self._socket = socket
        self._session: str | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())

    async def attach(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        said: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            said["sessionId"] = self._session
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(orjson.dumps(said).decode())
        return await asyncio.wait_for(answer, PATIENCE_S)

    async def open(self, url: str) -> None:
        # Another address of one page, but for its #, would not be loaded anew.
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=url)

    async def resize(self, width: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )

    async def value(self, expression: str) -> Any:
        """What an expression of JavaScript is; a promise is waited for."""
        told = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, expression: str) -> None:
        """Waits until it is true, over pages that come and go."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await self.value(f"document.readyState === 'complete' && Boolean({expression})"):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"never: {expression}\n{await self.value('document.body.innerText')}") from None

    async def text(self, name: str) -> str:
        """What is seen of the element with this id."""
        return str(await self.value(f"document.getElementById({name!r}).innerText"))

    async def _read(self) -> None:
        async for frame in self._socket:
            told = orjson.loads(frame)
            match told:
                case {"id": number, "result": result}:
                    self._waiting.pop(number).set_result(result)
                case {"id": number, "error": error}:
                    self._waiting.pop(number).set_exception(AssertionError(error))
                case {"method": "Runtime.exceptionThrown", "params": params}:
                    self.faults.append(str(params["exceptionDetails"]))
                # An answer that is an error, such as 401 to whoever shows no key, is no fault of the page.
                case {"method": "Log.entryAdded", "params": {"entry": {"level": "error", "source": source} as entry}}:
                    if source != "network":
                        self.faults.append(str(entry))


@asynccontextmanager
async def tab_of(program: str, folder: Path) -> AsyncIterator[Tab]:
    """A tab of a browser of its own, whose profile is in that folder."""
    # Root has no sandbox there.
    options = (*_OPTIONS, *(("--no-sandbox",) if os.getuid() == 0 else ()), f"--user-data-dir={folder}")
    process = await asyncio.create_subprocess_exec(
        program, *options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        told = folder / "DevToolsActivePort"
        async with asyncio.timeout(PATIENCE_S):
            while not (told.exists() and len(told.read_text().split()) == 2):
                assert process.returncode is None, f"{program} ended with {process.returncode}"
                await asyncio.sleep(0.05)
        port, path = told.read_text().split()
        async with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as socket:
            tab = Tab(socket)
            try:
                await tab.attach()
                yield tab
            finally:
                await tab.close()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
