from pathlib import Path

from gemmazero.data.shards import TokenShards
from gemmazero.evaluation.perplexity import evaluate, window_count
from gemmazero.training.stop import Stop
from gemmazero.training.trainer import Best
from gemmazero.training.validation import Validation
from tiny_run import make_trainer, prepare_data


def test_part_is_always_the_same_and_whole_is_evaluation_s_own(tiny_data: Path) -> None:
    trainer = make_trainer(tiny_data)
    shards = TokenShards(tiny_data, "validation")
    validation = Validation(trainer, shards, trainer.config, Stop())
    first, second = validation.part(), validation.part()
    assert first is not None
    assert second is not None
    assert (first.loss, first.tokens, first.whole) == (second.loss, second.tokens, False)
    assert first.tokens <= 64 < len(shards) - 1
    whole = validation.whole()
    assert whole is not None
    assert whole.loss == evaluate(trainer.model, shards, sequence_length=16).loss
    assert (whole.whole, whole.best) == (True, False)


def test_whole_split_is_scored_once_for_a_step(tiny_data: Path) -> None:
    trainer = make_trainer(tiny_data, validation_tokens=0)
    validation = Validation(trainer, TokenShards(tiny_data, "validation"), trainer.config, Stop())
    part = validation.part()
    assert validation.whole() is part
    trainer.step = 1
    assert validation.whole() is not part


def test_lowest_loss_is_the_best_and_the_trainer_s(tiny_data: Path) -> None:
    trainer = make_trainer(tiny_data)
    shards = TokenShards(tiny_data, "validation")
    validation = Validation(trainer, shards, trainer.config, Stop())
    first = validation.part()
    assert first is not None
    assert first.best
    assert trainer.best == Best(step=0, loss=first.loss)
    trainer.best = Best(step=7, loss=first.loss - 1)
    second = validation.part()
    assert second is not None
    assert not second.best
    assert trainer.best == Best(step=7, loss=first.loss - 1)


def test_wish_to_stop_abandons_it_and_leaves_the_model_in_training(tiny_data: Path) -> None:
    trainer = make_trainer(tiny_data)
    stop = Stop()
    validation = Validation(trainer, TokenShards(tiny_data, "validation"), trainer.config, stop)
    stop.request("a wish")
    assert validation.part() is None
    assert validation.whole() is None
    assert (trainer.best, validation.last, trainer.model.training) == (None, None, True)


def test_run_without_held_out_text_has_none(tmp_path: Path) -> None:
    data = prepare_data(tmp_path / "all", documents=30, validation_fraction=0.0)
    trainer = make_trainer(data)
    shards = TokenShards(data, "validation")
    assert not Validation(trainer, shards, trainer.config, Stop()).is_possible
    assert window_count(shards, 16) <= 0
