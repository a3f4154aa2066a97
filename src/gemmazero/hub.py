"""The Hub's client: timeouts, what an error means, patience, pinned revisions, verified files."""

import errno
import functools
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from gemmazero.errors import DataError, GemmaZeroError, HubError, HubFailure
from gemmazero.hub_content import Content

TRIES = 5  # of what somebody waits for
LONGEST_WAIT = 300.0  # seconds between two tries, whatever the Hub asks for

HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
"""What a repo on the Hub may be called: ``user/name``."""

_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 180
"""After the last byte of a large upload the server may work for long before it answers."""

_MEND = "set HF_TOKEN, or run: hf auth login"

Value = TypeVar("Value")


def resolve_dataset(name: str, revision: str | None) -> str:
    """The commit that ``revision`` (a branch, a tag; by default ``main``) of the dataset ``name`` stands at now.

    The Hub itself is asked, never a cache; a full commit id is taken as it is. Raises HubError.
    """
    from huggingface_hub import HfApi

    return _resolved(f'dataset "{name}"', revision, lambda: HfApi().dataset_info(name, revision=revision).sha)


def resolve_model(name: str, revision: str | None) -> str:
    """The commit that ``revision`` of the model repo ``name`` stands at now, as ``resolve_dataset``."""
    from huggingface_hub import HfApi

    return _resolved(f'model "{name}"', revision, lambda: HfApi().model_info(name, revision=revision).sha)


def _resolved(what: str, revision: str | None, ask: Callable[[], str | None]) -> str:
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    with hub_failures(what, revision):
        sha = ask()
        if sha is None:
            raise ValueError("no commit in the answer")
        return sha


def patiently(action: Callable[[], Value], tries: int = TRIES) -> Value:
    """What ``action`` gives; tried again where the Hub could not be reached, was busy, or sent something damaged.

    Raises HubError: the last try's.
    """
    for failed in range(1, tries):
        try:
            return action()
        except HubError as error:
            if not may_pass(error):
                raise
            time.sleep(seconds_to_wait(error, failed))
    return action()


def may_pass(error: HubError) -> bool:
    """Whether the same may go well when it is tried again."""
    return error.kind in ("unreachable", "damaged")


def seconds_to_wait(error: HubError, failed: int) -> float:
    """Before the next try, after ``failed`` that failed: 1, 2, 4, …, and no less than the Hub asked for."""
    return max(min(2.0 ** min(failed - 1, 30), LONGEST_WAIT), error.retry_after)


def download_files(
    name: str, commit: str, files: Collection[str], *, is_dataset: bool = False, limit_bytes: int | None = None
) -> list[Path]:
    """Those of ``files`` that a model repo, or a dataset, has at ``commit``: where they are in the Hub's cache.

    The client compares sizes alone. Here each file is compared with the sum that the Hub lists, and downloaded once
    more where it is another. Raises HubError, and DataError for a file larger than ``limit_bytes``.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    kind = "dataset" if is_dataset else "model"
    with hub_failures(f'{kind} "{name}"', commit):
        is_deep = any("/" in file for file in files)
        tree = HfApi().list_repo_tree(name, revision=commit, repo_type=kind, recursive=is_deep)
        entries = [entry for entry in tree if isinstance(entry, RepoFile) and entry.path in files]
        for entry in entries:
            if limit_bytes is not None and entry.size > limit_bytes:
                raise DataError(f'"{entry.path}" of "{name}" has {entry.size} bytes', "name another")
        return [download_listed(name, commit, entry, kind=kind) for entry in entries]


def download_listed(name: str, commit: str, entry: Any, *, kind: str = "model") -> Path:
    """A file that the Hub lists at ``commit``: where it is in the Hub's cache; downloaded once more where it differs.

    Raises HubError where it still does, and what the client raises.
    """
    from huggingface_hub import hf_hub_download

    for again in (False, True):
        path = Path(hf_hub_download(name, entry.path, revision=commit, repo_type=kind, force_download=again))
        if Content.of_file(path).matches(Content.told(entry)):
            return path
    raise HubError(f'"{entry.path}" of "{name}" arrived damaged, twice', "run the command again later", kind="damaged")


@contextmanager
def hub_failures(what: str, revision: str | None = None) -> Iterator[None]:
    """Turn whatever the Hub's client raises inside into a HubError that says what happened to ``what``.

    The client's own text is never repeated: it may quote requests. A full disk is a DataError.
    """
    _set_up_client()
    try:
        yield
    except GemmaZeroError:
        raise
    except Exception as error:  # the client raises httpx's, the operating system's and datasets' own, by timing
        raise _explained(error, what, revision) from error


@functools.cache
def _set_up_client() -> None:
    """Most calls of the client wait for ever as it comes, and its progress bars redraw into log files."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory
    from huggingface_hub.utils.tqdm import disable_progress_bars

    asked = os.environ.get("GEMMAZERO_HUB_TIMEOUT", "")
    seconds = int(asked) if asked.isdecimal() and int(asked) else _ANSWER_SECONDS

    def client():  # type: ignore[no-untyped-def]  # of httpx or httpx2, by the version of huggingface_hub
        built = default_client_factory()
        built.timeout = (min(_CONNECT_SECONDS, seconds), seconds, seconds, _CONNECT_SECONDS)
        return built

    set_client_factory(client)
    if "HF_HUB_VERBOSITY" not in os.environ:
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each try, with signed addresses
    if not sys.stderr.isatty():
        disable_progress_bars()


def _explained(error: Exception, what: str, revision: str | None) -> GemmaZeroError:
    """Absent, forbidden, unreachable or damaged: as the first in the chain of causes tells that tells anything."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    # The client looks for files that need not exist: that one does not is the cause of nothing that follows.
    causes = list(takewhile(lambda cause: not isinstance(cause, RemoteEntryNotFoundError), _causes(error)))
    told = (_told_by(cause, what, revision) for cause in causes)
    unknown: GemmaZeroError = HubError(
        f"{what} could not be read from the Hub: {type(error).__name__}", "run the command again later"
    )
    if type(error).__name__ in ("EmptyDatasetError", "DataFilesNotFoundError"):  # of datasets, which is not imported
        unknown = DataError(f"{what} has no files that can be read", "its page on the Hub lists those that it has")
    return next(filter(None, told), unknown)


def _told_by(error: BaseException, what: str, revision: str | None) -> GemmaZeroError | None:
    from huggingface_hub import errors

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or _status_in(error)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError(f"{what} was not looked up: HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE", kind="offline")
    if isinstance(error, errors.LocalTokenNotFoundError):
        return HubError(f"there is no token for the Hub, which {what} needs", _MEND, kind="refused")
    if isinstance(error, UnicodeEncodeError) and str(error.object).startswith("Bearer "):
        message = "the token for the Hub has a character that no token has: it must be plain ASCII"
        return HubError(message, _MEND, kind="refused")
    if isinstance(error, errors.GatedRepoError):
        hint = "ask for access on its page, then set HF_TOKEN or run: hf auth login"
        return HubError(f"{what} is gated", hint, kind="refused")
    if isinstance(error, errors.RepositoryNotFoundError):
        hint = "check the spelling; a private one needs HF_TOKEN, or: hf auth login"
        message = f"the Hub knows no {what}, or does not show it to you"
        return HubError(message, hint, kind="absent" if status == 404 else "refused")
    if isinstance(error, errors.RevisionNotFoundError):
        hint = "a revision, of MODEL@REVISION or --revision, is a branch, a tag or a commit"
        return HubError(f'{what} has no revision "{revision}"', hint, kind="absent")
    if status:
        return _told_by_status(status, response, what)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(f"no space left on the disk for {what}", "free some, or set HF_HOME to a folder elsewhere")
    transport = any(kind.__name__ == "TransportError" for kind in type(error).__mro__)  # httpx's, or httpx2's
    if transport or isinstance(error, (ConnectionError, TimeoutError, errors.LocalEntryNotFoundError)):
        hint = "check the network and HF_ENDPOINT, then run the command again"
        return HubError(f"the Hub could not be reached for {what}", hint, kind="unreachable")
    return None


def _told_by_status(status: int, response: object, what: str) -> HubError:
    headers = getattr(response, "headers", {})
    said = str(headers.get("X-Error-Message", "")) + str(getattr(response, "text", ""))[:1000]
    if status in (402, 403, 413) and re.search(r"storage|quota|payment", said, re.IGNORECASE):
        hint = "free some on the Hub, or upgrade the account; what is pushed already stays"
        return HubError(f"the Hub's storage is full for {what} (HTTP {status})", hint, kind="full")
    if status == 401:
        message = f"the Hub refused {what} (HTTP 401): the token is wrong or has expired"
        return HubError(message, _MEND, kind="refused")
    if status in (402, 403):
        hint = "set HF_TOKEN to one that may write there, or run: hf auth login"
        return HubError(f"the Hub refused {what} (HTTP {status})", hint, kind="refused")
    if status in (409, 412):
        return HubError(f"somebody else has changed {what} meanwhile (HTTP {status})", kind="conflict")
    limits = re.findall(r"\bt=(\d+)", str(headers.get("RateLimit", ""))) if status == 429 else []
    seconds = max(map(_seconds_until, [str(headers.get("Retry-After", "")), *limits]))
    kind: HubFailure = "unreachable" if status >= 500 or status in (408, 429) else "unknown"
    return HubError(
        f"the Hub answered HTTP {status} for {what}", "run the command again later", kind=kind, retry_after=seconds
    )


def _seconds_until(told: str) -> float:
    """Of what the Hub asks for, as seconds or as a date: ``LONGEST_WAIT`` at most, and 0 where it is neither."""
    if re.fullmatch(r"[0-9]{1,9}", told):
        return min(float(told), LONGEST_WAIT)
    try:
        return min(max(parsedate_to_datetime(told).timestamp() - time.time(), 0.0), LONGEST_WAIT)
    except (ValueError, OverflowError):
        return 0.0


def _status_in(error: BaseException) -> int | None:
    """The HTTP status in the text of an error of hf_xet's, which has it nowhere else."""
    is_xets = isinstance(error, (ConnectionError, RuntimeError)) and not getattr(error, "errno", None)
    match = re.search(r"(?:HTTP|[Ss]tatus)\D{0,30}\b([45]\d\d)\b", str(error)) if is_xets else None
    return int(match[1]) if match else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what caused it, what caused that; its context where no cause was named."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
