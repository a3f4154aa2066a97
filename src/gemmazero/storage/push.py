"""A snapshot → the two tracks on the Hub, each by whole commits, whatever became of the last try."""

import re
import shlex
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gemmazero.errors import CheckpointError, HubError
from gemmazero.hub_content import Content
from gemmazero.hub_repo import ATTRIBUTES, MAIN, HubRepo
from gemmazero.regular_file import read_bytes
from gemmazero.storage.card import is_own_card, model_card
from gemmazero.storage.remote_state import CARD, HEAVY, state_at, stranger_on_main
from gemmazero.storage.snapshot import Snapshot

METRICS = "metrics.jsonl"
RUN_S_OWN = (METRICS, "loss_plot.png")  # of the run folder, beside the model on main
_LARGEST = 2**30  # bytes of either
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")

Files = Mapping[str, Path | bytes]


class Pusher:
    """Pushes the states of one run, one after the other, and nothing over what is not older than they.

    A try that failed may have happened all the same. So each begins with what the Hub holds now: what is there already
    is not pushed again.

    Args:
        repo: where to.
        private: whether to make it so, where it is not there, and to push nothing where it is public.
        overwrites: whether a state of another run, or of this one where the two have parted, may be lost.
    """

    def __init__(self, repo: HubRepo, *, private: bool, overwrites: bool) -> None:
        self.repo, self._private, self._overwrites = repo, private, overwrites
        self._is_seen_private = False
        self._left: dict[str, str] = {}  # where this object, or the one that opened the run, left each branch

    def require_private(self) -> None:
        """Raises HubError where the repository was to be private, and is public. It is asked until that is known."""
        if self._private and not self._is_seen_private and self.repo.is_public():
            hint = 'make it private on the Hub, or leave --hub-private out (in run.json: "hub_private": false)'
            raise HubError(f"{self.repo} is public, and the run is to be private", hint, kind="refused")
        self._is_seen_private = True

    def claim(self, run_id: str | None) -> None:
        """Make the repository, where it is not there.

        Raises:
            HubError: it may not be made, or holds something that is not of the run ``run_id``.
        """
        if self.repo.head(MAIN) is None:
            self.repo.create(private=self._private)
        stranger = stranger_on_main(self.repo, run_id)
        if stranger and not self._overwrites:
            raise occupied(self.repo, stranger)

    def push(self, snapshot: Snapshot) -> None:
        """Make both tracks those of ``snapshot``, then let go of what they replaced.

        Raises:
            HubError: something is not there; what was there before stays.
            CheckpointError: a copy is not what was written to it, and nothing of its track was pushed.
        """
        wanted = _contents(snapshot.heavy, snapshot)
        self.require_private()
        told = f"run {snapshot.config.run_id}, step {snapshot.step}"
        try:
            self._push_heavy(snapshot, wanted, told)
            self._push_light(snapshot, f"{told}: the model of step {snapshot.best.step}")
        except HubError as error:
            if error.kind == "full":
                with suppress(HubError):
                    self.repo.free()
            raise
        self._overwrites = False
        with suppress(HubError):  # it is done again after the next push
            self.repo.free()

    def _push_heavy(self, snapshot: Snapshot, wanted: Mapping[str, Content], message: str) -> None:
        repo = self.repo
        head = repo.head(HEAVY)
        if head is None:
            self.claim(snapshot.config.run_id)
            repo.create_branch(HEAVY)
            head = repo.head(HEAVY)
        if head is None:
            raise HubError(f"{repo} does not show its branch {HEAVY} yet", kind="unreachable")
        there = repo.files(head)
        strangers = set(there) - set(wanted) - {ATTRIBUTES}
        if strangers or not _are_in(there, wanted):
            self._require_older(snapshot, head, there)
            head = repo.commit(HEAVY, snapshot.heavy, strangers, parent=head, message=message)
            if not _are_in(repo.files(head), wanted):
                raise HubError(f"{repo} holds something else than what was pushed", kind="damaged")
        self._settle(HEAVY, head, message, wanted)

    def _push_light(self, snapshot: Snapshot, message: str) -> None:
        repo = self.repo
        head = repo.head(MAIN)
        if head is None:
            raise HubError(f"{repo} does not show its branch {MAIN}", kind="unreachable")
        files: Files = {**snapshot.light, **_read_now(snapshot.run)}
        there, wanted = repo.files(head), _contents(files, snapshot)
        keeps_card = CARD in there and not is_own_card(self._card_at(head, there))
        if not _are_in(there, wanted):
            stranger = "" if self._left.get(MAIN) == head else stranger_on_main(repo, snapshot.config.run_id)
            if stranger and not self._overwrites:
                raise occupied(repo, stranger)
            gone = set(there) - {ATTRIBUTES} if stranger else _weights(there)
            keeps_card = keeps_card and not stranger
            head = repo.commit(MAIN, files, gone - set(wanted), parent=head, message=message)
        card = model_card(
            repo.name,
            snapshot.config,
            step=snapshot.step,
            best_step=snapshot.best.step,
            validation_loss=snapshot.validation_loss,
        ).encode()
        if not keeps_card:
            wanted[CARD] = Content.of(card)
        if not keeps_card and not _are_in(
            there, {CARD: wanted[CARD]}
        ):  # alone: the Hub checks a card, and may fail at that
            head = repo.commit(MAIN, {CARD: card}, (), parent=head, message=f"{message}; its card")
        self._settle(MAIN, head, message, wanted)

    def _card_at(self, head: str, there: Mapping[str, Content]) -> bytes:
        with tempfile.TemporaryDirectory(prefix="gemmazero-") as name:
            return self.repo.read(head, CARD, there[CARD], Path(name))

    def _require_older(self, snapshot: Snapshot, head: str, there: Mapping[str, Content]) -> None:
        """Raises HubError where the branch holds what must not be lost.

        That is another run's state, or one that has parted, unless they may be overwritten; one of this run that is
        ahead, and one that is damaged.
        """
        state = None if self._left.get(HEAVY) == head else state_at(self.repo, head, there)
        if state is None or snapshot.state.comes_after(state):
            return
        if state.config.run_id != snapshot.config.run_id and not self._overwrites:
            raise occupied(self.repo, str(state))
        if not self._overwrites or state.comes_after(snapshot.state):
            raise HubError(
                f"{self.repo} holds {state}, which does not lead to step {snapshot.step:,} here",
                "another machine goes on with this run: let one of the two go on alone",
                kind="conflict",
            )

    def _settle(self, branch: str, head: str, message: str, wanted: Mapping[str, Content]) -> None:
        """Squash what the branch was before away, and remember where it stands then, if that is what was pushed.

        Main, too: the best model of an earlier push takes up as much room as that of now.
        """
        if self._left.get(branch) == head:
            return
        self._left.pop(branch, None)
        with suppress(HubError):  # it is done again after the next push
            self.repo.squash(branch, message)
            squashed = self.repo.head(branch)
            if squashed is not None and _are_in(self.repo.files(squashed), wanted):
                self._left[branch] = squashed


def occupied(repo: HubRepo, stranger: str, reason: str = "") -> HubError:
    """The error for a repository that holds something of somebody else; ``reason`` is a sentence of why it is."""
    return HubError(
        f"{repo} holds {stranger}, which would be lost" + (f". {reason}" if reason else ""),
        "--hub-repo names another repository; --hub-overwrite lets it be lost",
        kind="conflict",
    )


def _contents(files: Files, snapshot: Snapshot) -> dict[str, Content]:
    """What is to be there. Raises CheckpointError for a file of ``snapshot`` that is damaged."""
    hint = f"gemmazero resume --verify {shlex.quote(str(snapshot.run))} tells of every checkpoint"
    try:
        contents, sums = {}, snapshot.sums
    except CheckpointError as error:
        raise CheckpointError(error.message, hint) from error
    for path, content in files.items():
        contents[path] = Content.of(content) if isinstance(content, bytes) else Content.of_file(content)
        if isinstance(content, Path) and sums.get(content, contents[path].sha256) != contents[path].sha256:
            name = content.relative_to(snapshot.folder)  # which tells of its step
            raise CheckpointError(f'"{name}" is damaged on this disk: it is not what was written', hint)
    return contents


def _are_in(there: Mapping[str, Content], wanted: Mapping[str, Content]) -> bool:
    """Whether every file is there as it is wanted; there may be others."""
    return all(path in there and content.matches(there[path]) for path, content in wanted.items())


def _weights(there: Mapping[str, Content]) -> set[str]:
    """The weights on main, which other shards may take the place of; what a person put there stays."""
    return {path for path in there if _WEIGHTS.fullmatch(path)}


def _read_now(run: Path) -> dict[str, bytes]:
    """What the run tells of itself, as of now, up to the last whole line."""
    found = {}
    for name in RUN_S_OWN:
        with suppress(OSError):
            found[name] = read_bytes(run / name, _LARGEST)
    if METRICS in found:
        found[METRICS] = found[METRICS][: found[METRICS].rfind(b"\n") + 1]
    return found
