import math

import pytest
import torch
from gemma_oracle import FULL, SLIDING, random_gemma, tiny_config, transformers_twin
from torch import Tensor

from gemmazero.model.rope import Rotation


def turned(x: Tensor, positions: Tensor, theta: float, factor: float) -> Tensor:
    """RoFormer's rotation as a product of complex numbers in float64: (T, K) at (T) positions."""
    half = x.shape[-1] // 2
    frequencies = torch.tensor([theta ** (-2 * pair / x.shape[-1]) for pair in range(half)], dtype=torch.float64)
    angles = positions.double()[:, None] / factor * frequencies
    numbers = torch.complex(x[:, :half].double(), x[:, half:].double()) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((numbers.real, numbers.imag), dim=-1)


@pytest.mark.parametrize(
    ("head_dim", "theta", "factor"), [(2, 1e4, 1.0), (14, 1e6, 1.0), (64, 1e4, 8.0), (16, 50.0, 2.5)]
)
def test_rotation_is_the_complex_product(head_dim: int, theta: float, factor: float) -> None:
    positions = torch.tensor([0, 1, 2, 77, 500])
    x = torch.randn(5, head_dim, generator=torch.Generator().manual_seed(0))
    rotation = Rotation(positions, head_dim, theta, factor, torch.float32)
    torch.testing.assert_close(
        rotation(x[None, None])[0, 0].double(), turned(x, positions, theta, factor), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("head_dim", [14, 64, 256])
@pytest.mark.parametrize("shape", [
    {}, {"rope_scaling_factor": 8.0}, {"rope_theta": 5e5, "rope_local_base_freq": 300.0, "rope_scaling_factor": 3.0},
    {"model_type": "gemma2", "rope_theta": 1e4}, {"model_type": "gemma2", "rope_theta": 1e6, "rope_scaling_factor": 3},
])  # fmt: skip
def test_cosines_and_sines_are_those_of_transformers_to_the_bit_however_long_the_text(head_dim, shape) -> None:
    model = random_gemma(tiny_config(head_dim=head_dim, num_hidden_layers=2, layer_types=(SLIDING, FULL), **shape))
    twin = transformers_twin(model).model.rotary_emb
    positions = torch.tensor([0, 1, 2, 77, 4095, 8191, 32767, 131071])
    for kind in (SLIDING, FULL):
        which = {"layer_type": kind} if model.config.is_gemma3 else {}
        ours = model.model.rotation(kind, positions, torch.float32)
        for our, their in zip((ours.cos, ours.sin), twin(torch.empty(0), positions[None], **which), strict=True):
            assert torch.equal(our, their[0])


def test_first_pair_turns_by_one_radian_a_position() -> None:
    rotation = Rotation(torch.arange(3), 2, 10_000.0, 1.0, torch.float32)
    x = torch.tensor([1.0, 0.0]).expand(1, 1, 3, 2)
    expected = [[1.0, 0.0], [math.cos(1), math.sin(1)], [math.cos(2), math.sin(2)]]
    torch.testing.assert_close(rotation(x)[0, 0], torch.tensor(expected))


def test_score_depends_on_the_distance_alone() -> None:
    query, key = torch.randn(2, 1, 1, 1, 32, generator=torch.Generator().manual_seed(1))

    def score(query_position: int, key_position: int) -> float:
        at = [Rotation(torch.tensor([p]), 32, 1e4, 1.0, torch.float32) for p in (query_position, key_position)]
        return (at[0](query) * at[1](key)).sum().item()

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-2)


def test_linear_scaling_divides_positions() -> None:
    x = torch.randn(1, 2, 4, 16, generator=torch.Generator().manual_seed(2))
    scaled = Rotation(torch.tensor([0, 8, 16, 80]), 16, 1e6, 8.0, torch.float32)
    plain = Rotation(torch.tensor([0, 1, 2, 10]), 16, 1e6, 1.0, torch.float32)
    torch.testing.assert_close(scaled(x), plain(x), rtol=1e-5, atol=1e-5)


def test_rows_may_have_positions_of_their_own() -> None:
    x = torch.randn(2, 3, 4, 16, generator=torch.Generator().manual_seed(3))
    positions = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]])
    together = Rotation(positions, 16, 1e4, 1.0, torch.float32)(x)
    for row in range(2):
        alone = Rotation(positions[row], 16, 1e4, 1.0, torch.float32)(x[row : row + 1])
        assert torch.equal(together[row : row + 1], alone)


def test_angles_are_computed_wide_and_rounded_once() -> None:
    positions = torch.tensor([1000])
    wide = Rotation(positions, 8, 1e4, 1.0, torch.float32)
    narrow = Rotation(positions, 8, 1e4, 1.0, torch.bfloat16)
    assert torch.equal(narrow.cos, wide.cos.to(torch.bfloat16))
    assert torch.equal(narrow.sin, wide.sin.to(torch.bfloat16))
