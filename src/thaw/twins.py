"""Near twins across the split: validation pictures that are training pictures once more, re-encoded, resized, cropped.

Byte-equal ones are found by the scan; these by stored activations, where a checklist has them.
"""

from torch import Tensor
from torch.nn.functional import normalize

from thaw import progress
from thaw.data import contact
from thaw.data.augment import view
from thaw.job import Job, write_table

NEIGHBOURS = 10
NEARER = 9  # times, by 1 - cosine: three times by distance
BLOCK = 1024
SHOWN = 16  # pairs on the sheet


def near(train: Tensor, valid: Tensor) -> list[tuple[int, int, float]]:
    """(row of train, row of valid, cosine similarity) of activations [n, d] that are near twins, most alike first.

    A picture's twin stands out from its own neighbourhood: with s the cosine similarity, the mean training activation
    taken off both, and s10 that of the tenth nearest training picture, 1 - s < (1 - s10) / 9. Each picture is its own
    measure, so that a network to which all pictures look alike (digits) finds none: there the nearest is about as near
    as the tenth. (The ratio of distances is Lowe's test for features that match, IJCV 2004.) A picture that has ten
    twins hides them.
    """
    if len(train) < 2 * NEIGHBOURS:
        return []
    mean, found = train.float().mean(0), []
    train = normalize(train.float() - mean, dim=1)
    for start in range(0, len(valid), BLOCK):
        alike = normalize(valid[start : start + BLOCK].float() - mean, dim=1) @ train.T
        most, rows = alike.topk(NEIGHBOURS, dim=1)
        twins = (1 - most) * NEARER < 1 - most[:, -1:]
        for i, j in twins.nonzero().tolist():
            found.append((int(rows[i, j]), start + i, float(most[i, j])))
    return sorted(found, key=lambda pair: (-pair[2], pair))


def look(job: Job) -> dict:
    """Count, list (leaks.csv), draw (leaks.png) and warn of near twins, if the plan begins with stored activations."""
    before = next((phase for phase in job.plan.phases if phase.train == "all" or phase.features == "precomputed"), None)
    if before is None or before.features != "precomputed" or before.views:
        return {}
    (train, _), (valid, _) = job.stored_of(before)
    table = job.source.table
    pairs = [(int(job.train_rows[i]), int(job.valid_rows[j]), s) for i, j, s in near(train, valid)]
    pairs = [pair for pair in pairs if table.hashes[pair[0]] != table.hashes[pair[1]]]
    if pairs:
        paths = [(table.paths[a], table.paths[b], f"{s:.5f}") for a, b, s in pairs]
        equal = [(*pair, "equal") for pair in table.leaks]
        write_table(job.folder / "leaks.csv", ("path", "twin", "similarity"), [*equal, *paths])
        draw(job, pairs[:SHOWN])
        twins = len({b for _, b, _ in pairs})
        progress.say(
            f"warning: {twins} of {len(job.valid_rows)} validation pictures look like near twins of training pictures "
            f"(leaks.csv, leaks.png), most of all {paths[0][1]} and {paths[0][0]}; if they are, results are too good"
        )
    return {"near_twins": len({b for _, b, _ in pairs})}


def draw(job: Job, pairs: list[tuple[int, int, float]]) -> None:
    """leaks.png: each pair side by side, the training picture first."""
    see, table = view(job.plan.size, job.settings.data.crop_pct), job.source.table
    pictures = [see(job.pixels[row]) for a, b, _ in pairs for row in (a, b)]
    texts = [text for a, b, s in pairs for text in (f"train {name(table, a)}", f"{s:.4f} {name(table, b)}")]
    contact.sheet(pictures, texts, columns=8 if job.plan.size < 200 else 4).save(job.folder / "leaks.png")


def name(table, row: int) -> str:
    return table.paths[row].rpartition("/")[2]
