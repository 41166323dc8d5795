"""Freeze and unfreeze the layers of a network."""

from collections.abc import Iterator

from torch import Tensor, nn

from thaw.model import heads
from thaw.model.network import Network

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def set_trainable(network: Network, train: str, bn: str) -> None:
    """Make the head or the full network trainable, and freeze the rest: no gradients *and* eval mode.

    Eval mode fixes the batch-norm statistics of frozen layers and turns off their dropout and drop-path, as fast.ai 0.7
    did and v2 does not. It makes stored activations equal to live ones. `bn=eval` also fixes the statistics of a
    trainable backbone; a new head's statistics are always updated.
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
    """Yield every parameter and buffer except the head's, sorted by name."""
    head = heads.head_parameters(network.model)
    for name, value in sorted(network.model.state_dict().items()):
        if name not in head:
            yield name, value
