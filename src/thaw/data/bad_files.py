"""Files that cannot be used: the reason for each, and how many of them are tolerated."""

from collections import Counter
from collections.abc import Collection

from thaw.data.listing import count_text, name_some, quoted
from thaw.data.table import SPLITS, TRAIN
from thaw.data.verify import Verdict
from thaw.runtime.errors import BadFiles

HANDFUL = 5  # bad files that are tolerated if they are at most a tenth of the files
NAMED = 5  # bad files that the notes name
SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 1)  # values of data.max_bad that are suggested


def why_unusable(seen: Verdict, min_side: int) -> str:
    """Return why a file cannot be used, or '' if it can."""
    if seen.bad or min(seen.height, seen.width) >= min_side:
        return seen.bad
    return f"{seen.width}x{seen.height} px, shorter side < data.min_side {min_side}"


def check_bad_files(bad, files, where, max_bad, notes) -> None:
    """Add notes about the bad files.

    Raise BadFiles (exit 3) if a split has too many: `tolerated_count` for train, none for valid and test.
    """
    total, unusable = Counter(where[file.path][0] for file in files), Counter(where[path][0] for path, _ in bad)
    gone = {path for path, _ in bad}
    lost = {where[path][1] for path in gone} - {
        where[file.path][1] for file in files if file.path not in gone and where[file.path][0] == TRAIN
    }
    for code, count in sorted(unusable.items()):
        allowed = tolerated_count(total[code], max_bad) if code == TRAIN else 0
        if count > allowed:
            rule = "none may be left out of this split: repair or remove them"
            if code == TRAIN:
                rule = f"data.max_bad={max_bad} allows {allowed}; {advice(count, total[code], lost)}"
            line = f"{count:,} of {count_text(total[code], 'file')} in {SPLITS[code]} cannot be used; {rule}"
            raise BadFiles(line, tuple(row for row in bad if where[row[0]][0] == code))
    if bad:
        notes.append(f"{len(bad):,} of {count_text(len(files), 'file')} left out (bad_files.csv lists them):")
        notes += [f"  {quoted(path)}: {reason}" for path, reason in bad[:NAMED]]
        notes += [f"  and {len(bad) - NAMED:,} more"] if len(bad) > NAMED else []


def advice(count: int, total: int, lost: Collection[str]) -> str:
    """Say what to do about `count` bad files of train's `total`; `lost` are the classes that have no other files."""
    if lost:
        return f"repair them: without them no image is left of {name_some(lost)}"
    share = next(share for share in SHARES if tolerated_count(total, share) >= count)
    return f"data.max_bad={share} leaves them out"


def tolerated_count(n: int, share: float) -> int:
    """Return how many of n files may be bad: the share of them, and at least one.

    A small share of a small folder is less than one file, so up to HANDFUL files are tolerated if they are at most a
    tenth. With a share of 0 no bad file is tolerated.
    """
    return max(1, int(share * n + 1e-9), min(HANDFUL, n // 10)) if share else 0
