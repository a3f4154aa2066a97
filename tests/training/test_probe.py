from dataclasses import replace
from itertools import islice

import pytest

from gemmazero.config import TrainConfig
from gemmazero.training import probe as probing
from gemmazero.training.probe import RandomBatches, probe
from gemmazero.training.trainer import Attempt, Trainer
from tiny_run import MODEL, SETTINGS

TINY = TrainConfig(**SETTINGS)


def test_random_batches_are_shaped_as_the_runs_own_and_never_the_same() -> None:
    masked = replace(TINY, mask_documents=True)
    first, second = (passage.batch for passage in islice(RandomBatches(257, masked).starting_at(0), 2))
    assert first.ids.shape == first.targets.shape == (TINY.batch_size, TINY.sequence_length)
    assert first.ids[:, 1:].equal(first.targets[:, :-1])
    assert first.documents is not None
    assert 0 <= int(first.ids.min()) <= int(first.ids.max()) < 257
    assert not first.ids.equal(second.ids)
    plain = next(RandomBatches(257, TINY).starting_at(0)).batch
    assert plain.documents is None


def test_probe_of_a_huge_batch_takes_two_micro_batches_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "LEAST_SECONDS", 0.0)
    settings = replace(TINY, batch_size=4000, micro_batch_size=4, validation_tokens=0)
    seen: list[int] = []
    attempt = Trainer.attempt

    def watched(trainer: Trainer) -> Attempt:
        seen.append(len(trainer.feed[trainer.batch].ids))
        return attempt(trainer)

    monkeypatch.setattr(Trainer, "attempt", watched)
    probed = probe(MODEL, settings)
    assert seen == [8, 8, 8, 8]
    assert probed.seconds_per_step > 0
    assert probed.seconds_per_validation_token > 0
    assert probed.memory_bytes > 4 * MODEL.parameters
    assert probed.mfu is None
