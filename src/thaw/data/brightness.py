"""The brightness of a set of images: one scale for all 16-bit grey, and a warning if most are almost black."""

from collections.abc import Sequence

from thaw.data.listing import count_text
from thaw.data.table import FULL
from thaw.data.verify import Verdict

DARK = 31  # of 255; an image without a higher value is almost black


def content_names(seen: Sequence[Verdict], notes: list[str]) -> tuple[str, ...]:
    """Return the content name of each image, as in `Table.hashes`; add notes about the scale and about dark images.

    Cameras store 10, 12 or 14 bits in 16-bit files. White is the largest value of the bit depth that the whole set
    uses, never of a single image, since an image's brightness relative to the others may tell its class.
    """
    deep = [verdict.peak16 for verdict in seen if verdict.peak16]
    bits = max(deep).bit_length() if deep else FULL
    if bits < FULL:
        what = f"{count_text(len(deep), 'image')} of 16-bit grey with values up to {max(deep):,}"
        notes.append(f"{what}: {(1 << bits) - 1:,} ({bits} bits) counts as white in all of them")
    peaks = [verdict.peak16 * 255 >> bits if verdict.peak16 else verdict.peak for verdict in seen]
    if 2 * (dark := sum(peak <= DARK for peak in peaks)) > len(seen):
        what = f"{dark:,} of {count_text(len(seen), 'image')} are almost black, with no value above {DARK} of 255"
        notes.append(f"warning: {what}; if the files use only a part of their range, rescale them to 0-255")
    return tuple(f"{v.hash}-{bits}" if v.peak16 and bits < FULL else v.hash for v in seen)
