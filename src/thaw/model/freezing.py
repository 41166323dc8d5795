"""Freeze and unfreeze the layers of a network."""

from collections.abc import Iterator

from torch import Tensor, nn

from thaw.model import heads
from thaw.model.network import Network

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def set_trainable(network: Network, train: str, bn: str) -> None:
    """Make the head or all of the network trainable, and freeze the rest: no gradients *and* eval mode.

    Eval mode keeps batch-norm statistics, dropout and drop-path of frozen layers still, as fast.ai 0.7 did and v2 does
    not. It is what makes stored activations equal to live ones. `bn=eval` keeps the statistics of a trainable body
    still as well; those of a head are nobody's yet and always move.
    """
    everything = train == "all"
    network.requires_grad_(everything)
    network.train(everything)
    network.head.requires_grad_(True).train()
    if bn == "eval":
        of_head = set(network.head.modules())
        for module in network.modules():
            if isinstance(module, NORMS) and module not in of_head:
                module.eval()


def frozen_weights(network: Network) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer but the head's, by name."""
    head = heads.head_parameters(network.model)
    for name, value in sorted(network.model.state_dict().items()):
        if name not in head:
            yield name, value
