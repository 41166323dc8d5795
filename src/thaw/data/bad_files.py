"""Files that cannot be used: what is wrong with each, and whether so many of them may be left out."""

from collections import Counter
from collections.abc import Collection

from thaw.data.listing import count_text, name_some, short_repr
from thaw.data.table import SPLITS, TRAIN
from thaw.data.verify import Verdict
from thaw.runtime.errors import BadFiles

HANDFUL = 5  # bad files that are tolerated, if they are no more than a tenth
NAMED = 5  # bad files that are named
SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 1)  # that data.max_bad is advised


def why_unusable(seen: Verdict, min_side: int) -> str:
    """Return why a file cannot be used, '' where it can."""
    if seen.bad or min(seen.height, seen.width) >= min_side:
        return seen.bad
    return f"{seen.width}x{seen.height} px, shorter side < data.min_side {min_side}"


def check_bad_files(bad, files, where, max_bad, notes) -> None:
    """Notes the bad files. Errors: more of them than allowed in a split, exit 3."""
    total, spoilt = Counter(where[file.path][0] for file in files), Counter(where[path][0] for path, _ in bad)
    gone = {path for path, _ in bad}
    lost = {where[path][1] for path in gone} - {
        where[file.path][1] for file in files if file.path not in gone and where[file.path][0] == TRAIN
    }
    for code, count in sorted(spoilt.items()):
        allowed = tolerated_count(total[code], max_bad) if code == TRAIN else 0
        if count > allowed:
            rule = "none may be left out there: mend or remove them"
            if code == TRAIN:
                rule = f"data.max_bad={max_bad} allows {allowed}; {advice(count, total[code], lost)}"
            line = f"{count:,} of {count_text(total[code], 'file')} in {SPLITS[code]} cannot be used; {rule}"
            raise BadFiles(line, tuple(row for row in bad if where[row[0]][0] == code))
    if bad:
        notes.append(f"{len(bad):,} of {count_text(len(files), 'file')} left out, as bad_files.csv lists:")
        notes += [f"  {short_repr(path)}: {reason}" for path, reason in bad[:NAMED]]
        notes += [f"  and {len(bad) - NAMED:,} more"] if len(bad) > NAMED else []


def advice(count: int, total: int, lost: Collection[str]) -> str:
    """What to do about so many bad files of train; `lost` are the classes of which no other is left."""
    if lost:
        return f"mend them: without them nothing is left of {name_some(lost)}"
    share = next(share for share in SHARES if tolerated_count(total, share) >= count)
    return f"data.max_bad={share} leaves them out"


def tolerated_count(n: int, share: float) -> int:
    """How many of n files may be bad: the share of them, but a handful where that is at most a tenth, and at least one.

    A share of a small folder is none at all. With a share of 0 none may be.
    """
    return max(1, int(share * n + 1e-9), min(HANDFUL, n // 10)) if share else 0
