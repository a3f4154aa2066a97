"""What the loopback Hub keeps: model repositories, each some refs on a history of commits, and its large objects."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.png filter=lfs diff=lfs merge=lfs -text\n"
Operation = tuple[str, dict[str, str], bytes]  # key, value, content of a small file


class RefusedError(Exception):
    """What the Hub answers in place of what was asked for: a status, and the code that its client looks at."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class Entry:
    """A file of a commit: its content where it is small, else the SHA-256 sum of a large object."""

    size: int
    content: bytes = b""
    object: str = ""

    @property
    def oid(self) -> str:
        """git's own name of what it keeps of the file."""
        kept = self.content
        if self.object:
            kept = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.object}\nsize {self.size}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(kept) + kept).hexdigest()

    @property
    def etag(self) -> str:
        """What the Hub names it by when it is downloaded."""
        return self.object or self.oid


@dataclass(frozen=True)
class Commit:
    """A state of a branch."""

    sha: str
    files: Mapping[str, Entry]
    message: str
    parent: str = ""


@dataclass
class Repo:
    """A model repository. Its branches are ``refs/heads/…``; ``objects`` are large files by their SHA-256 sum."""

    name: str
    owner: str
    private: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.refs["refs/heads/main"] = self.add({".gitattributes": _small(ATTRIBUTES)}, "initial commit", "")

    def add(self, files: Mapping[str, Entry], message: str, parent: str) -> str:
        """A commit that no ref is moved to yet."""
        sha = hashlib.sha1(f"{len(self.commits)} {message} {parent}".encode()).hexdigest()
        self.commits[sha] = Commit(sha, dict(files), message, parent)
        return sha

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag, a ref or a full id means. Raises RefusedError."""
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if name in self.refs:
                return self.commits[self.refs[name]]
        if revision in self.commits and any(revision == one.sha for one in self.reachable()):
            return self.commits[revision]
        raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def history(self, sha: str) -> Iterator[Commit]:
        """A commit, its parent, …"""
        while sha:
            yield self.commits[sha]
            sha = self.commits[sha].parent

    def reachable(self) -> Iterator[Commit]:
        """Every commit that a ref leads to."""
        for sha in list(self.refs.values()):
            yield from self.history(sha)

    def branch(self, name: str) -> str:
        """The ref of a branch. Raises RefusedError."""
        ref = f"refs/heads/{name}"
        if ref not in self.refs:
            raise RefusedError(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return ref

    def entry(self, revision: str, path: str) -> tuple[Commit, Entry]:
        """A file, and the commit it is of. Raises RefusedError."""
        commit = self.resolve(revision)
        if path not in commit.files:
            raise RefusedError(404, "Entry not found", "EntryNotFound")
        return commit, commit.files[path]

    def content(self, entry: Entry) -> bytes:
        """The bytes of a file. Raises RefusedError where its object was deleted."""
        if entry.object and entry.object not in self.objects:
            raise RefusedError(404, "the object is gone", "EntryNotFound")
        return self.objects[entry.object] if entry.object else entry.content

    def change(
        self, branch: str, parent: str, message: str, operations: list[tuple[str, dict[str, str], bytes]]
    ) -> str:
        """Commit to a branch, all or nothing; each operation is a key, its value and a small file's content."""
        with self.lock:
            ref = self.branch(branch)
            if parent and parent != self.refs[ref]:
                raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
            files = dict(self.commits[self.refs[ref]].files)
            for key, value, content in operations:
                path = value["path"]
                if key == "file":
                    files[path] = _small(content)
                elif key == "lfsFile":
                    if value["oid"] not in self.objects:
                        raise RefusedError(400, f"an LFS pointer pointed to a file that does not exist: {path}")
                    files[path] = Entry(len(self.objects[value["oid"]]), object=value["oid"])
                elif key == "deletedFile" and path in files:
                    del files[path]
                else:
                    raise RefusedError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            self.refs[ref] = self.add(files, message, self.refs[ref])
            return self.refs[ref]

    def squash(self, branch: str, message: str) -> str:
        """Make the branch's state its only commit."""
        with self.lock:
            ref = self.branch(branch)
            self.refs[ref] = self.add(self.commits[self.refs[ref]].files, message, "")
            return self.refs[ref]

    def delete(self, objects: set[str], *, rewrites_history: bool) -> None:
        """Delete large objects; with ``rewrites_history`` every branch loses the files that held them."""
        with self.lock:
            for name in objects:
                self.objects.pop(name, None)
            if rewrites_history:
                for ref, sha in self.refs.items():
                    files = {path: one for path, one in self.commits[sha].files.items() if one.object not in objects}
                    if files != self.commits[sha].files:
                        self.refs[ref] = self.add(files, self.commits[sha].message, "")

    def state(self, branch: str) -> dict[str, bytes]:
        """The files of a branch: for tests to look at."""
        return {path: self.content(entry) for path, entry in self.resolve(branch).files.items()}


def _small(content: bytes) -> Entry:
    return Entry(len(content), content=content)
