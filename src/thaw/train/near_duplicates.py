"""Duplicates across the splits: held-out images that are equal to others, or re-encoded, resized or cropped copies.

The scan finds equal ones; near duplicates are found by their stored activations, if the checklist computes them.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from thaw.data import contact_sheet
from thaw.data.augment import view
from thaw.data.listing import quoted
from thaw.data.table import SPLITS, TEST, VALID, Table
from thaw.runtime import console
from thaw.runtime.files import write_csv
from thaw.store.store import key_of
from thaw.train.features import ImageView, activation_parts
from thaw.train.fingerprint import code_digest
from thaw.train.inputs import Inputs, PhaseInputs

NEIGHBOURS = 10
NEARER = 9  # ratio of 1 - cosine; as a ratio of distances, 3
BLOCK, MOST = 1024, 2**27  # at most: images compared with all others at once, and comparisons at once
SHOWN = 16  # pairs on the contact sheet
SMALLEST = 192  # minimum side in pixels of an image on the sheet

Pair = tuple[int, int, float]  # two rows of the table, earlier split first, and their cosine similarity


def find_near_duplicates(train: Tensor, valid: Tensor) -> list[Pair]:
    """Return near duplicates, most similar first, as (row in train, row in valid, cosine similarity).

    `train` and `valid` are activations [n, d]; the mean training activation is subtracted from both. With s the cosine
    similarity to a training image and s10 the one to the tenth nearest, a pair is a near duplicate if
    1 - s < (1 - s10) / 9 (like Lowe's ratio test, IJCV 2004). The threshold is relative to each image's neighbours. So
    if all images have similar activations (digits), none is found: the nearest is about as near as the tenth nearest.
    Ten duplicates of one image hide each other.
    """
    if len(train) < 2 * NEIGHBOURS:
        return []
    mean, found = train.float().mean(0), []
    train = normalize(train.float() - mean, dim=1)
    block = max(1, min(BLOCK, MOST // len(train)))
    for start in console.bar(range(0, len(valid), block), -(-len(valid) // block), "near duplicates"):
        alike = normalize(valid[start : start + block].float() - mean, dim=1) @ train.T
        most, rows = alike.topk(NEIGHBOURS, dim=1)
        near = (1 - most) * NEARER < 1 - most[:, -1:]
        for i, j in near.nonzero().tolist():
            found.append((int(rows[i, j]), start + i, float(most[i, j])))
    return sorted(found, key=lambda pair: (-pair[2], pair))


def report_duplicates(folder: Path, inputs: Inputs, phases: Sequence[PhaseInputs]) -> dict:
    """List the duplicates (leaks.csv), draw the near ones (leaks.png), warn, and return the entries of result.json."""
    table, pairs = inputs.table, near_pairs(inputs, phases)
    row_of = {path: row for row, path in enumerate(table.paths)}
    rows = [(a, b, splits_of(table, row_of[a], row_of[b]), "equal") for a, b in table.leaks]
    rows += [(table.paths[a], table.paths[b], splits_of(table, a, b), f"{s:.5f}") for a, b, s in pairs or []]
    write_csv(folder / "leaks.csv", ("path", "duplicate", "splits", "similarity"), rows)
    warnings = [note for note in table.notes if note.startswith("warning: ")]
    (folder / "leaks.png").unlink(missing_ok=True)  # left by an earlier attempt
    if pairs:
        draw(inputs, pairs[:SHOWN]).save(folder / "leaks.png")
        warnings.append(f"warning: {warning(table, pairs)}")
        console.say(warnings[-1])
    counts = {} if pairs is None else {"near_duplicates": len({b for _, b, _ in pairs})}
    return {"equal_duplicates": len({b for _, b in table.leaks}), **counts, "warnings": warnings}


def near_pairs(inputs: Inputs, phases: Sequence[PhaseInputs]) -> list[Pair] | None:
    """Find near duplicates of train in valid and of both in test, or recall those found before in the same images.

    Return None if the plan does not start with stored activations or the comparison does not fit into memory.
    """
    first = next((one for one in phases if one.phase.train == "all" or one.phase.features == "precomputed"), None)
    if first is None or first.phase.features != "precomputed" or first.phase.views:
        return None
    held = inputs.rows(TEST)
    rows = np.concatenate([inputs.train_rows, inputs.valid_rows, held])
    parts = {
        "images": [inputs.key, inputs.contents(held)],
        "activations": activation_parts(inputs.network, ImageView(inputs.size, inputs.crop_pct)),
        "code": code_digest(),
    }
    name = f"duplicates_{key_of(parts)[:24]}"
    known = inputs.store.recall(name, pairs=list).get("pairs")
    if known is None or not all(map(partial(is_pair, len(rows)), known)):
        if (found := search_pairs(inputs, first, held)) is None:
            return None
        place = {row: at for at, row in enumerate(rows.tolist())}
        known = [(place[a], place[b], s) for a, b, s in found]
        inputs.store.remember(name, {"pairs": known})
    return [(int(rows[a]), int(rows[b]), s) for a, b, s in known]


def is_pair(images: int, found) -> bool:
    """Return whether something recalled from the store is two places in a list of images, and their similarity."""
    kinds = [type(value) for value in found] if isinstance(found, list) else []
    return kinds == [int, int, float] and all(0 <= place < images for place in found[:2])


def search_pairs(inputs: Inputs, first: PhaseInputs, held: np.ndarray) -> list[Pair] | None:
    """Compare all activations; return the pairs of rows, most similar first, or None if memory is too small."""
    (train, _), (valid, _) = first.stored
    sides = [(train, inputs.train_rows, valid, inputs.valid_rows)]
    if len(held):
        both = torch.cat([train, valid]), np.concatenate([inputs.train_rows, inputs.valid_rows])
        sides.append((*both, inputs.activations(held)[0], held))
    hashes = inputs.table.hashes
    try:
        found = [(int(ra[i]), int(rb[j]), s) for a, ra, b, rb in sides for i, j, s in find_near_duplicates(a, b)]
    except torch.OutOfMemoryError:
        device = inputs.network.device
        many = f"comparing {len(train):,} training images does not fit into the memory of {device}"
        console.say(f"note: near duplicates are not searched for: {many}")
        return None
    return sorted((pair for pair in found if hashes[pair[0]] != hashes[pair[1]]), key=lambda pair: (-pair[2], pair))


def splits_of(table: Table, a: int, b: int) -> str:
    """Return the splits of two rows, such as train/valid."""
    return "/".join(SPLITS[table.splits[row]] for row in (a, b))


def warning(table: Table, pairs: Sequence[Pair]) -> str:
    """Say how many held-out images are near duplicates, and name the most similar pair."""
    held_out = {b for _, b, _ in pairs}
    names = {VALID: "validation", TEST: "test"}
    counts = {code: sum(table.splits[row] == code for row in held_out) for code in names}
    many = [f"{n:,} of {(table.splits == code).sum():,} {names[code]}" for code, n in counts.items() if n]
    first = " and ".join(quoted(table.paths[row]) for row in reversed(pairs[0][:2]))
    return (
        f"possible near duplicates of images in other splits: {' and '.join(many)} images (leaks.csv, leaks.png), "
        f"the most similar are {first}; if they are duplicates, the results are too optimistic"
    )


def draw(inputs: Inputs, pairs: Sequence[Pair]) -> Image:
    """Draw each pair side by side, with split, similarity, folder and name under each image."""
    see, table = view(inputs.size, inputs.crop_pct), inputs.table
    images = [see(inputs.pixels[row]) for a, b, _ in pairs for row in (a, b)]
    texts = [caption(table, row, s) for a, b, s in pairs for row in (a, b)]
    columns = 8 if inputs.size < 200 else 4
    return contact_sheet.contact_sheet(images, texts, columns, SMALLEST)


def caption(table: Table, row: int, similarity: float) -> str:
    folder, _, name = table.paths[row].rpartition("/")
    return f"{SPLITS[table.splits[row]]}  {similarity:.4f}\n{folder}/\n{name}"
