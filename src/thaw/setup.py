"""Before the first phase: device, pictures and network are made a job, and every size is tried once."""

import copy
from dataclasses import asdict
from pathlib import Path

import torch

from thaw import device as device_
from thaw import heads, model, plan, progress
from thaw.checks import size_in_bytes
from thaw.data import contact, pixels, source
from thaw.data.spool import Spool
from thaw.endings import of_accelerator, short_of_memory
from thaw.errors import UserError
from thaw.facts import Facts, fact_names
from thaw.features import body_hash
from thaw.files import write_lists
from thaw.job import Counters, Job, look_batch
from thaw.model import Network, thaw
from thaw.settings import Settings
from thaw.store import Store


def set_up(settings: Settings, folder: Path, store: Store, spool: Spool | None = None) -> Job:
    """Device, pictures and network, and the plan with all its facts known; `spool` has what was decoded just now."""
    device = device_.choose(settings)
    side_known = settings.size or settings.backbone.facts.native_size
    drawn = round((side_known or 224) / settings.data.crop_pct)
    pictures = source.load(settings.data, drawn, store.root / "scan", True, spool)
    table = pictures.table
    progress.notes(table.notes)
    write_lists(folder, table.bad, table.disputed)
    backbone = model.with_file(settings.backbone, store)
    network = model.create(backbone, len(table.classes), settings.seed, device, settings.head)
    looked = {**model.looked_at(network.model)} | {
        k: v for k, v in asdict(settings.backbone.facts).items() if v is not None
    }
    if settings.init:
        start_from(network, Path(settings.init).expanduser())
    facts = Facts(
        train=len(pictures.rows(source.TRAIN)),
        valid=len(pictures.rows(source.VALID)),
        test=len(pictures.rows(source.TEST)),
        classes=len(table.classes),
        **looked,
    )
    remember(store, settings, facts)
    planned = plan.plan(settings, facts)
    network.device = device = device_.with_threads(device, settings, model.work(network.model, planned.size))
    side = round(planned.size / settings.data.crop_pct)
    budget = size_in_bytes(settings.data.pixels_budget, "data.pixels_budget")
    if line := pixels.beyond(table, side, budget):
        progress.say(f"note: {line}")
    return Job(
        settings=settings,
        plan=planned,
        folder=folder,
        device=device,
        store=store,
        source=pictures,
        pixels=pixels.pixels(pictures, side, budget, store, progress.bar, spool),
        network=network,
        log=lambda row: None,
        counters=Counters(),
        made=(made := body_hash(network, head=True)),
        holds=made,
        activations={},
    )


def remember(store: Store, settings: Settings, facts: Facts) -> None:
    """Keep the facts, so that the next plan of this data and backbone is complete before anything is loaded."""
    data, backbone = fact_names(settings)
    counts = {key: getattr(facts, key) for key in ("train", "valid", "test", "classes")}
    store.remember(data, counts)
    store.remember(backbone, {key: getattr(facts, key) for key in ("native_size", "multiple", "layers")})


def start_from(network: Network, folder: Path) -> None:
    """Load the weights of another run; its head too where it has as many classes. Errors: no run there, exit 6."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise UserError(6, f"init={folder}: no run is there (it has no model.safetensors)")
    weights = model.read_safetensors(path)
    own = network.model.state_dict()
    head = all(n in weights and weights[n].shape == own[n].shape for n in heads.names(network.model))
    model.load(network.model, weights, f"init={folder}", head=head)


def probe(job: Job) -> None:
    """Try one step of every size and trained part on a copy, so that what does not work fails before the first phase.

    With the full batch where memory is scarce (a GPU), else with two pictures.
    Errors: a size the network does not take, exit 2; a batch that does not fit, exit 5.
    """
    tried = {(p.train, e.size, e.batch) for p in job.plan.phases if p.features == "live" for e in p.epochs}
    gpu, kept = job.device.device.type == "cuda", {"sgd": 1, "adamw": 2}[job.settings.optimizer.name]
    trial = copy.deepcopy(job.network)
    for train, size, batch in sorted(tried | {("head", job.plan.size, job.settings.batch_size)}):
        n = batch if gpu else min(batch, 2)
        thaw(trial, train, job.settings.bn)
        try:
            if size == job.plan.size:
                model.can_be_saved(job.network.model, size)
            if (train, size) == ("head", job.plan.size):
                model.must_be_whole(copy.deepcopy(trial), size)
            moments = [torch.empty_like(p) for p in trial.parameters() if p.requires_grad for _ in range(kept)]
            pictures = torch.zeros(n, size, size, 3, dtype=torch.uint8, device=job.device.device)
            trial(pictures).sum().backward()
            trial.zero_grad(set_to_none=True)
            moments.clear()
        except (RuntimeError, AssertionError, ValueError) as error:
            if short_of_memory(error):
                advice = f"try batch_size={max(1, batch // 2)}"
                what = f"batch_size={batch} at {size} px does not fit into the memory of {job.device}"
                raise UserError(5, f"{what}; {advice}") from None
            if of_accelerator(error):
                raise  # whatever size the network is given
            if "use_deterministic_algorithms" in str(error):
                what = f"head={job.settings.head.kind} on {job.settings.backbone.name} has a step without such a form"
                raise UserError(2, f"deterministic=true: {what} ({model.first_line(error)})") from None
            asked = f"size={size}" if size == job.plan.size else f"resize.sizes={job.settings.resize.sizes}, {size} px"
            raise UserError(
                2,
                f"{asked}: {job.settings.backbone.name} does not take it ({model.first_line(error)}); "
                f"its own size is {job.plan.facts.native_size}",
            ) from None
    if gpu:
        n, size = look_batch(job), job.plan.size
        try:
            with torch.inference_mode():
                trial(torch.zeros(n, size, size, 3, dtype=torch.uint8, device=job.device.device))
        except torch.OutOfMemoryError:
            what = f"validating {n} pictures at once does not fit into the memory of {job.device}"
            raise UserError(5, f"size={size}: {what}; try a smaller size") from None
        del trial
        torch.cuda.empty_cache()


def sheets(job: Job) -> None:
    """What the network sees of some pictures, in the run's folder."""
    contact.sheets(job.folder, job.plan, job.settings, job.source.table, job.pixels)
