import json

import pytest
import torch

from gemmazero.config import PrecisionName
from gemmazero.training.precision import Precision, choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "dtype", "scale"),
    [("fp32", torch.float32, 1.0), ("bf16", torch.bfloat16, 1.0), ("fp16", torch.float16, 65536.0)],
)
def test_matrix_products_take_the_dtype_and_only_fp16_scales_the_loss(
    name: PrecisionName, dtype: torch.dtype, scale: float
) -> None:
    precision = Precision(name, CPU)
    with precision.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == dtype
    assert precision.loss_scale == scale
    assert precision.scaler.is_enabled() == (name == "fp16")


def test_scaler_state_is_json() -> None:
    scaler = Precision("fp16", CPU).scaler
    state = json.loads(json.dumps(scaler.state_dict()))
    scaler.load_state_dict(state | {"scale": 8.0, "_growth_tracker": 3})
    assert scaler.state_dict() == state | {"scale": 8.0, "_growth_tracker": 3}


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_named_precision_is_taken_as_it_is(name: PrecisionName, device: str) -> None:
    assert choose_precision(name, torch.device(device)) == name


@pytest.mark.parametrize(("multiplies", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_on_a_cpu_is_bf16_where_it_is_quick_and_never_fp16(
    multiplies: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: multiplies)
    assert choose_precision("auto", CPU) == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_on_a_gpu_is_fp16_only_where_bf16_is_not_multiplied(
    capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert choose_precision("auto", torch.device("cuda")) == expected


def test_auto_on_mps_is_fp32() -> None:
    assert choose_precision("auto", torch.device("mps")) == "fp32"
