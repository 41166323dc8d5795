"""The suffixes of image files, and of files that are taken for images but cannot be read."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from thaw.data.listing import count_text, name_some

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp",
            ".avif", ".avifs", ".heic", ".heif", ".hif", ".heics", ".heifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf",
            ".jpx", ".ppm", ".pgm", ".pbm", ".pnm")  # fmt: skip
KINDS = {
    "raw image": ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .raf .orf .rw2 .rwl .pef .srw .raw .3fr .iiq .x3f",
    "drawing": ".svg .svgz .eps .ps .ai .pdf .psd .psb .xcf .kra .wmf .emf",
    "video": ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .3gp .mts .m2ts .flv",
    "medical image": ".dcm .dicom .nii .nrrd .mha",
    "other image": ".jxl .jxr .tga .exr .hdr .pfm .dds .ico .cur .icns .pcx .qoi .sgi .xbm .xpm .fits .fit",
    "array": ".npy .npz .h5 .hdf5 .mat",
}  # fmt: skip
UNREAD = {suffix: kind for kind, suffixes in KINDS.items() for suffix in suffixes.split()}
ADVICE = "convert them to JPEG or PNG"


def suffix_of(path: str) -> str:
    """Return the suffix in lower case; '.nii' for a compressed .nii.gz."""
    stem, suffix = os.path.splitext(path.lower())
    return suffix if suffix != ".gz" else os.path.splitext(stem)[1] or suffix


def note_others(paths: Iterable[str], notes: list[str]) -> None:
    """Add notes about files that are not images, a warning for those that people take for images."""
    suffixes = [suffix_of(path) for path in paths]
    if unread := [suffix for suffix in suffixes if suffix in UNREAD]:
        notes.append(f"warning: ignored {unread_text(unread)}, which cannot be read: {ADVICE}")
    if other := [suffix or "no suffix" for suffix in suffixes if suffix not in UNREAD]:
        what = "is not an image" if len(other) == 1 else "are not images"
        notes.append(f"ignored {count_text(len(other), 'file')} that {what} ({name_some(set(other))})")


def unread_text(suffixes: Sequence[str]) -> str:
    """Return how many files of each kind there are: '3 raw images (.dng, .nef) and 1 video (.mov)'."""
    kinds = Counter(UNREAD[suffix] for suffix in suffixes)
    return " and ".join(
        f"{count_text(n, kind)} ({', '.join(sorted({suffix for suffix in suffixes if UNREAD[suffix] == kind})[:3])})"
        for kind, n in sorted(kinds.items())
    )


def why_empty(paths: Iterable[str]) -> str:
    """Say what a folder has instead of readable images, and what to do about it."""
    suffixes = [suffix_of(path) for path in paths]
    if unread := [suffix for suffix in suffixes if suffix in UNREAD]:
        return f"has no images that can be read, only {unread_text(unread)}: {ADVICE}"
    kinds = f" ({count_text(len(suffixes), 'file')} of other kinds)" if suffixes else ""
    return f"has no images{kinds}; fill it or remove it"
