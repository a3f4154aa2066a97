import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from gemmazero.data.shards import TokenShards
from gemmazero.errors import CheckpointError, DataError
from gemmazero.evaluation import perplexity
from gemmazero.evaluation.perplexity import evaluate, evaluating, window_count
from gemmazero.model.gemma import Gemma
from tiny_run import VOCABULARY, make_model, make_trainer, prepare_data

LENGTH = 16


@pytest.fixture(scope="session")
def shards(tiny_data: Path) -> TokenShards:
    shards = TokenShards(tiny_data, "validation")
    assert (len(shards) - 1) % LENGTH, "the last window must be a partial one"
    return shards


def literal(model: Gemma, shards: TokenShards, windows: list[int]) -> tuple[float, int, int]:
    """transformers' own nats, right guesses and predictions, a window at a time."""
    twin = Gemma3ForCausalLM(Gemma3TextConfig(**model.config.to_json(), attn_implementation="eager")).eval()
    twin.load_state_dict(model.state_dict(), strict=False)
    ids = torch.from_numpy(shards.read(0, len(shards)).astype("int64"))
    nats, correct, predictions = 0.0, 0, 0
    for window in windows:
        some = ids[window * LENGTH : (window + 1) * LENGTH + 1]
        with torch.inference_mode():
            logits = twin(some[None, :-1]).logits[0].double()
        nats += float(F.cross_entropy(logits, some[1:], reduction="sum"))
        correct += int((logits.argmax(-1) == some[1:]).sum())
        predictions += len(some) - 1
    return nats, correct, predictions


@pytest.mark.parametrize("rows_at_once", [512, 7])
def test_figures_are_those_of_transformers_over_disjoint_windows(
    shards: TokenShards, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perplexity, "_BYTES_AT_ONCE", rows_at_once * 4 * VOCABULARY)
    model = make_model()
    windows = window_count(shards, LENGTH)
    assert (windows - 1) * LENGTH < len(shards) - 1 < windows * LENGTH
    nats, correct, predictions = literal(model, shards, list(range(windows)))
    assert predictions == len(shards) - 1, "every token but the first is predicted once"
    evaluation = evaluate(model, shards, sequence_length=LENGTH)
    assert evaluation.tokens == predictions
    assert evaluation.split == "validation"
    assert evaluation.loss == pytest.approx(nats / predictions, rel=1e-6)
    assert evaluation.perplexity == pytest.approx(math.exp(nats / predictions), rel=1e-5)
    assert evaluation.accuracy == correct / predictions
    assert evaluation.bits_per_byte == pytest.approx(nats / math.log(2) / shards.text_bytes, rel=1e-6)


def test_part_of_the_windows_is_scored_alone(shards: TokenShards) -> None:
    model = make_model()
    last = window_count(shards, LENGTH) - 1
    windows = [last, 0, 3]
    nats, correct, predictions = literal(model, shards, windows)
    evaluation = evaluate(model, shards, sequence_length=LENGTH, windows=windows)
    assert (evaluation.tokens, evaluation.accuracy) == (predictions, correct / predictions)
    assert evaluation.loss == pytest.approx(nats / predictions, rel=1e-6)
    bits_of_all = nats / predictions * (len(shards) - 1) / math.log(2)
    assert evaluation.bits_per_byte == pytest.approx(bits_of_all / shards.text_bytes, rel=1e-6)


def test_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary(shards: TokenShards) -> None:
    model = make_model()
    with torch.no_grad():
        model.output_weight.zero_()
    evaluation = evaluate(model, shards, sequence_length=LENGTH)
    assert evaluation.loss == pytest.approx(math.log(VOCABULARY), rel=1e-6)
    assert evaluation.perplexity == pytest.approx(VOCABULARY, rel=1e-5)


def test_model_of_no_numbers_is_an_error(shards: TokenShards) -> None:
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(CheckpointError, match="loss is nan") as raised:
        evaluate(model, shards, sequence_length=LENGTH)
    assert raised.value.hint
    assert model.training


def test_windows_longer_than_the_split_are_one_window(shards: TokenShards) -> None:
    model = make_model()
    assert window_count(shards, len(shards)) == window_count(shards, len(shards) - 1) == 1
    whole = evaluate(model, shards, sequence_length=len(shards) - 1)
    assert whole.tokens == len(shards) - 1
    assert evaluate(model, shards, sequence_length=len(shards)) == whole


def test_running_result_counts_up_to_the_final_one(shards: TokenShards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "TOKENS_AT_ONCE", 4 * LENGTH)
    results = list(evaluating(make_model(), shards, sequence_length=LENGTH))
    windows = (len(shards) - 1) // LENGTH
    assert len(results) == -(-windows // 4) + 1
    assert [result.tokens for result in results][:2] == [4 * LENGTH, 8 * LENGTH]
    assert results[-1].tokens == len(shards) - 1


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_leaves_the_model_as_it_was(shards: TokenShards, training: bool) -> None:
    model = make_model().train(training)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    random = torch.get_rng_state()
    evaluate(model, shards, sequence_length=LENGTH)
    next(abandoned := evaluating(model, shards, sequence_length=LENGTH))
    abandoned.close()
    assert model.training is training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_narrow_arithmetic_changes_little(shards: TokenShards, tiny_data: Path) -> None:
    trainer = make_trainer(tiny_data, precision="bf16")
    exact = evaluate(trainer.model, shards, sequence_length=LENGTH)
    narrow = evaluate(trainer.model, shards, sequence_length=LENGTH, autocast=trainer.precision.autocast)
    assert narrow.loss != exact.loss
    assert narrow.loss == pytest.approx(exact.loss, rel=5e-3)


def test_split_without_text_is_an_error(tmp_path: Path) -> None:
    data = prepare_data(tmp_path / "none", documents=3, validation_fraction=0.0)
    with pytest.raises(DataError, match='"validation" holds no text') as raised:
        evaluate(make_model(), TokenShards(data, "validation"), sequence_length=LENGTH)
    assert "--validation-fraction" in raised.value.hint


def test_tokens_that_the_model_does_not_have_are_refused(shards: TokenShards) -> None:
    small = Gemma(replace(make_model().config, vocab_size=90, pad_token_id=None))
    with pytest.raises(DataError, match="the model has 90"):
        evaluate(small, shards, sequence_length=LENGTH)
