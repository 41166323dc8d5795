"""Activations of the frozen body, computed once for each picture and kept by content."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from thaw import keys
from thaw.data.augment import view
from thaw.data.pixels import Pixels
from thaw.model import Network, frozen_weights
from thaw.store import Store

BUILD_BATCH = 64  # always full: what is missing is padded, so that a picture's row does not depend on its neighbours


def body_hash(network: Network, head: bool = False) -> str:
    """SHA-256 of every weight and buffer but the head's, or with `head` of all."""
    digest = hashlib.sha256()
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
) -> torch.Tensor:
    """Pooled activations [len(rows), d] of the middle view of the pictures, on the device, in the dtype the body gives.

    Kept in immutable shards that list the content hashes of their rows; only pictures that no shard has pass through
    the body. Labels and names are in no key.
    """
    parts = {
        "body": body_hash(network),
        "backbone": network.model.pretrained_cfg.get("architecture"),
        "size": size,
        "crop_pct": crop_pct,
        "build_batch": BUILD_BATCH,
        "dtype": str(network.device.dtype),
        "device": network.device.device.type,
        "threads": network.device.threads,
        "versions": keys.versions(),
        "code": keys.code_of("activations"),
    }
    kept = shards(store, parts)
    missing = list({hashes[row]: row for row in rows if hashes[row] not in kept}.values())
    if missing:
        computed = compute(network, pixels, missing, size, crop_pct, bar)

        def build(folder: Path) -> None:
            save_file({"features": computed}, folder / "features.safetensors")
            (folder / "rows.json").write_text(json.dumps([hashes[row] for row in missing]))

        store.make("activations", {**parts, "rows": [hashes[row] for row in missing]}, build)
        kept = shards(store, parts)
    return torch.stack([kept[hashes[row]] for row in rows]).to(network.device.device)


@torch.inference_mode()
def compute(network: Network, pixels: Pixels, rows: list[int], size: int, crop_pct: float, bar) -> torch.Tensor:
    """Activations of the rows, on the CPU, in padded batches of a fixed size."""
    network.eval()
    see = view(size, crop_pct)
    out = []
    for start in bar(range(0, len(rows), BUILD_BATCH), -(-len(rows) // BUILD_BATCH), "activations"):
        part = rows[start : start + BUILD_BATCH]
        batch = np.zeros((BUILD_BATCH, size, size, 3), np.uint8)
        batch[: len(part)] = [see(pixels[row]) for row in part]
        out.append(network.features(network.device.put(torch.from_numpy(batch)))[: len(part)].cpu())
    return torch.cat(out)


def shards(store: Store, parts: dict) -> dict[str, torch.Tensor]:
    """The rows of all shards made as `parts` say, by content hash."""
    out = {}
    for path in store.like("activations", parts):
        features = load_file(path / "features.safetensors")["features"]
        out.update(zip(json.loads((path / "rows.json").read_text()), features, strict=True))
    return out
