from pathlib import Path

import pytest
import torch
from gemma_oracle import FULL, SHAPES, SLIDING, random_gemma, random_ids, tiny_config, transformers_twin
from torch import Tensor
from torch.nn import functional as F

from gemmazero.model.gemma import Gemma

# Of the largest number: transformers' own eager and sdpa gradients differ by 2.4e-6 on these shapes.
NOISE = 1e-5


def loss_of(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def assert_close(ours: Tensor, theirs: Tensor, what: str) -> None:
    assert (ours - theirs).abs().max() <= NOISE * theirs.abs().max(), what


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_loss_and_every_gradient_equal_those_of_transformers(shape: str) -> None:
    config = tiny_config(**SHAPES[shape])
    model = random_gemma(config)
    twin = transformers_twin(model)
    ids = random_ids(config, batch=3, time=29)

    logits, output = model(ids), twin(ids, labels=ids)
    loss = loss_of(logits, ids)
    loss.backward()
    output.loss.backward()

    assert_close(logits, output.logits, "logits")
    assert loss.item() == pytest.approx(output.loss.item(), rel=2e-6)
    theirs = dict(twin.named_parameters())
    assert set(theirs) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.any() or config.sliding_window == 1, name  # one key: its weight is 1 whatever the query
        assert_close(parameter.grad, theirs[name].grad, name)


def rms(error: Tensor) -> float:
    return error.float().square().mean().sqrt().item()


@pytest.mark.parametrize("shape", ["gemma3", "gemma3 scaled rope", "gemma2", "gemma2 tight caps"])
def test_bf16_error_is_at_most_twice_that_of_transformers(shape: str, tmp_path: Path) -> None:
    config = tiny_config(**SHAPES[shape])
    model = random_gemma(config)
    twin = transformers_twin(model)
    ids = random_ids(config, batch=4, time=64)
    twin.save_pretrained(tmp_path)  # .to(bfloat16) would round the RoPE frequencies too: no reference
    narrow_twin = type(twin).from_pretrained(tmp_path, dtype=torch.bfloat16, attn_implementation="eager")
    with torch.no_grad():
        exact = twin(ids).logits
        allowed = 2 * rms(narrow_twin(ids).logits - exact)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            autocast_error = rms(model(ids) - exact)
        bf16_error = rms(model.to(torch.bfloat16)(ids) - exact)
    assert 0 < autocast_error <= allowed
    assert 0 < bf16_error <= allowed


def test_embedding_scale_is_rounded_to_the_dtype_of_the_weights() -> None:
    model = Gemma(tiny_config(hidden_size=3072, num_hidden_layers=1, layer_types=(FULL,), intermediate_size=8))
    seen = []
    model.model.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.model.embed_tokens.weight.data.fill_(1.0)
    with torch.no_grad():
        model(torch.tensor([[0]]))
        model.to(torch.bfloat16)(torch.tensor([[0]]))
    assert seen[0][0, 0, 0].item() == pytest.approx(3072**0.5, rel=1e-7)  # 55.4256…
    assert seen[1][0, 0, 0].item() == 55.5


@pytest.mark.parametrize(
    ("kinds", "first_seen"),
    [((SLIDING,), 6), ((SLIDING, SLIDING), 3), ((FULL,), 0), ((SLIDING, FULL), 0)],
    ids=["one sliding", "two sliding", "one full", "sliding, then full"],
)
@pytest.mark.parametrize("model_type", ["gemma3_text", "gemma2"])
def test_gradient_of_a_position_reaches_its_window_and_nothing_else(
    model_type: str, kinds: tuple[str, ...], first_seen: int
) -> None:
    config = tiny_config(
        model_type=model_type, layer_types=kinds, num_hidden_layers=len(kinds), sliding_window=4,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = random_gemma(config)
    model.hidden(torch.arange(12)[None])[0, 9].sum().backward()  # position t holds token t
    gradient = model.model.embed_tokens.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(-1).nonzero().flatten().tolist() == list(range(first_seen, 10))


@pytest.mark.parametrize("shape", ["gemma3", "gemma2"])
def test_gradient_checkpointing_changes_no_bit(shape: str) -> None:
    config = tiny_config(**SHAPES[shape])
    ids = random_ids(config, batch=2, time=17)
    results = []
    for gradient_checkpointing in (False, True):
        model = random_gemma(config).train()
        model.model.gradient_checkpointing = gradient_checkpointing
        loss = loss_of(model(ids), ids)
        loss.backward()
        results.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(plain, recomputed) for plain, recomputed in zip(*results, strict=True))


def test_gradient_checkpointing_keeps_fewer_activations() -> None:
    config = tiny_config()
    ids = random_ids(config, batch=2, time=64)
    kept = []
    for gradient_checkpointing in (False, True):
        model = random_gemma(config).train()
        model.model.gradient_checkpointing = gradient_checkpointing
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):  # type: ignore[func-returns-value]
            model(ids)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


def test_initial_matrices_are_normal_and_norm_weights_zero() -> None:
    model = Gemma(tiny_config(initializer_range=0.02, vocab_size=2000, tie_word_embeddings=False))
    model.initialize(torch.Generator().manual_seed(3))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert not parameter.any(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
            assert abs(parameter.mean().item()) < 0.002, name


def test_initial_weights_depend_on_the_seed_alone() -> None:
    models = [Gemma(tiny_config()) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        model.initialize(torch.Generator().manual_seed(seed))
    first, same, other = (model.model.layers[0].mlp.up_proj.weight for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_logits_are_float32_whatever_the_weights_are() -> None:
    model = random_gemma(tiny_config()).to(torch.bfloat16)
    ids = random_ids(model.config, batch=1, time=3)
    assert model.hidden(ids).dtype == torch.bfloat16
    assert model(ids).dtype == torch.float32


def test_final_cap_bounds_every_logit() -> None:
    model = random_gemma(tiny_config(final_logit_softcapping=0.5))
    uncapped = random_gemma(tiny_config())
    ids = random_ids(model.config, batch=2, time=9)
    assert uncapped(ids).abs().max() > 0.5
    assert model(ids).abs().max() < 0.5


def test_forward_is_hidden_then_logits() -> None:
    model = random_gemma(tiny_config(final_logit_softcapping=2.0))
    ids = random_ids(model.config, batch=2, time=9)
    assert torch.equal(model(ids), model.logits(model.hidden(ids)))


def test_tied_head_is_one_parameter_with_the_embedding() -> None:
    tied, untied = Gemma(tiny_config()), Gemma(tiny_config(tie_word_embeddings=False))
    assert tied.output_weight is tied.model.embed_tokens.weight
    assert untied.output_weight is not untied.model.embed_tokens.weight
    assert sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters()) == 97 * 48


@pytest.mark.parametrize("shape", SHAPES)
def test_config_counts_the_parameters_that_transformers_has(shape: str) -> None:
    config = tiny_config(**SHAPES[shape])
    twin = transformers_twin(random_gemma(config))
    assert config.parameters == sum(parameter.numel() for parameter in twin.parameters())


@pytest.mark.parametrize("shape", ["gemma3", "gemma2 untied, groups of four"])
def test_parameters_carry_the_names_of_transformers(shape: str) -> None:
    model = Gemma(tiny_config(**SHAPES[shape]))
    twin = transformers_twin(model)
    assert {name: weight.shape for name, weight in model.named_parameters()} == {
        name: weight.shape for name, weight in twin.named_parameters()
    }
