"""The layout of a folder of images: which files it has, and the class and split of each."""

import os
from collections import Counter, defaultdict
from difflib import get_close_matches

from thaw.config.schema import Data
from thaw.data.listing import File, Listing, count_text, file_of, name_some, quoted
from thaw.data.suffixes import SUFFIXES, note_others, suffix_of, why_empty
from thaw.data.table import SPLITS, TEST, TRAIN, VALID
from thaw.runtime.errors import UserError

NAMES = {
    **dict.fromkeys(("train", "training", "train_set", "training_set"), TRAIN),
    **dict.fromkeys(("valid", "val", "validation", "valid_set", "val_set", "validation_set", "dev", "eval"), VALID),
    **dict.fromkeys(("test", "testing", "test_set"), TEST),
}
JUNK = {"Thumbs.db", "desktop.ini", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found",
        "@eaDir", "@Recycle", "#recycle"}  # fmt: skip


def walk(root: str, notes: list[str]) -> tuple[list[File], list[str], list[str]]:
    """Return the image files, all folders and all other files below root, with paths relative to root.

    Image files are recognised by suffix. Each real folder is visited once, links last. Add notes about what is ignored.
    Raise UserError (exit 3) if root is not a folder, is empty, or holds a folder that cannot be read.
    """
    if os.path.isfile(root):
        raise UserError(3, f"data.root={root} is a file; give the folder of the class folders, or data=csv for a table")
    files, folders, others, links, hidden, again = [], [], [], [], Counter(), 0
    queue, seen = [""], set()
    while queue or links:
        at = queue.pop() if queue else links.pop(0)
        try:
            status = os.stat(os.path.join(root, at))
            if (status.st_dev, status.st_ino) in seen:
                again += 1
                continue
            entries = sorted(os.scandir(os.path.join(root, at)), key=lambda entry: entry.name)
        except OSError as error:
            if not at and isinstance(error, FileNotFoundError):
                raise UserError(3, f"data.root={root} does not exist{suggest_folders(root)}") from error
            what = f"the folder {quoted(at)} in data.root" if at else f"data.root={root}"
            raise UserError(3, f"{what} cannot be read: {error.strerror}") from error
        if not at and not entries:
            raise UserError(3, f"data.root={root} is empty")
        seen.add((status.st_dev, status.st_ino))
        folders.append(at)
        for entry in entries:
            path = f"{at}/{entry.name}".lstrip("/")
            if entry.name.startswith(".") or entry.name in JUNK:
                hidden[entry.name] += 1
            elif os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                (links if entry.is_symlink() else queue).append(path)
            elif suffix_of(path) in SUFFIXES:
                files.append(file_of(path, entry.stat))
            else:
                others.append(path)
    if hidden:
        notes.append(f"ignored {count_text(hidden.total(), 'hidden or system file')} ({name_some(hidden)})")
    note_others(others, notes)
    if again:
        notes.append(f"ignored {count_text(again, 'link')} to folders that were already read")
    return sorted(files), folders, others


def suggest_folders(root: str) -> str:
    """Return '; did you mean ...?' with folders of similar names."""
    above, name = os.path.split(root)
    close = get_close_matches(name, folders_in(above), 3, 0.6)
    return f"; did you mean {' or '.join(os.path.join(above, other) for other in close)}?" if close else ""


def folders_in(path: str) -> list[str]:
    """Return the names of the folders in a folder, for a hint: none if it cannot be listed."""
    try:
        return sorted(name for name in os.listdir(path) if os.path.isdir(os.path.join(path, name)))
    except OSError:
        return []


def layout(root: str, folders: list[str], files: list[File]) -> dict[str, int]:
    """Return the folders that hold the class folders, and the split of each: {'': TRAIN} if root itself holds them.

    train/ is a split, rather than a class of that name, if it contains folders and if valid/ or test/ is beside it or
    nothing else is. Raise UserError (exit 3) if the layout is none of these.
    """
    top = {path for path in folders if path and "/" not in path}
    holding = {path.split("/")[0] for path in folders if "/" in path}
    splits = {name: NAMES[name.lower()] for name in top if name.lower() in NAMES}
    busy = {file.path.split("/")[0] for file in files if "/" in file.path}
    train = [name for name, code in splits.items() if code == TRAIN and name in holding]
    if train and (len(splits) > len(train) or busy <= set(splits)):
        for code, split in enumerate(SPLITS):
            if len(same := sorted(name for name in splits if splits[name] == code)) > 1:
                raise UserError(3, f"data.root={root} has {name_some(same)}, which all mean {split}; keep one")
        return {name: code for name, code in splits.items() if name in holding or code == VALID}
    if not top or top <= set(splits):
        raise UserError(3, f"data.root={root} has no class folders; it needs one for each class, or train/ with them")
    level(root, folders, files)
    return {"": TRAIN}


def level(root: str, folders: list[str], files: list[File]) -> None:
    """Raise UserError (exit 3) with the root that was meant if the folders look as if root were a level too high."""
    inside, full = defaultdict(list), set()
    for file in files:
        parts = file.path.split("/")
        full.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    for path in sorted(full & set(folders)):
        inside[path.rpartition("/")[0]].append(path)
    for name in inside[""]:
        splits = {NAMES.get(path.rpartition("/")[2].lower()) for path in inside[name]} - {None}
        if TRAIN in splits and len(splits) > 1:
            both = " and ".join(f"{path}/" for path in inside[name][:2])
            if any(inside[path] for path in inside[name]):
                raise UserError(3, f"data.root={root} is a level too high: it has {both}; give data.root={root}/{name}")
            wanted = " and ".join(f"{path.rpartition('/')[2]}/{name}/" for path in inside[name][:2])
            raise UserError(3, f"data.root={root} has {both}; put the splits above the classes: {wanted}")
    trains = [name for name in inside[""] if NAMES.get(name.lower()) == TRAIN]
    within = {name: {path.rpartition("/")[2] for path in inside[name]} for name in inside[""]}
    for name in trains:
        if alike := [other for other in within if other != name and within[name] and within[other] == within[name]]:
            what = f"{name}/ and {name_some(alike)} look like splits: both have the folders {name_some(within[name])}"
            raise UserError(3, f"data.root={root}: {what}; name them train/, valid/ and test/")
    at = ""
    while len(inside[at]) == 1:
        at = inside[at][0]
    if at and inside[at]:
        one = f"data.root={root} has only one folder with images, {quoted(inside[''][0])}"
        raise UserError(3, f"{one}, but a classifier needs two classes; did you mean data.root={root}/{at}?")


def place_files(files, tops, notes) -> tuple[list[File], dict[str, tuple[int, str]]]:
    """Return the files inside class folders, and map each path to (split, class). Add notes about the other files."""
    depth, where = 0 if "" in tops else 1, {}
    for file in files:
        parts = file.path.split("/")
        if len(parts) > depth + 1 and (not depth or parts[0] in tops):
            where[file.path] = tops[parts[0] if depth else ""], parts[depth]
    loose = [file.path for file in files if file.path not in where]
    if loose:
        notes.append(f"ignored {count_text(len(loose), 'image')} outside the class folders ({name_some(loose)})")
    if deep := [path for path in where if path.count("/") > depth + 1]:
        first = f"{quoted(deep[0])} has class {quoted(where[deep[0]][1])}"
        said = f"{count_text(len(deep), 'image')} in subfolders of a class folder, counted as that class: {first}"
        if len(deep) > len(where) / 2:
            meant = "/".join(deep[0].split("/")[: depth + 1])
            said = f"warning: {said}; if the subfolders are the classes, data.root must be a level lower: .../{meant}"
        notes.append(said)
    return [file for file in files if file.path in where], where


def note_sibling_split(root: str, notes: list[str]) -> None:
    """Add a warning about a split beside root if root itself is named like one."""
    above, name = os.path.split(root)
    if (code := NAMES.get(name.lower())) is None:
        return
    others = [other for other in folders_in(above) if NAMES.get(other.lower(), code) != code]
    if others:
        what = f"data.root={root} leaves out {name_some(others)} beside it"
        notes.append(f"warning: {what}; data.root={above} uses all splits")


def check_filled(where, folders, others, tops, allow_missing) -> None:
    """Raise UserError (exit 3) if a class folder has no images; outside train that is fine with `allow_missing`."""
    full = set(where.values())
    for path in folders:
        parent, _, name = path.rpartition("/")
        if path and parent in tops and (tops[parent], name) not in full and not (allow_missing and tops[parent]):
            inside = [other for other in others if other.startswith(f"{path}/")]
            raise UserError(3, f"class folder {quoted(path)} {why_empty(inside)}")


def listing(data: Data, notes: list[str]) -> Listing:
    """Return the images of `data.root`, which holds train/, perhaps valid/ and test/, with a folder for each class.

    Root may also hold the class folders themselves. Raise UserError (exit 3) if it has no such layout or cannot be
    read.
    """
    root = os.path.abspath(os.path.expanduser(data.root))
    files, folders, others = walk(root, notes)
    tops = layout(root, folders, files)
    files, where = place_files(files, tops, notes)
    if tops == {"": TRAIN}:
        note_sibling_split(root, notes)
    check_filled(where, folders, others, tops, data.allow_missing)
    return Listing(root, files, where, {code: f"{name}/" for name, code in tops.items()}, notes)
