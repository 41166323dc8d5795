"""Sheets of what the network would see: a file for each size of the plan, augmented, and one as validation sees them.

python scripts/show_batch.py data.root=~/photos augment=strong resize=double      the same words as src/train.py
python scripts/show_batch.py ... --out=FOLDER                                     else a new one in outputs/show_batch

Nothing is trained and no weights are fetched; only the pictures that are shown are decoded, once all were scanned.
"""

import argparse
import sys
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from thaw import composed, plan, shell, tend, titles
from thaw.disk import new_folder
from thaw.endings import as_refusal, refused
from thaw.errors import BadFiles, UserError
from thaw.facts import Facts, known_facts
from thaw.files import near, write_lists
from thaw.progress import notes, say
from thaw.settings import Settings


def main() -> int:
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    try:
        words, folder = folder_of(words)
        notes(shell.tidy(words, composed.CONF).notes)
        try:
            for file in show(composed.settings_of(words), folder):
                print(near(file))
        except BadFiles as error:
            raise as_refusal(error, folder) from None
        finally:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        return 0
    except UserError as error:
        return refused(error)


def folder_of(words: list[str]) -> tuple[list[str], Path]:
    """The other words, and the folder of --out or a new one named as a run's is. Errors: no folder, exit 2."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--out", type=Path)
    try:
        given, rest = parser.parse_known_args(words)
    except argparse.ArgumentError:
        raise UserError(2, "--out: needs a folder, --out=FOLDER") from None
    name = titles.folder_name(shell.tidy(rest, composed.CONF).argv, datetime.now(), False)
    return rest, given.out.expanduser() if given.out else new_folder(composed.OUTPUTS / "show_batch" / name)


def show(settings: Settings, folder: Path) -> list[Path]:
    """Draw the sheets into the folder; their files."""
    store = tend.open_store(settings, say)
    facts = asdict(known_facts(settings, store.recall))
    if facts["native_size"] is None or facts["multiple"] is None:
        facts |= look(settings)
    from thaw.data import contact, pixels, source

    crop_pct = settings.data.crop_pct
    pictures = source.load(
        settings.data, round((settings.size or facts["native_size"]) / crop_pct), store.root / "scan", True
    )
    notes(pictures.table.notes)
    splits = zip(("train", "valid", "test"), (source.TRAIN, source.VALID, source.TEST), strict=True)
    facts |= {name: len(pictures.rows(split)) for name, split in splits} | {"classes": len(pictures.table.classes)}
    planned = plan.plan(settings, Facts(**facts))
    looked_at = pixels.on_the_fly(pictures, round(planned.size / crop_pct))
    folder.mkdir(parents=True, exist_ok=True)
    write_lists(folder, pictures.table.bad, pictures.table.disputed)
    return contact.sheets(folder, planned, settings, pictures.table, looked_at)


def look(settings: Settings) -> dict:
    """The facts of a backbone that no yaml states, from its structure alone. Errors: no such model, exit 2."""
    import torch

    from thaw import model

    model.known_name(settings.backbone.name)
    with torch.device("meta"):
        return model.looked_at(model.build(settings.backbone.name, False, {}))


if __name__ == "__main__":
    sys.exit(main())
