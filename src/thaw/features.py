"""Activations of the frozen body, computed once for each picture and kept by content."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save

from thaw import keys, signals
from thaw.data.augment import View, view
from thaw.data.pixels import Pixels
from thaw.device import mix
from thaw.model import Network, frozen_weights
from thaw.settings import Augment
from thaw.store import Store

SHARD_ROWS = 64 * 256  # pictures a shard: what is kept of a build that is stopped
BUILD_BATCH = 64  # always full: what is missing is padded, so that a picture's row does not depend on its neighbours


@dataclass(frozen=True)
class Drawn:
    """A view of every picture drawn by `augment` from `seed` and its content."""

    augment: Augment
    seed: tuple


def body_hash(network: Network, head: bool = False) -> str:
    """SHA-256 of architecture, normalisation and every weight and buffer but the head's, or with `head` of all."""
    about = network.model.pretrained_cfg
    digest = hashlib.sha256(json.dumps([about.get(key) for key in ("architecture", "mean", "std")]).encode())
    for name, value in sorted(network.model.state_dict().items()) if head else frozen_weights(network):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def activations(
    network: Network,
    pixels: Pixels,
    hashes: list[str],
    rows: np.ndarray,
    size: int,
    crop_pct: float,
    store: Store,
    bar: Callable[[Iterable, int, str], Iterable],
    drawn: Drawn | None = None,
) -> torch.Tensor:
    """Pooled activations [len(rows), d] of the middle view of the pictures, on the device, in the dtype the body gives.

    With `drawn` of an augmented view, which is a function of its seed and the picture's content. Kept in immutable
    shards that list the content hashes of their rows; only pictures that no shard has pass through the body. Labels and
    names are in no key.
    """
    parts = {
        "body": body_hash(network),
        "pooling": network.pooling,
        "size": size,
        "crop_pct": crop_pct,
        "build_batch": BUILD_BATCH,
        "dtype": str(network.device.dtype),
        "device": network.device.device.type,
        "threads": network.device.threads,
        "drawn": drawn and {"augment": keys.drawn_by(drawn.augment), "seed": drawn.seed},
        "versions": keys.versions(),
    }
    kept = shards(store, parts, {hashes[row] for row in rows})
    missing = list({hashes[row]: row for row in rows if hashes[row] not in kept}.values())
    parts_of = [missing[start : start + SHARD_ROWS] for start in range(0, len(missing), SHARD_ROWS)]
    for number, part in enumerate(parts_of, 1):
        text = "activations" + (f" {number}/{len(parts_of)}" if len(parts_of) > 1 else "")

        def build(folder: Path, part=part, text=text) -> None:
            seeds = [mix("augment", *drawn.seed, hashes[row]) for row in part] if drawn else [None] * len(part)
            see = view(size, crop_pct, drawn and drawn.augment)
            computed = compute(network, pixels, part, size, bar, text, see, seeds)
            (folder / "features.safetensors").write_bytes(save({"features": computed}))
            (folder / "rows.json").write_text(json.dumps([hashes[row] for row in part]))

        kept |= rows_of(store.make("activations", parts, build, rows=[hashes[row] for row in part])[0])
    return torch.stack([kept[hashes[row]] for row in rows]).to(network.device.device)


@torch.inference_mode()
def compute(
    network: Network,
    pixels: Pixels,
    rows: list[int],
    size: int,
    bar: Callable,
    text: str,
    see: View,
    seeds: Sequence[int | None],
) -> torch.Tensor:
    """Activations of the rows as `see` shows them, each with its seed, on the CPU, in padded batches of a fixed size.

    Errors: a signal that asks to stop.
    """
    network.eval()
    out = []
    for start in bar(range(0, len(rows), BUILD_BATCH), -(-len(rows) // BUILD_BATCH), text):
        if number := signals.pending():
            signals.leave(number, "while activations were computed")
        part = slice(start, start + BUILD_BATCH)
        batch = np.zeros((BUILD_BATCH, size, size, 3), np.uint8)
        seen = [see(pixels[row], seed) for row, seed in zip(rows[part], seeds[part], strict=True)]
        batch[: len(seen)] = seen
        out.append(network.features(network.device.put(torch.from_numpy(batch)))[: len(seen)].cpu())
    return torch.cat(out)


def shards(store: Store, parts: dict, wanted: Collection[str]) -> dict[str, torch.Tensor]:
    """The rows of the shards made as `parts` say that hold any of the content hashes `wanted`, by content hash."""
    out = {}
    for path in store.shards("activations", parts, wanted):
        out |= rows_of(path)
    return out


def rows_of(shard: Path) -> dict[str, torch.Tensor]:
    """The rows of a shard, by content hash."""
    features = load_file(shard / "features.safetensors")["features"]
    return dict(zip(json.loads((shard / "rows.json").read_text()), features, strict=True))
