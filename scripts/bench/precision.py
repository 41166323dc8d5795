"""Check whether precision=auto chooses well on this machine: time a training step in float32 and in bfloat16.

python scripts/bench/precision.py [NAME ...]     takes under a minute

Memory format is channels_last. Each time is the median of several steps, taken in turns.
"""

import statistics
import sys
import time

import torch

from thaw.config.paths import require_checkout
from thaw.config.schema import Backbone, BackboneFacts
from thaw.model import device, network
from thaw.runtime.console import say
from thaw.runtime.entry import Parser, run

require_checkout(__file__)


NAMES = ("test_resnet", "resnet18", "test_vit")
SIZE, BATCH, ROUNDS = 96, 16, 5


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"timm model (default: {' '.join(NAMES)})")
    names = parser.parse_args().names or NAMES
    target = torch.device(device.default_device())
    threads = torch.get_num_threads()
    auto = "bfloat16" if device.multiplies_bfloat16(target) else "float32"
    say(f"{target}, {torch.backends.cpu.get_cpu_capability()}, {threads} threads: precision=auto is {auto}")
    for name in names:
        network.check_name(name)
        seconds = {}
        nets = {
            dtype: network.create_network(
                Backbone(name, "none", 0.0, 0.0, BackboneFacts()), 10, 0, device.Device(target, dtype, threads)
            )
            for dtype in (torch.float32, torch.bfloat16)
        }
        for dtype, net in nets.items():
            step(net, target)
            seconds[dtype] = []
        for _ in range(ROUNDS):
            for dtype, net in nets.items():
                seconds[dtype].append(step(net, target))
        full, half = (statistics.median(seconds[dtype]) for dtype in nets)
        times = f"float32 {1e3 * full:7.1f} ms, bfloat16 {1e3 * half:7.1f} ms"
        say(f"{name:12} {times}, float32 / bfloat16 {full / half:.2f}")


def step(net: network.Network, target: torch.device) -> float:
    """Return the seconds of one forward and backward pass."""
    images = torch.zeros(BATCH, SIZE, SIZE, 3, dtype=torch.uint8, device=target)
    started = time.perf_counter()
    net.train()(images).logsumexp(1).mean().backward()
    if target.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(run(main))
