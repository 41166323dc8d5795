"""How bright a set of images is: one scale for all its 16-bit grey, and a word where the rest is almost black."""

from collections.abc import Sequence

from thaw.data.listing import count_text
from thaw.data.table import FULL
from thaw.data.verify import Verdict

DARK = 31  # of 255, with which more than half of the images are taken for a mistake


def content_names(seen: Sequence[Verdict], notes: list[str]) -> tuple[str, ...]:
    """What names the content of each image, as in `Table.hashes`; notes the scale, and images that are dark.

    Cameras write 10, 12 or 14 bits into files of 16. White is the highest number of as many bits as any image of the
    set uses, never of one image alone: how bright it is beside the others may tell its class.
    """
    deep = [verdict.peak16 for verdict in seen if verdict.peak16]
    bits = max(deep).bit_length() if deep else FULL
    if bits < FULL:
        what = f"{count_text(len(deep), 'image')} of 16-bit grey with values up to {max(deep):,}"
        notes.append(f"{what}: {(1 << bits) - 1:,} ({bits} bits) is white in all of them")
    peaks = [verdict.peak16 * 255 >> bits if verdict.peak16 else verdict.peak for verdict in seen]
    if 2 * (dark := sum(peak <= DARK for peak in peaks)) > len(seen):
        what = f"{dark:,} of {count_text(len(seen), 'image')} are almost black, with no value above {DARK} of 255"
        notes.append(f"warning: {what}; if their files use few of their bits, store them stretched to 255")
    return tuple(f"{v.hash}-{bits}" if v.peak16 and bits < FULL else v.hash for v in seen)
