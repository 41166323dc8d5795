"""Twins across the splits: held-out images that are others once more, equal or re-encoded, resized, cropped.

Byte-equal ones are found by the scan; near ones by stored activations, where a checklist has them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from thaw.data import contact_sheet
from thaw.data.augment import view
from thaw.data.listing import short_repr
from thaw.data.table import SPLITS, TEST, VALID, Table
from thaw.runtime import console
from thaw.runtime.files import write_csv
from thaw.train.inputs import Inputs, PhaseInputs

NEIGHBOURS = 10
NEARER = 9  # times, by 1 - cosine: three times by distance
BLOCK, MOST = 1024, 2**27  # images that are compared with all others at a time; comparisons at a time
SHOWN = 16  # pairs on the sheet
SMALLEST = 192  # pixels that an image is shown with there at least

Pair = tuple[int, int, float]  # two rows of a table, the earlier split first, and their cosine similarity


def find_near_duplicates(train: Tensor, valid: Tensor) -> list[Pair]:
    """(row of train, row of valid, cosine similarity) of activations [n, d] that are near twins, most alike first.

    An image's twin stands out from its own neighbourhood: with s the cosine similarity, the mean training activation
    taken off both, and s10 that of the tenth nearest training image, 1 - s < (1 - s10) / 9. Each image is its own
    measure, so that a network to which all images look alike (digits) finds none: there the nearest is about as near
    as the tenth. (The ratio of distances is Lowe's test for features that match, IJCV 2004.) An image that has ten
    twins hides them.
    """
    if len(train) < 2 * NEIGHBOURS:
        return []
    mean, found = train.float().mean(0), []
    train = normalize(train.float() - mean, dim=1)
    block = max(1, min(BLOCK, MOST // len(train)))
    for start in console.bar(range(0, len(valid), block), -(-len(valid) // block), "near twins"):
        alike = normalize(valid[start : start + block].float() - mean, dim=1) @ train.T
        most, rows = alike.topk(NEIGHBOURS, dim=1)
        twins = (1 - most) * NEARER < 1 - most[:, -1:]
        for i, j in twins.nonzero().tolist():
            found.append((int(rows[i, j]), start + i, float(most[i, j])))
    return sorted(found, key=lambda pair: (-pair[2], pair))


def report_duplicates(folder: Path, inputs: Inputs, phases: Sequence[PhaseInputs]) -> dict:
    """List the twins (leaks.csv), draw the near ones (leaks.png) and warn of them; their numbers, as in result.json."""
    table, pairs = inputs.table, near_pairs(inputs, phases)
    row_of = {path: row for row, path in enumerate(table.paths)}
    rows = [(a, b, splits_of(table, row_of[a], row_of[b]), "equal") for a, b in table.leaks]
    rows += [(table.paths[a], table.paths[b], splits_of(table, a, b), f"{s:.5f}") for a, b, s in pairs or []]
    write_csv(folder / "leaks.csv", ("path", "twin", "splits", "similarity"), rows)
    warnings = [note for note in table.notes if note.startswith("warning: ")]
    (folder / "leaks.png").unlink(missing_ok=True)  # of an attempt before
    if pairs:
        draw(inputs, pairs[:SHOWN]).save(folder / "leaks.png")
        warnings.append(f"warning: {warning(table, pairs)}")
        console.say(warnings[-1])
    counts = {} if pairs is None else {"near_twins": len({b for _, b, _ in pairs})}
    return {"equal_twins": len({b for _, b in table.leaks}), **counts, "warnings": warnings}


def near_pairs(inputs: Inputs, phases: Sequence[PhaseInputs]) -> list[Pair] | None:
    """Near twins of train in valid, and of both in test; None where the plan does not begin with stored activations."""
    first = next((one for one in phases if one.phase.train == "all" or one.phase.features == "precomputed"), None)
    if first is None or first.phase.features != "precomputed" or first.phase.views:
        return None
    (train, _), (valid, _) = first.stored
    sides = [(train, inputs.train_rows, valid, inputs.valid_rows)]
    if len(held := inputs.rows(TEST)):
        both = torch.cat([train, valid]), np.concatenate([inputs.train_rows, inputs.valid_rows])
        sides.append((*both, inputs.activations(held)[0], held))
    hashes = inputs.table.hashes
    try:
        found = [(int(ra[i]), int(rb[j]), s) for a, ra, b, rb in sides for i, j, s in find_near_duplicates(a, b)]
    except torch.OutOfMemoryError:
        device = inputs.network.device
        console.say(f"note: near twins are not looked for: {len(train):,} images are too many for {device}")
        return None
    return sorted((pair for pair in found if hashes[pair[0]] != hashes[pair[1]]), key=lambda pair: (-pair[2], pair))


def splits_of(table: Table, a: int, b: int) -> str:
    """train/valid of two rows."""
    return "/".join(SPLITS[table.splits[row]] for row in (a, b))


def warning(table: Table, pairs: Sequence[Pair]) -> str:
    """How many held-out images have near twins, and the two that are most alike."""
    twins = {b for _, b, _ in pairs}
    names = {VALID: "validation", TEST: "test"}
    counts = {code: sum(table.splits[row] == code for row in twins) for code in names}
    many = [f"{n} of {(table.splits == code).sum()} {names[code]}" for code, n in counts.items() if n]
    first = " and ".join(short_repr(table.paths[row]) for row in reversed(pairs[0][:2]))
    return (
        f"near twins of others by their looks: {' and '.join(many)} images (leaks.csv, leaks.png), "
        f"most of all {first}; if they are, results are too good"
    )


def draw(inputs: Inputs, pairs: Sequence[Pair]) -> Image:
    """Draw each pair side by side, under each its split, how alike they are, its folder and its name."""
    see, table = view(inputs.size, inputs.crop_pct), inputs.table
    images = [see(inputs.pixels[row]) for a, b, _ in pairs for row in (a, b)]
    texts = [caption(table, row, s) for a, b, s in pairs for row in (a, b)]
    columns = 8 if inputs.size < 200 else 4
    return contact_sheet.contact_sheet(images, texts, columns, SMALLEST)


def caption(table: Table, row: int, similarity: float) -> str:
    folder, _, name = table.paths[row].rpartition("/")
    return f"{SPLITS[table.splits[row]]}  {similarity:.4f}\n{folder}/\n{name}"
