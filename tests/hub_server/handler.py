"""Requests of the Hub's client → the store; what goes wrong on the way, by the faults in force."""

import base64
import hashlib
import json
import re
import socket
import struct
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_server.faults import Fault
from hub_server.store import Entry, RefusedError, Repo

if TYPE_CHECKING:
    from hub_server.server import Account, HubServer

_NO_REPO = ("Repository not found", "RepoNotFound")


class DroppedError(Exception):
    """The connection ends here, without an answer."""


class Handler(BaseHTTPRequestHandler):
    """One connection. ``served`` is set by a subclass; where ``is_undisturbed``, nothing goes wrong nor is counted."""

    served: "HubServer"
    is_undisturbed = False
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def _serve(self) -> None:
        hub, split = self.served, urlsplit(self.path)
        self._path, self._query = unquote(split.path), parse_qs(split.query)
        request = f"{self.command} {self._path}"
        self._fault: Fault | None = None
        try:
            if not self.is_undisturbed:
                hub.requests.append(request)
                if hub.is_dead:
                    raise DroppedError
                self._fault = hub.faults.of(request)
            self._body = self._read_body()
            self._suffer("before")
            try:
                answer = self._refusal() or self._answer()
            except RefusedError as refused:
                headers = {"X-Error-Message": refused.message} | (
                    {"X-Error-Code": refused.code} if refused.code else {}
                )
                answer = refused.status, json.dumps({"error": refused.message}).encode(), headers
            self._suffer("after")
            self._send(*answer)
        except DroppedError:
            self._drop()

    def _suffer(self, when: str) -> None:
        """Let the fault happen that is due now. Raises DroppedError."""
        fault, hub = self._fault, self.served
        if fault is None or fault.when != when:
            return
        match fault.do:
            case "expire":
                hub.accounts.pop(self._token, None)
            case "reset" | "half_read":
                raise DroppedError
            case "hang":
                time.sleep(fault.seconds)
                raise DroppedError
            case "die":
                hub.die(fault.seconds)
                raise DroppedError

    def _refusal(self) -> tuple[int, bytes, dict[str, str]] | None:
        fault = self._fault
        if fault is None or fault.do != "status":
            return None
        return (
            fault.status,
            json.dumps({"error": fault.message}).encode(),
            fault.headers | ({"X-Error-Message": fault.message} if fault.message else {}),
        )

    @property
    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _read_body(self) -> bytes:
        share = 2 if self._fault is not None and self._fault.do == "half_read" else 1
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
                if share == 2:
                    raise DroppedError
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0) // share)

    def _drop(self) -> None:
        """Reset the connection: the client sees no answer, or half of one."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        fault = self._fault
        length = len(body)
        if fault is not None and fault.do == "corrupt" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault is not None and fault.do == "truncate":
            body = body[: length // 2]
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(length)} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            if len(body) < length:
                raise DroppedError

    def _answer(self) -> tuple[int, bytes, dict[str, str]]:
        hub, path = self.served, self._path
        account = hub.accounts.get(self._token)
        if self._token and account is None and not path.startswith("/objects/"):
            raise RefusedError(401, "Invalid credentials in Authorization header")
        if path == "/api/whoami-v2":
            return _json(_who(account))
        if path == "/api/repos/create":
            return self._create(account)
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if match := re.fullmatch(r"/objects/([^/]+/[^/]+)/(\w+)", path):
            return self._object(hub.repos[match[1]], match[2])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/([^/]+)(?:/(.*))?)?", path):
            repo = self._repo(match[1], account, writes=self.command != "GET")
            return self._of_repo(repo, match[2] or "revision", match[3] or "")
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/(batch|verify)", path):
            return self._batch(self._repo(match[1], account, writes=True))
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(self._repo(match[1], account, writes=False), match[2], match[3])
        raise RefusedError(404, *_NO_REPO)

    def _repo(self, name: str, account: "Account | None", *, writes: bool) -> Repo:
        repo = self.served.repos.get(name)
        mine = account is not None and repo is not None and repo.owner in (account.user, *account.orgs)
        if repo is None or (repo.private and not mine):
            raise RefusedError(404 if account else 401, *_NO_REPO)
        if writes and not (mine and account is not None and account.role == "write"):
            raise RefusedError(403, "You don't have the rights, or your token is read-only")
        return repo

    def _create(self, account: "Account | None") -> tuple[int, bytes, dict[str, str]]:
        asked = json.loads(self._body)
        if account is None:
            raise RefusedError(401, "Invalid username or password.")
        owner = asked.get("organization") or account.user
        if owner not in (account.user, *account.orgs) or account.role != "write":
            raise RefusedError(403, "You don't have the rights to create a model under this namespace")
        name = f"{owner}/{asked['name']}"
        if name in self.served.repos:
            raise RefusedError(409, "You already created this model repo")
        self.served.repos[name] = Repo(name, owner, private=asked.get("visibility") == "private")
        return _json({"url": f"{self.served.url}/{name}", "name": name})

    def _of_repo(self, repo: Repo, verb: str, rest: str) -> tuple[int, bytes, dict[str, str]]:
        asked = json.loads(self._body) if self._body and verb != "commit" else {}
        match self.command, verb:
            case "GET", "revision":
                commit = repo.resolve(rest or "main")
                files = [{"rfilename": path} for path in commit.files]
                return _json({"id": repo.name, "sha": commit.sha, "private": repo.private, "tags": [], "downloads": 0,
                              "siblings": files})  # fmt: skip
            case "GET", "tree":
                commit = repo.resolve(rest.split("/")[0])
                return _json([_told(path, one) for path, one in sorted(commit.files.items())])
            case "GET", "refs":
                groups = {"branches": "refs/heads/", "tags": "refs/tags/", "pullRequests": "refs/pr/"}
                return _json({"converts": []} | {
                    group: [{"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": sha}
                            for ref, sha in repo.refs.items() if ref.startswith(prefix)]
                    for group, prefix in groups.items()
                })  # fmt: skip
            case "GET", "commits":
                return _json([
                    {"id": one.sha, "title": one.message, "message": "", "date": "2026-01-01T00:00:00.000Z",
                     "authors": []}
                    for one in repo.history(repo.resolve(rest).sha)
                ])  # fmt: skip
            case "POST", "branch":
                with repo.lock:
                    if f"refs/heads/{rest}" in repo.refs:
                        raise RefusedError(409, "Reference already exists")
                    repo.refs[f"refs/heads/{rest}"] = repo.resolve(asked.get("startingPoint") or "main").sha
                return _json({})
            case "POST", "preupload":
                files = repo.resolve(rest).files
                return _json({"files": [self._mode(one, files.get(one["path"])) for one in asked["files"]]})
            case "POST", "commit":
                return self._commit(repo, rest)
            case "POST", "super-squash":
                sha = repo.squash(rest, asked.get("message") or "Super-squash")
                return self._changed("squash", rest, {"commitOid": sha})
            case "GET", "lfs-files":
                return _json([
                    {"fileOid": name, "oid": name, "filename": "", "ref": "", "size": len(content),
                     "pushedAt": "2026-01-01T00:00:00.000Z"}
                    for name, content in repo.objects.items()
                ])  # fmt: skip
            case "POST", "lfs-files":
                deletions = asked["deletions"]
                repo.delete(set(deletions["sha"]), rewrites_history=deletions.get("rewriteHistory", False))
                return self._changed("free", "", {})
        raise RefusedError(404, "no such endpoint")

    def _mode(self, asked: dict[str, Any], old: Entry | None) -> dict[str, Any]:
        is_large = asked["path"].endswith(self.served.large) or asked["size"] > 10 * 2**20
        told = {"path": asked["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
        return told | ({"oid": old.etag} if old else {})

    def _commit(self, repo: Repo, branch: str) -> tuple[int, bytes, dict[str, str]]:
        lines = [json.loads(line) for line in self._body.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        operations = [
            (line["key"], line["value"], base64.b64decode(line["value"].get("content", "")))
            for line in lines
            if line["key"] != "header"
        ]
        sha = repo.change(branch, header.get("parentCommit") or "", header["summary"], operations)
        address = f"{self.served.url}/{repo.name}/commit/{sha}"
        return self._changed("commit", branch, {"success": True, "commitOid": sha, "commitUrl": address})

    def _changed(self, verb: str, branch: str, told: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        """The answer to what changed a repository: nobody is told of it before every watcher has looked."""
        for watcher in list(self.served.watchers):
            watcher(verb, branch)
        return _json(told)

    @property
    def _storage_url(self) -> str:
        """Of the large objects: another host, as the Hub has it, which is sent no token."""
        return f"http://localhost:{self.server.server_address[1]}"

    def _batch(self, repo: Repo) -> tuple[int, bytes, dict[str, str]]:
        if self._path.endswith("verify"):
            return _json({})
        asked = json.loads(self._body)["objects"]
        new = [one for one in asked if one["oid"] not in repo.objects]
        if new and self.served.bytes_kept + sum(one["size"] for one in new) > self.served.quota:
            self.served.refused_for_quota += 1
            raise RefusedError(403, "Private repository storage limit reached")
        objects = []
        for one in asked:
            href = {"href": f"{self._storage_url}/objects/{repo.name}/{one['oid']}"}
            objects.append(one | ({"actions": {"upload": href}} if one in new else {}))
        return _json({"transfer": "basic", "objects": objects})

    def _object(self, repo: Repo, name: str) -> tuple[int, bytes, dict[str, str]]:
        """The storage host: it is sent no token."""
        if self.command != "PUT":
            return self._part(repo.content(Entry(0, object=name)), {"ETag": f'"{name}"'})
        if hashlib.sha256(self._body).hexdigest() != name:
            raise RefusedError(400, "another object than was announced")
        with repo.lock:
            repo.objects[name] = self._body
        return _json({})

    def _resolve(self, repo: Repo, revision: str, path: str) -> tuple[int, bytes, dict[str, str]]:
        commit, entry = repo.entry(revision, path)
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{entry.etag}"', "X-Linked-Size": str(entry.size)}
        if entry.object:
            place = {"Location": f"{self._storage_url}/objects/{repo.name}/{entry.object}"}
            return 302, b"", headers | place | {"X-Linked-ETag": f'"{entry.object}"'}
        return self._part(repo.content(entry), headers)

    def _part(self, content: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """The content, or from where a broken download goes on."""
        headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return 206, content[start:], headers
        return 200, content, headers


def _json(value: Any) -> tuple[int, bytes, dict[str, str]]:
    return 200, json.dumps(value).encode(), {}


def _who(account: "Account | None") -> dict[str, Any]:
    if account is None:
        raise RefusedError(401, "Invalid username or password.")
    orgs = [{"type": "org", "name": org, "roleInOrg": "write"} for org in account.orgs]
    orgs += [{"type": "org", "name": org, "roleInOrg": "read"} for org in account.reads]
    token = {"displayName": "test", "role": account.role}
    return {"type": "user", "name": account.user, "orgs": orgs,
            "auth": {"type": "access_token", "accessToken": token}}  # fmt: skip


def _told(path: str, entry: Entry) -> dict[str, Any]:
    told = {"type": "file", "path": path, "size": entry.size, "oid": entry.oid}
    return told | ({"lfs": {"oid": entry.object, "size": entry.size, "pointerSize": 130}} if entry.object else {})
