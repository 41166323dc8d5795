"""Activations of the frozen backbone, computed once per image and stored by image content."""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from thaw.config.schema import Augment
from thaw.data import augment
from thaw.data.pixels import Pixels
from thaw.model.freezing import frozen_weights
from thaw.model.network import Network
from thaw.model.weights import read_weights
from thaw.runtime import console
from thaw.runtime.errors import UserError
from thaw.runtime.files import read_json
from thaw.runtime.machine import readers
from thaw.runtime.seeds import seed_for
from thaw.store import keys
from thaw.store.kinds import is_numbers
from thaw.store.store import Store

SHARD_ROWS = 64 * 256  # images per shard; finished shards survive when a run is stopped


@dataclass(frozen=True)
class ImageView:
    """How an image is cropped: the centre, or with `augment` a random view seeded by `seed` and the image's content."""

    size: int  # pixels
    crop_pct: float
    augment: Augment | None = None
    seed: tuple = ()

    def seed_of(self, content: str) -> int | None:
        """Return the seed of an image's view, or None for the plain view, which draws nothing."""
        return seed_for("augment", *self.seed, content) if self.augment else None


def images_per_pass(size: int) -> int:
    """Return the batch size of inference at an image size: 64 up to 224 px, fewer above."""
    return max(4, min(64, 64 * 224**2 // size**2 // 4 * 4))


def backbone_hash(network: Network, head: bool = False) -> str:
    """Return the SHA-256 of architecture, normalisation, weights and buffers; `head`: with those of the head."""
    about = network.model.pretrained_cfg
    digest = hashlib.sha256(json.dumps([about.get(key) for key in ("architecture", "mean", "std")]).encode())
    for name, value in sorted(network.model.state_dict().items()) if head else frozen_weights(network):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def activations(
    network: Network, pixels: Pixels, rows: np.ndarray, view: ImageView, store: Store
) -> tuple[torch.Tensor, dict[Path, float]]:
    """Return the pooled activations [len(rows), d] on the device, and seconds saved per shard made by another process.

    The dtype is the backbone's. Activations are stored in immutable shards that list the content hashes of their
    images; only images in no shard pass through the backbone. The keys depend neither on labels nor on file names.
    """
    hashes, parts = pixels.names, activation_parts(network, view)
    wanted, kept, saved = {hashes[row] for row in rows}, {}, {}

    def take(shard: Path) -> None:
        made = json.loads((shard / "rows.json").read_text())
        kept.update(
            zip(made["rows"], read_weights(shard / "features.safetensors", "the store")["features"], strict=True)
        )
        if shard not in store.made:
            saved[shard] = made["seconds"] * len(wanted.intersection(made["rows"])) / len(made["rows"])

    fault = partial(shard_fault, width=width_of(network.head))
    for shard in store.shards("activations", parts, wanted, fault):
        take(shard)
    missing = list({hashes[row]: row for row in rows if hashes[row] not in kept}.values())
    parts_of = [missing[start : start + SHARD_ROWS] for start in range(0, len(missing), SHARD_ROWS)]
    for number, part in enumerate(parts_of, 1):
        text = "activations" + (f" {number}/{len(parts_of)}" if len(parts_of) > 1 else "")
        with store.entry("activations", parts, [hashes[row] for row in part], fault) as entry:
            if entry.missing:
                began = time.perf_counter()
                computed = compute_activations(network, pixels, part, view, text)
                (entry.folder / "features.safetensors").write_bytes(save({"features": computed}))
                about = {"rows": [hashes[row] for row in part], "seconds": time.perf_counter() - began}
                (entry.folder / "rows.json").write_text(json.dumps(about))
        take(entry.path)
    return torch.stack([kept[hashes[row]] for row in rows]).to(network.device.device), saved


def shard_fault(shard: Path, width: int) -> str | None:
    """Return why a shard is unusable, or None; it must have one activation vector of this width per image."""
    made, file = read_json(shard / "rows.json"), shard / "features.safetensors"
    rows = made.get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, str) for row in rows):
        return "rows.json lists no images"
    if not is_numbers([made.get("seconds")]):
        return "rows.json has no valid seconds"
    try:
        features = read_weights(file, "it").get("features")
    except UserError as error:
        return error.line
    if features is None or list(features.shape) != [len(rows), width] or not features.is_floating_point():
        return f"{file.name} has no activations of shape [{len(rows)}, {width}]"
    return None


def width_of(head: nn.Module) -> int:
    """Return the number of activations per image, from the shape of the head's first weight."""
    weight = next(head.parameters())  # linear or convolution: [outputs, d, ...]; batch norm: [d]
    return weight.shape[min(1, weight.dim() - 1)]


def activation_parts(network: Network, view: ImageView) -> dict:
    """Return everything activations depend on except the images: the store key."""
    return {
        "body": backbone_hash(network),
        "pooling": network.pooling,
        "size": view.size,
        "crop_pct": view.crop_pct,
        "build_batch": images_per_pass(view.size),
        "computed": network.device.computed,
        "drawn": {"augment": keys.view_parts(view.augment), "seed": view.seed} if view.augment else None,
    }


@torch.inference_mode()
def compute_activations(network: Network, pixels: Pixels, rows: list[int], view: ImageView, text: str) -> torch.Tensor:
    """Return the activations of the rows on the CPU; `text` labels the progress bar.

    The last batch is padded, so that a result does not depend on the number of images in its batch.
    """
    network.eval()
    out, n, size, see = [], images_per_pass(view.size), view.size, augment.view(view.size, view.crop_pct, view.augment)
    with ThreadPoolExecutor(readers()) as pool:  # decodes the images that the store had no space for
        for start in console.bar(range(0, len(rows), n), -(-len(rows) // n), text):
            part = rows[start : start + n]
            seeds = [view.seed_of(pixels.names[row]) for row in part]
            seen = [see(*one) for one in zip(pool.map(pixels.__getitem__, part), seeds, strict=True)]
            batch = np.zeros((n, size, size, 3), np.uint8)
            batch[: len(seen)] = seen
            out.append(network.features(network.device.put(torch.from_numpy(batch)))[: len(seen)].cpu())
    return torch.cat(out)
