from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gemmazero.training import loss as loss_file
from gemmazero.training.loss import next_token_loss, rows_at_once
from largest_tensor import LargestTensor

BATCH, TIME, WIDTH, VOCABULARY = 4, 16, 8, 97
PADDED = 128  # a row of logits is a multiple of 64, but by oneDNN
ROWS = BATCH * TIME
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # compiler
FUSED = pytest.mark.parametrize("is_fused", [False, True], ids=["", "fused"])
CAPS = pytest.mark.parametrize("softcap", [None, 5.0])


def problem(dtype: torch.dtype = torch.float32, size: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = size * torch.randn(BATCH, TIME, WIDTH, generator=generator, dtype=dtype)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=dtype)
    targets = torch.randint(VOCABULARY, (BATCH, TIME), generator=generator)
    targets[0] = 3  # one token many times
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def oracle(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
    logits = F.linear(hidden, weight).float()
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")


@pytest.fixture(autouse=True)
def uncompiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """What would be compiled runs as it is written, but in slow tests."""
    with torch.compiler.set_stance("default" if "slow" in request.keywords else "force_eager"):
        yield


@FUSED
@CAPS
@pytest.mark.parametrize("rows_a_chunk", [1, 7, ROWS, 1000])
def test_value_and_gradients_are_those_of_cross_entropy_for_any_chunk(
    softcap: float | None, rows_a_chunk: int, is_fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CHUNK_BYTES", "FUSED_CHUNK_BYTES"):
        monkeypatch.setattr(loss_file, name, rows_a_chunk * VOCABULARY * 4)
    hidden, weight, targets = problem()
    loss, nats = next_token_loss(hidden, weight, targets, softcap=softcap, multiplier=1 / ROWS, is_fused=is_fused)
    gradients = torch.autograd.grad(loss, (hidden, weight))
    expected = oracle(hidden, weight, targets, softcap)
    torch.testing.assert_close(nats, expected.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(loss, expected / ROWS, rtol=1e-6, atol=0)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected / ROWS, (hidden, weight)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@CAPS
def test_gradients_are_finite_differences(softcap: float | None) -> None:
    hidden, weight, targets = problem(torch.float64, size=0.5)

    def loss_of(hidden: Tensor, weight: Tensor) -> Tensor:
        return next_token_loss(hidden, weight, targets[:1, :3], softcap=softcap, multiplier=1.0)[0].double()

    few = hidden[:1, :3].detach().requires_grad_()
    assert torch.autograd.gradcheck(loss_of, (few, weight), eps=1e-2, atol=1e-3, rtol=1e-3)  # logits are float32


def test_multiplier_and_outer_gradient_scale_the_gradients_and_not_the_nats() -> None:
    hidden, weight, targets = problem()
    plain, nats = next_token_loss(hidden, weight, targets, softcap=None, multiplier=1.0)
    scaled, same_nats = next_token_loss(hidden, weight, targets, softcap=None, multiplier=8.0)
    assert scaled.item() == 8.0 * plain.item()
    assert nats.item() == same_nats.item() == plain.item()
    assert not nats.requires_grad
    for one, eight, sixteen in zip(
        torch.autograd.grad(plain, (hidden, weight)),
        torch.autograd.grad(scaled, (hidden, weight), retain_graph=True),
        torch.autograd.grad(2.0 * scaled, (hidden, weight)),
        strict=True,
    ):
        assert torch.equal(eight, 8.0 * one)  # a power of two changes no digit
        assert torch.equal(sixteen, 16.0 * one)


@FUSED
@CAPS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_errs_no_more_than_torch_does(dtype: torch.dtype, softcap: float | None, is_fused: bool) -> None:
    hidden, weight, targets = problem()
    inputs = (hidden, weight)
    exact = oracle(hidden.double(), weight.double(), targets, softcap)
    exact_gradients = torch.autograd.grad(exact, inputs)
    with torch.autocast("cpu", dtype=dtype):
        loss, nats = next_token_loss(hidden, weight, targets, softcap=softcap, multiplier=1.0, is_fused=is_fused)
        theirs = oracle(hidden, weight, targets, softcap)
    assert nats.dtype == loss.dtype == torch.float32
    assert abs(nats - exact) <= 2 * abs(theirs - exact) + 1e-6 * exact
    for ours, other, right in zip(
        torch.autograd.grad(loss, inputs), torch.autograd.grad(theirs, inputs), exact_gradients, strict=True
    ):
        assert ours.dtype == torch.float32
        assert (ours - right).norm() <= 1.5 * (other - right).norm()


@FUSED
@CAPS
@pytest.mark.parametrize("narrow", [False, True])
def test_full_logits_never_exist(
    softcap: float | None, narrow: bool, is_fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_file, "CHUNK_BYTES", 16 * VOCABULARY * 4)
    monkeypatch.setattr(loss_file, "FUSED_CHUNK_BYTES", 16 * VOCABULARY * (2 if narrow else 4))
    hidden, weight, targets = problem()
    with LargestTensor() as ours, torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
        next_token_loss(hidden, weight, targets, softcap=softcap, multiplier=1.0, is_fused=is_fused)[0].backward()
    assert weight.grad is not None
    by_onednn = not narrow and torch.backends.mkl.is_available()
    assert ours.numbers == 16 * (VOCABULARY if by_onednn else PADDED)
    with LargestTensor() as full:
        oracle(hidden, weight, targets, softcap)
    assert full.numbers == ROWS * VOCABULARY


def test_enormous_logits_overflow_nothing() -> None:
    hidden, weight, targets = problem(size=1e6)
    loss, _ = next_token_loss(hidden, weight, targets, softcap=None, multiplier=1.0)
    loss.backward()
    assert loss.isfinite()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


@pytest.mark.slow
@CAPS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_it_gives_what_it_gives_as_it_is_written(dtype: torch.dtype, softcap: float | None) -> None:
    results = []
    for is_fused in (False, True):
        hidden, weight, targets = problem()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            loss, nats = next_token_loss(hidden, weight, targets, softcap=softcap, multiplier=8.0, is_fused=is_fused)
        results.append([loss, nats, *torch.autograd.grad(loss, (hidden, weight))])
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize(("vocabulary", "rows"), [(50_257, 8192), (262_144, 2048), (2**31, 1)])
def test_a_fused_chunk_has_a_power_of_two_rows_within_a_gibibyte(vocabulary: int, rows: int) -> None:
    assert rows_at_once(vocabulary, "cuda", 2, is_fused=True) == rows
    assert rows == 1 or 2**29 < rows * vocabulary * 2 <= 2**30
