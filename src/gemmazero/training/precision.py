"""Dtype, autocast and GradScaler as one thing: one path for fp32, bf16 and fp16."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from gemmazero.config import PrecisionName

_NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Weights stay in float32; matrix products run in ``name``; fp16 scales the loss so that gradients survive.

    Args:
        name: fp32, bf16 or fp16.
        device: where the arithmetic happens.
    """

    def __init__(self, name: PrecisionName, device: torch.device) -> None:
        self.name = name
        self._device = device.type
        self._narrow = _NARROW.get(name)
        self.scaler = self._new_scaler()

    def autocast(self) -> AbstractContextManager[Any]:
        """Narrow matrix products within; nothing for fp32."""
        return torch.autocast(self._device, dtype=self._narrow, enabled=self._narrow is not None)

    def lower_scale(self) -> bool:
        """After an overflow: halve the loss scale. False where there is none to halve, or none of 1 is left."""
        if not self.scaler.is_enabled():
            return False
        before = self.scaler.get_scale()
        self.scaler.update()
        return 1.0 <= self.scaler.get_scale() < before

    def restart_scaler(self, state: dict[str, Any]) -> None:
        """Go back to a GradScaler's ``state_dict``, whatever the present one has seen since."""
        self.scaler = self._new_scaler()
        self.scaler.load_state_dict(state)

    @property
    def loss_scale(self) -> float:
        """What the loss is multiplied by; 1 where there is no scaler."""
        if self.scaler.is_enabled():
            return float(self.scaler.scale(torch.ones((), device=self._device)))  # which a GPU is waited for
        return 1.0

    def _new_scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self._device, enabled=self.name == "fp16")


def choose_precision(name: PrecisionName, device: torch.device) -> PrecisionName:
    """What ``auto`` stands for on this device: bf16 where the hardware multiplies it, else fp16 on CUDA, else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bf16"
    return "fp32"
