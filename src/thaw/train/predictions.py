"""Predictions of a network, and their loss, accuracy and F1."""

from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from thaw.config.schema import Augment
from thaw.data import batches
from thaw.data.batches import BatchKey
from thaw.train import loop
from thaw.train.inputs import Inputs, PhaseInputs


@dataclass(frozen=True)
class Predictions:
    """Logits [n, classes] and labels [n] of images, and the metrics that follow from them."""

    logits: torch.Tensor
    labels: torch.Tensor

    @cached_property
    def losses(self) -> list[float]:
        """The cross-entropy of each image."""
        return cross_entropy(self.logits, self.labels, reduction="none").tolist()

    @cached_property
    def loss(self) -> float:
        return float(np.mean(self.losses))

    @cached_property
    def accuracy(self) -> float:
        return float((self.logits.argmax(1) == self.labels).float().mean())

    @cached_property
    def f1_macro(self) -> float:
        from sklearn.metrics import f1_score

        return float(f1_score(self.labels, self.logits.argmax(1), average="macro", zero_division=0))


def validate(inputs: PhaseInputs) -> Predictions:
    """Validate the current network, on stored activations while the backbone is frozen."""
    if inputs.phase.train == "head":
        return Predictions(*loop.evaluate(inputs.run.network, [inputs.valid]))
    return predict(inputs.run, inputs.run.valid_rows)


def predict_stored(inputs: Inputs, rows: np.ndarray) -> Predictions:
    """Predict the rows, in order, from the stored activations of the current backbone."""
    return Predictions(*loop.evaluate(inputs.network, [inputs.activations(rows)]))


def predict(
    inputs: Inputs, rows: np.ndarray, augment: Augment | None = None, seed: tuple = (), epoch: int = 0
) -> Predictions:
    """Predict the rows, in order, at the final size: plain views, or views augmented by (seed, epoch, row)."""
    keys = [BatchKey(epoch, inputs.size, part) for part in batches.cut_batches(rows, inputs.batch)]
    with closing(inputs.images(keys, augment, seed)) as seen:
        return Predictions(*loop.evaluate(inputs.network, seen))
