"""AdamW (arXiv 1711.05101), in 32 or in 8 bits, or Muon; what decays; the learning rate at a step."""

import contextlib
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gemmazero.config import TrainConfig
from gemmazero.training.muon import Muon

_BLOCK = 256  # weights to a scale, in bitsandbytes' 8-bit optimizers
WSD_DECAY_SHARE = 0.2  # of the steps; arXiv 2405.18392 finds 10-20% enough


def learning_rate_at(step: int, config: TrainConfig, curve_steps: int) -> float:
    """The learning rate of optimizer step ``step``, counted from 1.

    Linear warm-up, then cosine (arXiv 1608.03983) or wsd (constant, then linear: arXiv 2404.06395), which reach
    ``min_learning_rate`` at step ``curve_steps`` and stay there, or constant.
    """
    peak, least = config.learning_rate, config.min_learning_rate
    if step <= config.warmup_steps:
        return peak * step / config.warmup_steps
    if config.schedule == "constant":
        return peak
    start = config.warmup_steps
    if config.schedule == "wsd":
        start = max(start, decay_start(curve_steps))
    progress = min(1.0, max(0.0, (step - start) / max(1, curve_steps - start)))
    fall = (1 - math.cos(math.pi * progress)) / 2 if config.schedule == "cosine" else progress
    return peak + (least - peak) * fall


def decay_start(steps: int) -> int:
    """The last step before wsd's decay, in a run of so many steps."""
    return steps - max(1, round(steps * WSD_DECAY_SHARE))


class Optimizer:
    """All of a model's parameters and their state; norms and embeddings do not decay.

    With ``adamw8bit`` the matrices keep their moments in 8 bits (arXiv 2110.02861), an embedding that is the output
    matrix, too; norms keep 32, and so does an embedding that is not: that paper found its rare gradients to need it.
    With ``muon`` the matrices of the blocks are moved by Muon, all else by AdamW.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        embeddings = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
        norms = [parameter for parameter in self._names if parameter.dim() == 1]
        matrices = [parameter for parameter in self._names if parameter.dim() > 1 and parameter not in set(embeddings)]
        heads = [parameter for parameter in matrices if self._names[parameter] == "lm_head.weight"]
        rates: dict[str, Any] = {"lr": config.learning_rate, "betas": (config.beta1, config.beta2)}
        decaying = {"params": matrices, "weight_decay": config.weight_decay}
        constant = {"params": [*norms, *embeddings], "weight_decay": 0.0}
        self.parts: list[torch.optim.Optimizer]
        if config.optimizer == "adamw":
            adamw = torch.optim.AdamW([decaying, constant], **rates, fused=True)
            adamw.state.update((parameter, _at_rest(parameter)) for parameter in self._names)
            self.parts = [adamw]
        elif config.optimizer == "adamw8bit":
            tied, alone = ([], embeddings) if heads else (embeddings, [])
            self.parts = [
                _bitsandbytes_adamw()([decaying, {"params": tied, "weight_decay": 0.0}], **rates),
                torch.optim.AdamW([*norms, *alone], weight_decay=0.0, **rates, fused=True),
            ]
        else:
            inner = [parameter for parameter in matrices if parameter not in set(heads)]
            head = {"params": heads, "weight_decay": config.weight_decay}
            self.parts = [
                Muon(inner, lr=config.learning_rate, weight_decay=config.weight_decay),
                torch.optim.AdamW([constant, head], **rates, fused=True),
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
        """Take up what ``state_dict`` gave, on the parameters' device; {} is that of before the first step.

        Raises ValueError for anything else: the optimizers trust the sizes they are given.
        """
        restored = {parameter: _of(name, state) for parameter, name in self._names.items()}
        if sum(map(len, restored.values())) != len(state):
            raise ValueError("the optimizer's state holds tensors of no parameter")
        for part in self.parts:
            fits = (
                _fits_muon if isinstance(part, Muon) else _fits if isinstance(part, torch.optim.AdamW) else _fits_8bit
            )
            for parameter in (parameter for group in part.param_groups for parameter in group["params"]):
                own = restored[parameter]
                if state and not fits(own, parameter):
                    raise ValueError(f"the optimizer's state of {self._names[parameter]} does not fit")
                part.state[parameter] = {key: _restored(value, parameter.device) for key, value in own.items()}


def _at_rest(parameter: nn.Parameter) -> dict[str, Tensor]:
    """What AdamW remembers before its first step.

    torch makes it in that step, among the gradients: on a CPU the next steps find gaps that do not fit them then.
    """
    moments = {name: torch.zeros_like(parameter, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
    return {"step": torch.zeros((), device=parameter.device), **moments}


def _of(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries ``name.KEY``, by KEY."""
    own = ((key.rpartition("."), value) for key, value in state.items())
    return {key: value for (owner, _, key), value in own if owner == name}


def _fits_muon(state: Mapping[str, Tensor], parameter: nn.Parameter) -> bool:
    momentum = state.get("momentum_buffer")
    return len(state) == 1 and momentum is not None and _is_moment(momentum, parameter, torch.float32)


def _fits(state: Mapping[str, Tensor], parameter: nn.Parameter) -> bool:
    """Whether this is what AdamW remembers of the parameter: two moments, and a step count."""
    return (
        state.keys() == {"exp_avg", "exp_avg_sq", "step"}
        and state["step"].dim() == 0
        and all(_is_moment(state[name], parameter, torch.float32) for name in ("exp_avg", "exp_avg_sq"))
    )


def _fits_8bit(state: Mapping[str, Tensor], parameter: nn.Parameter) -> bool:
    """Whether this is what 8-bit AdamW remembers: the moments in blocks of 8 bits or, of a small one, in 32."""
    narrow = {"absmax1", "absmax2", "qmap1", "qmap2"} & state.keys()
    dtype, blocks = torch.uint8 if narrow else torch.float32, -(-parameter.numel() // _BLOCK)
    return (
        state.keys() - narrow == {"state1", "state2", "step"}
        and state["step"].dim() == 0
        and len(narrow) in (0, 4)
        and all(_is_moment(state[name], parameter, dtype) for name in ("state1", "state2"))
        and all(state[name].shape == ((256,) if "qmap" in name else (blocks,)) for name in narrow)
        and all(state[name].dtype == torch.float32 for name in narrow)
    )


def _is_moment(moment: Tensor, parameter: nn.Parameter, dtype: torch.dtype) -> bool:
    return moment.shape == parameter.shape and moment.dtype == dtype


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
