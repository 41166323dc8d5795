"""Draw sheets of what the network would see: augmented images of every size of the plan, and validation images.

python scripts/show_batch.py data.root=~/photos augment=strong resize=double      settings as for src/train.py
python scripts/show_batch.py ... --out=FOLDER                                     write the sheets to a given folder

Nothing is trained and no weights are fetched. All images are scanned, but only those shown are decoded.
"""

import sys
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from thaw.config import command_line, compose, paths, run_names
from thaw.config.paths import require_checkout
from thaw.config.schema import Settings
from thaw.plan import plan
from thaw.plan.facts import Facts, known_facts
from thaw.runtime.console import say, say_notes
from thaw.runtime.entry import Parser, run
from thaw.runtime.errors import BadFiles
from thaw.runtime.files import new_folder, short_path, write_data_lists
from thaw.runtime.job_status import as_user_error
from thaw.store.open import open_store

require_checkout(__file__)


def main() -> None:
    words, folder = folder_of(sys.argv[1:])
    say_notes(command_line.normalise(words, paths.CONF).notes)
    try:
        for file in show(compose.compose_settings(words), folder):
            say(short_path(file))
    except BadFiles as error:
        raise as_user_error(error, folder) from None
    finally:
        with suppress(OSError):  # not empty
            folder.rmdir()


def folder_of(words: list[str]) -> tuple[list[str], Path]:
    """Split off --out; without it, return a new folder named like a run's. Raise UserError (exit 2) if it is empty."""
    parser = Parser(__doc__, usage="%(prog)s [-h] [--out FOLDER] [KEY=VALUE ...]", allow_abbrev=False)
    new = "folder of the sheets (default: a new one in outputs/show_batch)"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=new)
    given, rest = parser.parse_known_args(words)
    name = run_names.folder_name(command_line.normalise(rest, paths.CONF).argv, datetime.now(), False)
    return rest, given.out.expanduser() if given.out else new_folder(paths.OUTPUTS / "show_batch" / name)


def show(settings: Settings, folder: Path) -> list[Path]:
    """Draw the sheets into the folder; return their files."""
    store = open_store(settings, say)
    facts = asdict(known_facts(settings, store.recall))
    if facts["native_size"] is None or facts["multiple"] is None:
        facts |= look(settings)
    from thaw.data import contact_sheet, dataset, pixels
    from thaw.data.table import TEST, TRAIN, VALID

    crop_pct = settings.data.crop_pct
    images = dataset.load_dataset(
        settings.data, round((settings.size or facts["native_size"]) / crop_pct), store.root / "scan", True
    )
    say_notes(images.table.notes)
    splits = zip(("train", "valid", "test"), (TRAIN, VALID, TEST), strict=True)
    facts |= {name: len(images.rows(split)) for name, split in splits} | {"classes": len(images.table.classes)}
    planned = plan.make_plan(settings, Facts(**facts))
    pixel_source = pixels.on_the_fly(images, round(planned.size / crop_pct))
    folder.mkdir(parents=True, exist_ok=True)
    write_data_lists(folder, images.table.bad, images.table.disputed)
    return contact_sheet.write_sheets(folder, planned, settings, images.table, pixel_source)


def look(settings: Settings) -> dict:
    """Return the facts of a backbone from its structure alone. Raise UserError (exit 2) if timm has no such model."""
    import torch

    from thaw.model import network

    network.check_name(settings.backbone.name)
    with torch.device("meta"):
        return network.model_facts(network.build_model(settings.backbone.name, False, {}))


if __name__ == "__main__":
    sys.exit(run(main))
