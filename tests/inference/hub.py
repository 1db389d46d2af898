"""A model hub on loopback: the few calls of huggingface_hub that a download makes, for one repository."""

import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40
LATER = "d" * 40


class Hub(ThreadingHTTPServer):
    """`files` are served under `repository`. Bytes of `damaged` files arrive changed.

    With `token`, paths that hold `closed` are for whoever shows it; others hear 401.
    With `break_after`, the first body that is longer ends there, and from then on the hub is `gone`.
    """

    daemon_threads = True

    def __init__(self, repository: str, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository = repository
        self.files = dict(files)
        self.damaged: set[str] = set()
        self.token = self.closed = ""
        self.break_after: int | None = None
        self.gone = False
        self.commit = COMMIT
        self.sizes: dict[str, int] = {}
        self.asked: list[tuple[str, str | None]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def info(self) -> dict[str, object]:
        siblings = []
        for name, data in self.files.items():
            entry = {"rfilename": name, "size": self.sizes.get(name, len(data)), "blobId": git_blob(data)}
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": entry["size"], "pointerSize": 134}
            siblings.append(entry)
        return {"id": self.repository, "modelId": self.repository, "sha": self.commit, "siblings": siblings}


def git_blob(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.server
        if hub.gone:
            self.reply(410, b"", {})
            return
        path = self.path.split("?")[0]
        if hub.token and hub.closed in path and self.headers["Authorization"] != f"Bearer {hub.token}":
            self.reply(401, b"{}", {"X-Error-Code": "GatedRepo"})
            return
        if path.startswith(f"/api/models/{hub.repository}"):
            self.reply(200, json.dumps(hub.info()).encode(), {"Content-Type": "application/json"})
            return
        name = path.removeprefix(f"/{hub.repository}/resolve/{hub.commit}/")
        if name not in hub.files:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        data = hub.files[name]
        if name in hub.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.reply_file(name, data)

    def reply_file(self, name: str, data: bytes) -> None:
        hub = self.server
        headers = {"ETag": f'"{git_blob(hub.files[name])}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
        wanted = self.headers["Range"]
        if self.command == "GET":
            hub.asked.append((name, wanted))
        if wanted is None:
            self.reply(200, data, headers)
            return
        start = int(wanted.removeprefix("bytes=").split("-")[0])
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.reply(206, data[start:], headers)

    def reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.server.break_after
        if limit is not None and len(body) > limit:
            self.wfile.write(body[:limit])
            self.close_connection = True
            self.server.gone = True
            return
        self.wfile.write(body)
