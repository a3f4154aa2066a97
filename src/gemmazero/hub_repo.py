"""A model repository on the Hub: read at a commit, changed by whole commits, kept small."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from gemmazero.errors import HubError
from gemmazero.hub import hub_failures, patiently
from gemmazero.hub_content import Content

MAIN = "main"
ATTRIBUTES = ".gitattributes"  # the Hub's own: which files are large objects

_LARGE = ".safetensors"
_PERHAPS_LARGE = 2**20  # bytes
_SURELY_LARGE = 10 * 2**20  # bytes; the Hub keeps all files beyond as large objects


class HubRepo:
    """The model repository ``name``, with the token of ``HF_TOKEN`` or ``hf auth login``.

    Every method asks the Hub, never a cache, waits no longer than the client's timeouts, and raises HubError.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._account: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f'"{self.name}"'

    def require_rights(self) -> None:
        """Ask whose the token is, once. Raises HubError where it is nobody's, or may surely not write here."""
        if self._account is not None:
            return
        with hub_failures("the account"):
            account: dict[str, Any] = self._api.whoami()
        token = (account.get("auth") or {}).get("accessToken") or {}
        if token.get("role") == "read":
            hint = "make a token that may write, then set HF_TOKEN, or run: hf auth login"
            raise HubError(f"the token may read {self}, but not write to it", hint, kind="refused")
        orgs = [org for org in account.get("orgs") or [] if org.get("roleInOrg") != "read"]
        spaces = [account.get("name"), *(org.get("name") for org in orgs)]
        owner = self.name.split("/")[0]
        if token.get("role") == "write" and owner not in spaces:
            hint = f"--hub-repo {account.get('name')}/{self.name.split('/')[1]}"
            raise HubError(f'the token of "{account.get("name")}" may not write under "{owner}"', hint, kind="refused")
        self._account = account

    def head(self, branch: str) -> str | None:
        """The commit that ``branch`` stands at; None where the Hub itself says that there is none."""
        self.require_rights()  # a repository that is hidden from a token that has expired looks like one that is not
        try:
            with hub_failures(f"repository {self}", branch):
                sha: str | None = self._api.repo_info(self.name, revision=branch).sha
        except HubError as error:
            if error.kind == "absent":
                return None
            raise
        if sha is None:
            raise HubError(f"the Hub does not say where {self} stands", kind="unknown")
        return sha

    def files(self, sha: str) -> dict[str, Content]:
        """What each file of the commit holds."""
        with hub_failures(f"repository {self}", sha):
            found = [item for item in self._api.list_repo_tree(self.name, revision=sha, recursive=True)
                     if hasattr(item, "blob_id")]  # fmt: skip
        return {item.path: Content.told(item) for item in found}

    def create(self, *, private: bool) -> None:
        """Make the repository, which is not shown to this token. Raises HubError where it is there all the same."""
        try:
            with hub_failures(f"repository {self}"):
                self._api.create_repo(self.name, private=private or None)
        except HubError as error:
            if error.kind != "conflict":
                raise
            hint = "set HF_TOKEN to one that sees it; --hub-repo names another"
            raise HubError(f"{self} is there, but not shown to this token", hint, kind="refused") from error

    def is_public(self) -> bool:
        """Whether everybody may read it; False where it is not there."""
        try:
            with hub_failures(f"repository {self}"):
                return self._api.repo_info(self.name).private is False
        except HubError as error:
            if error.kind == "absent":
                return False
            raise

    def create_branch(self, branch: str) -> None:
        """Make ``branch`` from main, where it is not there."""
        with hub_failures(f"repository {self}"):
            self._api.create_branch(self.name, branch=branch, revision=MAIN, exist_ok=True)

    def commit(
        self, branch: str, add: Mapping[str, Path | bytes], delete: Collection[str], *, parent: str, message: str
    ) -> str:
        """Change ``branch`` by one commit upon ``parent``; returns its id. Files that are as they were are not sent.

        Raises:
            HubError: of kind ``conflict`` where the branch has moved. After any other it may have happened all the
                same: read the head before it is tried again.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        additions = [
            CommitOperationAdd(
                path_in_repo=path, path_or_fileobj=content if isinstance(content, bytes) else str(content)
            )
            for path, content in add.items()
        ]
        with hub_failures(f"repository {self}", branch):
            for addition in additions:
                is_large = addition.path_in_repo.endswith(_LARGE) or addition.upload_info.size > _PERHAPS_LARGE
                if is_large:  # one by one: what has arrived need not be sent again, and no thread outlives this one
                    self._api.preupload_lfs_files(self.name, [addition], revision=branch, free_memory=False)
            deletions = [CommitOperationDelete(path_in_repo=path) for path in delete]
            info = self._api.create_commit(
                self.name, [*additions, *deletions], commit_message=message, revision=branch, parent_commit=parent
            )
        return str(info.oid)

    def squash(self, branch: str, message: str) -> None:
        """Make the state of ``branch`` its only commit."""
        with hub_failures(f"repository {self}", branch):
            self._api.super_squash_history(self.name, branch=branch, commit_message=message)

    def free(self) -> None:
        """Delete the large objects that no commit refers to any more, of all that any ref leads to."""
        api, used = self._api, set()
        with hub_failures(f"repository {self}"):
            kept = list(api.list_lfs_files(self.name))  # first: what is uploaded meanwhile is not among them
            refs = api.list_repo_refs(self.name, include_pull_requests=True)
            groups = (refs.branches, refs.converts, refs.tags, refs.pull_requests or [])
            heads = {ref.target_commit for group in groups for ref in group}
            commits = {commit.commit_id for head in heads for commit in api.list_repo_commits(self.name, revision=head)}
        for sha in commits | heads:
            for path, content in self.files(sha).items():
                if content.sha256 is None and (path.endswith(_LARGE) or content.size > _SURELY_LARGE):
                    return  # what object it is stays unknown
                used.add(content.sha256)
        with hub_failures(f"repository {self}"):
            if unused := [file for file in kept if file.file_oid not in used]:
                api.permanently_delete_lfs_files(self.name, unused, rewrite_history=False)

    def download(self, sha: str, files: Mapping[str, Content], folder: Path) -> None:
        """Bring files of the commit into ``folder`` under their paths, each tried again until it is what was told.

        Raises HubError of kind ``damaged`` for one that stays another, and for a path that leads out of the folder.
        """
        for path, content in files.items():
            if PurePosixPath(path).is_absolute() or {"..", ""} & set(path.split("/")) or "\\" in path:
                raise HubError(f'{self} holds a file with the path "{path}"', kind="damaged")
            patiently(lambda path=path, content=content: self._download(sha, path, content, folder))  # type: ignore[misc]
        shutil.rmtree(folder / ".cache", ignore_errors=True)

    def read(self, sha: str, path: str, content: Content, folder: Path) -> bytes:
        """The bytes of a small file of the commit, brought into ``folder``."""
        self.download(sha, {path: content}, folder)
        return (folder / path).read_bytes()

    @property
    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(token=True)

    def _download(self, sha: str, path: str, content: Content, folder: Path) -> None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils.tqdm import disable_progress_bars

        with hub_failures(f'"{path}" of repository {self}', sha):
            disable_progress_bars()
            hf_hub_download(self.name, path, revision=sha, local_dir=folder, force_download=True, token=True)
        if not Content.of_file(folder / path).matches(content):
            raise HubError(f'"{path}" of repository {self} arrived damaged', "run the command again", kind="damaged")
