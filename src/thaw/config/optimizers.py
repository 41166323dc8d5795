"""The choices of `optimizer` and the options of each.

`thaw.train.loop.make_optimizer` turns them into optimizers of torch.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from thaw.config.options import number
from thaw.runtime.errors import UserError


@dataclass(frozen=True)
class SGD:
    name: ClassVar[str] = "sgd"
    moments: ClassVar[int] = 1  # tensors of state per parameter
    weight_decay: float = number(0, 10)
    momentum: float = number(0, 0.9999)
    nesterov: bool
    clip: float | None = number(0, math.inf, above=True)  # the largest norm of the gradient; None: no clipping

    def check(self) -> None:
        """Raise UserError (exit 2) if options contradict each other."""
        if self.nesterov and not self.momentum:
            raise UserError(2, f"optimizer.nesterov=true: needs optimizer.momentum above 0, not {self.momentum}")


@dataclass(frozen=True)
class AdamW:
    name: ClassVar[str] = "adamw"
    moments: ClassVar[int] = 2
    betas: list[float]
    weight_decay: float = number(0, 10)
    clip: float | None = number(0, math.inf, above=True)

    def check(self) -> None:
        """Raise UserError (exit 2) if `betas` are not two numbers from 0 to below 1."""
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(2, f"optimizer.betas={self.betas}: optimizer=adamw needs two numbers from 0 to below 1")


Optimizer = SGD | AdamW
OPTIMIZERS = {choice.name: choice for choice in (SGD, AdamW)}
