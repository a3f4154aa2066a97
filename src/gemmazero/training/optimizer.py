"""AdamW (arXiv 1711.05101), in 32 or in 8 bits; what decays; the learning rate at a step."""

import contextlib
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gemmazero.config import TrainConfig

WSD_DECAY_SHARE = 0.2  # of the steps; arXiv 2405.18392 finds 10-20% enough


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """The learning rate of optimizer step ``step``, counted from 1.

    Linear warm-up, then cosine (arXiv 1608.03983) or wsd (constant, then linear: arXiv 2404.06395), which end at
    ``min_learning_rate``, or constant.
    """
    peak, least = config.learning_rate, config.min_learning_rate
    if step <= config.warmup_steps:
        return peak * step / config.warmup_steps
    if config.schedule == "constant":
        return peak
    start = config.warmup_steps
    if config.schedule == "wsd":
        start = max(start, config.steps - max(1, round(config.steps * WSD_DECAY_SHARE)))
    progress = max(0.0, (step - start) / max(1, config.steps - start))
    fall = (1 - math.cos(math.pi * progress)) / 2 if config.schedule == "cosine" else progress
    return peak + (least - peak) * fall


class Optimizer:
    """AdamW over a model's parameters; norms and embeddings do not decay.

    With ``adamw8bit`` the matrices keep their moments in 8 bits (arXiv 2110.02861); embeddings and norms, which that
    paper found to need it, keep 32.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
        kept = [parameter for parameter in self._names if parameter.dim() == 1 or parameter in embeddings]
        matrices = [parameter for parameter in self._names if parameter.dim() > 1 and parameter not in embeddings]
        decaying = {"params": matrices, "weight_decay": config.weight_decay}
        constant = {"params": kept, "weight_decay": 0.0}
        betas = (config.beta1, config.beta2)
        self.parts: list[torch.optim.Optimizer]
        if config.optimizer == "adamw8bit":
            eight_bit = _bitsandbytes_adamw()
            self.parts = [
                eight_bit([decaying], lr=config.learning_rate, betas=betas),
                torch.optim.AdamW([constant], lr=config.learning_rate, betas=betas, fused=True),
            ]
        else:
            self.parts = [
                torch.optim.AdamW([decaying, constant], lr=config.learning_rate, betas=betas, fused=True),
            ]

    @property
    def parameters(self) -> Iterable[nn.Parameter]:
        """Every parameter, in the model's order."""
        return self._names.keys()

    def set_learning_rate(self, learning_rate: float) -> None:
        """For every group of parameters."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = learning_rate

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Tensor]:
        """``NAME.KEY`` → tensor for every parameter's state; a whole number becomes an int64 scalar."""
        return {
            f"{name}.{key}": _owned(key, value)
            for parameter, name in self._names.items()
            for part in self.parts
            for key, value in part.state.get(parameter, {}).items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state_dict`` gave, on the parameters' device."""
        for part in self.parts:
            for parameter in (parameter for group in part.param_groups for parameter in group["params"]):
                prefix = self._names[parameter] + "."
                part.state[parameter] = {
                    key.removeprefix(prefix): _restored(value, parameter.device)
                    for key, value in state.items()
                    if key.startswith(prefix) and "." not in key.removeprefix(prefix)
                }


def _owned(key: str, value: Tensor | int) -> Tensor:
    """bitsandbytes shares two code books (qmap1, qmap2) among all matrices; a file takes no shared memory."""
    if not isinstance(value, Tensor):
        return torch.tensor(value)
    return value.clone() if key.startswith("qmap") else value


def _restored(value: Tensor, device: torch.device) -> Tensor | int:
    if value.dim() == 0 and value.dtype == torch.int64:
        return int(value)
    return value.to(device, copy=True)


def _bitsandbytes_adamw() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import bitsandbytes  # it talks of optional kernels when imported

    return bitsandbytes.optim.AdamW8bit
