"""Two saved states of a run, here and on the Hub: which one comes after the other."""

from dataclasses import dataclass
from itertools import takewhile

from gemmazero.json_file import parse_json
from gemmazero.run_config import Extension, RunConfig


@dataclass(frozen=True, kw_only=True)
class State:
    """A checkpoint by what it says of itself.

    Args:
        config: the run, as it was extended when this was read.
        step: optimizer steps done.
        extensions: of the run when the checkpoint was saved.
        history: the lines of ``history.jsonl``.
    """

    config: RunConfig
    step: int
    extensions: tuple[Extension, ...]
    history: tuple[str, ...]

    def __str__(self) -> str:
        return f"run {self.config.run_id} at step {self.step:,}"

    def comes_after(self, other: "State") -> bool:
        """Whether nothing of ``other`` is lost where this one takes its place; a state comes after itself.

        That is so where it has done all that ``other`` had done, or has left it behind: the run went back, or was
        extended from an earlier step. Histories hold no times, so those of one run are equal as far as both go.
        """
        if self.config.run_id != other.config.run_id:
            return False
        common = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.history, other.history, strict=False))
        )
        if common == len(other.history):
            return common < len(self.history) or len(self.config.extensions) >= len(other.config.extensions)
        return self._went_back_from(other, common) or self._was_extended_before(other, common)

    def _went_back_from(self, other: "State", common: int) -> bool:
        """Whether this history goes on, after ``common`` lines, with a way back from ``other``'s step or later."""
        line = parse_json(self.history[common].encode()) if common < len(self.history) else {}
        return line.get("event") == "rolled_back" and line["from_step"] >= other.step

    def _was_extended_before(self, other: "State", common: int) -> bool:
        """Whether the run was told, when ``other`` was there, to go on from a step before it."""
        known = len(other.extensions)
        if self.config.passes(other.step, other.extensions) or other.extensions != self.config.extensions[:known]:
            return False
        left_at = self.config.extensions[known].step
        return all(parse_json(line.encode())["step"] > left_at for line in other.history[common:])
