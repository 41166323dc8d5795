"""The setup of a job before its first phase: device, images and network, and a trial of every image size."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from thaw.config.schema import Backbone, Settings
from thaw.config.values import parse_bytes, parse_count
from thaw.config.weights import PACKAGED, weights_file
from thaw.data import dataset, pixels
from thaw.data.batches import workers_for
from thaw.data.file_state import named_files
from thaw.data.table import TEST, TRAIN, VALID
from thaw.model import device as device_
from thaw.model import heads, packaged
from thaw.model.network import create_network, model_facts
from thaw.model.saved import CONFIG, read_saved
from thaw.model.weights import load_weights, read_weights
from thaw.plan import plan
from thaw.plan.facts import Facts, fact_names
from thaw.runtime import console
from thaw.runtime.files import write_data_lists
from thaw.runtime.machine import cores
from thaw.store.estimates import ArtifactCosts
from thaw.store.store import Store
from thaw.train import preflight
from thaw.train.context import RunContext
from thaw.train.cycle_state import LoadedWeights
from thaw.train.features import backbone_hash
from thaw.train.inputs import Inputs
from thaw.train.memory import inference_batch, within_memory, work_per_image
from thaw.train.start import NOTHING_YET, Start

SHOWN = 8  # new classes listed by name


def set_up(settings: Settings, folder: Path, store: Store, start: Start = NOTHING_YET) -> RunContext:
    """Set up device, images, network and the complete plan, using what `start` already has."""
    device = device_.choose_device(settings)
    images = load_images(settings, store, start)
    table = images.table
    write_data_lists(folder, table.bad, table.disputed)
    backbone = with_packaged_weights(settings.backbone, store)
    network = create_network(backbone, len(table.classes), settings.seed, device, settings.head)
    own = model_facts(network.model)
    if settings.init:
        console.say_notes([load_init(network.model, Path(settings.init).expanduser(), table.classes)])
    facts = Facts(
        train=len(images.rows(TRAIN)),
        valid=len(images.rows(VALID)),
        test=len(images.rows(TEST)),
        classes=len(table.classes),
        **own | facts_of_weights(settings.backbone, own),
    )
    remember_facts(store, settings, facts, own)
    planned = start.plan if start.plan and start.plan.facts == facts else plan.make_plan(settings, facts)
    network.device = device = device_.with_threads(device, settings, work_per_image(network, planned.size, store))
    planned = within_memory(settings, planned, network, store)
    side = round(planned.size / settings.data.crop_pct)
    budget = parse_bytes(settings.data.pixels_budget, "data.pixels_budget")
    if line := pixels.budget_note(table, side, budget):
        console.say(f"note: {line}")
    batch = inference_batch(planned)
    inputs = Inputs(
        table=table,
        pixels=pixels.load_pixels(images, side, budget, store, console.bar, start.decode_cache),
        network=network,
        store=store,
        size=planned.size,
        crop_pct=settings.data.crop_pct,
        augment=settings.augment,
        balance=settings.loss.balance,
        seed=settings.seed,
        batch=batch,
        workers=loader_processes(settings, planned.size, batch),
    )
    made, files = backbone_hash(network, head=True), named_files(settings)
    held, costs = LoadedWeights(network.model, made), ArtifactCosts(store, [], files)
    costs.replan(settings, planned)
    return RunContext(settings, planned, folder, device, store, network, made, held, inputs, costs, start.began)


def load_images(settings: Settings, store: Store, start: Start) -> dataset.Dataset:
    """Return the images, without a second scan if `start` has the table already."""
    if start.table is not None:
        return dataset.of_files(start.table, settings.data)
    side = round((settings.size or settings.backbone.facts.native_size or 224) / settings.data.crop_pct)
    images = dataset.load_dataset(settings.data, side, store.root / "scan", True, start.decode_cache)
    console.say_notes(images.table.notes)
    return images


def loader_processes(settings: Settings, size: int, batch: int) -> int:
    """Return the number of loader processes: `data.workers`, or for auto at most `threads`."""
    chosen = parse_count(settings.data.workers, "data.workers", 0)
    if chosen is not None:
        return chosen
    allowed = parse_count(settings.threads, "threads", 1) or cores()
    return workers_for(min(allowed, cores()), size, batch)


def facts_of_weights(backbone: Backbone, own: dict[str, int]) -> dict[str, int]:
    """Return the input size that the yaml of a backbone states, which may differ from the network's `own`.

    Warn if the other facts in the yaml are not those of the network, which are used.
    """
    stated = {name: value for name, value in asdict(backbone.facts).items() if value is not None}
    size = {name: stated.pop(name) for name in ("native_size",) if name in stated}
    for name, value in stated.items():
        if value != own[name]:
            console.say(f"warning: backbone.facts.{name}={value}: the network has {own[name]}, which is used")
    return size


def remember_facts(store: Store, settings: Settings, facts: Facts, own: dict[str, int]) -> None:
    """Store the facts of the data and the network's `own`, so that the next plan is complete at once."""
    data, backbone = fact_names(settings)
    counts = {key: getattr(facts, key) for key in ("train", "valid", "test", "classes")}
    store.remember(data, counts)
    store.remember(backbone, own)


def load_init(model: torch.nn.Module, folder: Path, classes: Sequence[str]) -> str:
    """Load the weights of another run, matching the rows of its head by class name; return a line that says so.

    Raise UserError (exit 6) if the folder contains no run or the run cannot be read.
    """
    source = f"init={folder}"
    weights = read_weights(preflight.init_file(folder), source)
    before = read_saved(folder, source).names if (folder / CONFIG).exists() else ()
    head, kept = heads.inherit_head(model, weights, before, classes)
    load_weights(model, weights | head, source, head=True)
    return init_line(source, before, classes, kept)


def init_line(source: str, before: Sequence[str], classes: Sequence[str], kept: Sequence[str]) -> str:
    """Say which classes continue from the head of another run, and which start untrained."""
    if not kept:
        part, why = "last layer", "that run names none of these classes"
        if set(before).intersection(classes):
            part, why = "head", "that run's head has another form"
        return f"{source}: the {part} for {len(classes):,} classes starts untrained, because {why}"
    new = [name for name in classes if name not in set(kept)]
    more = f" and {len(new) - SHOWN:,} more" if len(new) > SHOWN else ""
    untrained = f"; these are new and start untrained: {', '.join(new[:SHOWN])}{more}" if new else ""
    return f"{source}: {len(kept):,} of {len(classes):,} classes continue from the head of that run{untrained}"


def with_packaged_weights(backbone: Backbone, store: Store) -> Backbone:
    """Return the backbone; if its weights come from a package, with the path of their file in the store.

    Raise UserError as `weights_file` and `packaged.write` do.
    """
    if backbone.weights != PACKAGED:
        return backbone
    weights_file(backbone)
    with store.entry("weights", packaged.parts(), fault=packaged.fault) as entry:
        if entry.missing:
            packaged.write(entry.folder)
    return replace(backbone, weights=str(entry.path / "weights.safetensors"))
