"""A read-only Hub on the loopback interface: one repository, a folder, for the unmodified clients."""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit

from forked import ask

_PROGRAM = """
from pathlib import Path
from gemmazero.config import PrepareConfig
from gemmazero.data.prepare import prepare
from gemmazero.errors import GemmaZeroError
from gemmazero.hub import resolve_dataset
try:
    answer = {{"value": {expression}}}
except GemmaZeroError as error:
    answer = {{"error": error.message, "hint": error.hint, "kind": getattr(error, "kind", "")}}
"""
COMMIT = hashlib.sha1(b"the only commit").hexdigest()


@dataclass
class LoopbackHub:
    """What is served, and what was asked.

    Set ``status`` to refuse everything with it, ``token`` to make the repository private, ``cut`` to break off each
    file after so many bytes, ``damaged`` to send so many files with a byte changed.
    """

    folder: Path
    repo: str
    is_dataset: bool = True
    url: str = ""
    status: int = 0
    token: str = ""
    cut: int | None = None
    damaged: int = 0
    requests: list[str] = field(default_factory=list)

    def answer(self, expression: str, home: Path, **variables: str) -> Any:
        """What ``expression`` gives in a child process that takes this for the Hub, as JSON would give it back.

        A child, because the clients read their environment when they are imported. A GemmaZeroError comes back as
        ``{"error": message, "hint": hint, "kind": kind}``.
        """
        program = _PROGRAM.format(expression=expression)
        with TemporaryDirectory() as folder:
            answer, written = ask(Path(folder), os.environ | self.environment(home) | variables, program)
        return answer | {"written": written}

    def environment(self, home: Path) -> dict[str, str]:
        """What makes a child process take this for the Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_ETAG_TIMEOUT": "2",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1",
        }

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


@contextmanager
def serving(folder: Path, repo: str, *, is_dataset: bool = True) -> Iterator[LoopbackHub]:
    """Serve ``folder`` as the dataset, or the model, ``repo`` until the block is left."""
    hub = LoopbackHub(folder, repo, is_dataset)

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def _answer(self) -> None:
        hub, path = self.served, unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        api, files = f"/api/models/{hub.repo}", f"/{hub.repo}/resolve/"
        if hub.is_dataset:
            api, files = f"/api/datasets/{hub.repo}", f"/datasets{files}"
        if hub.status:
            self._refuse(hub.status)
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._refuse(401, "RepoNotFound")
        elif path == api:
            self._send_json(self._info())
        elif path.startswith((f"{api}/revision/", f"{api}/tree/")):
            kind, revision, *folder = path.removeprefix(f"{api}/").split("/", 2)
            if revision not in ("main", COMMIT):
                self._refuse(404, "RevisionNotFound")
            else:
                self._send_json(self._info() if kind == "revision" else self._tree("".join(folder)))
        elif path.startswith(files):
            revision, name = path.removeprefix(files).split("/", 1)
            self._send_file(name) if revision in ("main", COMMIT) else self._refuse(404, "RevisionNotFound")
        else:
            self._refuse(404, "RepoNotFound")

    def _info(self) -> dict[str, Any]:
        siblings = [{"rfilename": name} for name in self.served.files()]
        return {
            "id": self.served.repo,
            "sha": COMMIT,
            "private": False,
            "tags": [],
            "downloads": 0,
            "siblings": siblings,
        }

    def _entries(self) -> dict[str, dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = {}
        for name, data in self.served.files().items():
            entries[name] = {"type": "file", "path": name, "size": len(data), "oid": _blob_id(data)}
            for parent in Path(name).parents:
                if parent.name:
                    folder = parent.as_posix()
                    entries[folder] = {"type": "directory", "path": folder, "size": 0, "oid": _blob_id(folder.encode())}
        return entries

    def _tree(self, under: str) -> list[dict[str, Any]]:
        inside = {
            path: entry for path, entry in self._entries().items() if path.startswith(f"{under}/" if under else "")
        }
        if "recursive=True" in self.path or "recursive=true" in self.path:
            return list(inside.values())
        return [entry for path, entry in inside.items() if Path(path).parent == Path(under)]

    def _send_file(self, name: str) -> None:
        data = self.served.files().get(name)
        if data is None:
            self._refuse(404, "EntryNotFound")
        else:
            headers = {"ETag": f'"{_blob_id(data)}"', "Accept-Ranges": "bytes", "Content-Length": str(len(data))}
            if self.served.damaged and self.command != "HEAD":
                self.served.damaged -= 1
                data = bytes([data[0] ^ 1]) + data[1:]
            status = 200
            if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                start, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
                headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
                status, data = 206, data[start : last + 1]
                headers["Content-Length"] = str(len(data))
            self._send(status, data[: self.served.cut], headers)
            self.close_connection = self.served.cut is not None

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str = "") -> None:
        self._send(status, b"{}", {"Content-Type": "application/json"} | ({"X-Error-Code": code} if code else {}))

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data)), "X-Repo-Commit": COMMIT} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
