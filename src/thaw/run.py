"""The plan carried out: one fold over the phases, from a pretrained network to a finished classifier."""

import copy
import csv
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from timm.models import save_for_hf
from torch.nn.functional import cross_entropy

from thaw import device as device_
from thaw import find, loop, model, plan, progress, schedules, stop
from thaw.data import batches, pixels, source
from thaw.data.augment import view
from thaw.data.batches import Key, Views
from thaw.errors import UserError
from thaw.features import activations
from thaw.model import Network, thaw
from thaw.plan import Facts, Phase, Plan
from thaw.settings import Settings, whole_or_auto
from thaw.store import Store

Row = dict[str, float | int | str]
SHEET = 32  # pictures on a sheet


@dataclass(frozen=True)
class Validation:
    """Logits [n, classes] of the validation pictures, and what follows from them."""

    logits: torch.Tensor
    labels: torch.Tensor

    @cached_property
    def losses(self) -> list[float]:
        """Cross-entropy of every picture."""
        return cross_entropy(self.logits, self.labels, reduction="none").tolist()

    @cached_property
    def loss(self) -> float:
        return float(np.mean(self.losses))

    @cached_property
    def accuracy(self) -> float:
        return float((self.logits.argmax(1) == self.labels).float().mean())

    @cached_property
    def f1_macro(self) -> float:
        from sklearn.metrics import f1_score

        return float(f1_score(self.labels, self.logits.argmax(1), average="macro", zero_division=0))


@dataclass(frozen=True)
class Kept:
    """The best cycle end so far: its weights on the CPU, its validation, where it was."""

    weights: dict[str, torch.Tensor]
    validation: Validation
    phase: str
    epoch: int


@dataclass
class Counters:
    """Where the run is, over all phases."""

    step: int = 0
    epoch: int = 0
    images: int = 0
    train_seconds: float = 0.0


@dataclass
class Job:
    """What every phase works with."""

    settings: Settings
    plan: Plan
    folder: Path
    device: device_.Device
    store: Store
    source: source.Source
    pixels: pixels.Pixels
    network: Network
    log: Callable[[Row], None]
    counters: Counters

    @cached_property
    def train_rows(self) -> np.ndarray:
        return self.source.rows(source.TRAIN)

    @cached_property
    def valid_rows(self) -> np.ndarray:
        return self.source.rows(source.VALID)

    def stored(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations and labels of the rows, on the device."""
        crop_pct = self.settings.data.crop_pct
        table = self.source.table
        features = activations(
            self.network, self.pixels, table.hashes, rows, self.plan.size, crop_pct, self.store, progress.bar
        )
        return features, torch.from_numpy(table.labels[rows]).to(features.device)

    @cached_property
    def stored_train(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.stored(self.train_rows)

    @cached_property
    def stored_valid(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.stored(self.valid_rows)

    @cached_property
    def loss(self) -> Callable:
        """The training loss."""
        loss, weight = self.settings.loss, None
        if loss.balance == "weights":
            counts = np.bincount(self.source.table.labels[self.train_rows], minlength=len(self.source.table.classes))
            weight = torch.tensor(counts.sum() / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)
            weight = weight.to(self.device.device)
        return partial(cross_entropy, weight=weight, label_smoothing=loss.smoothing)

    def picture(self, path: str) -> np.ndarray | None:
        """The picture of a path in its plain view, uint8 [size, size, 3]."""
        rows = {path: row for row, path in enumerate(self.source.table.paths)}
        if path not in rows:
            return None
        return view(self.plan.size, self.settings.data.crop_pct)(self.pixels[rows[path]], None)

    @property
    def workers(self) -> int:
        """Loader processes: none where a batch is made in less time than it takes to send it."""
        chosen = whole_or_auto(self.settings.data.workers, "data.workers", 0)
        if chosen is None:
            chosen = min(self.device.threads, 8) if self.plan.size >= 64 else 0
        return chosen


def run(settings: Settings, folder: Path, log: Callable[[Row], None]) -> tuple[dict, Callable]:
    """Carry out the checklist and leave a finished classifier in `folder`.

    The result as in result.json, and `picture(path)`: the validation picture of a path as the network sees it.
    """
    started = time.perf_counter()
    job = set_up(settings, folder, log)
    probe(job)
    sheets(job)
    kept, found, phases = None, {}, {}
    for index, phase in enumerate(job.plan.phases):
        began = time.perf_counter()
        if phase.do == "find":
            found[phase.name] = search(job, phase)
            report = {"lr": found[phase.name].taken}
        else:
            lr = phase.lr if phase.lr is not None else found[phase.rate_from].taken * settings.lr_factor
            kept, report = fit(job, phase, index, lr, kept)
        report["seconds"] = time.perf_counter() - began
        report["reused"] = False
        phases[phase.name] = report
    (folder / "plan.txt").write_text(plan.table(job.plan, settings, rates_found(settings, found)))
    model.load(job.network.model, kept.weights, "the best cycle end", head=True)
    result = {
        "best/accuracy": kept.validation.accuracy,
        "best/loss": kept.validation.loss,
        "best/f1_macro": kept.validation.f1_macro,
        "best/epoch": kept.epoch,
        "best/phase": kept.phase,
        **test(job),
        **{f"phase/{name}/{key}": value for name, report in phases.items() for key, value in report.items()},
        "bad_files": len(job.source.table.bad),
        **columns(job),
    }
    export(job, kept)
    seconds = time.perf_counter() - started
    result |= {"cost/seconds": seconds, "cost/seconds_paid": seconds}
    if job.device.device.type == "cuda":
        result["cost/gpu_gb"] = torch.cuda.max_memory_allocated(job.device.device) / 1e9
    return result, job.picture


def columns(job: Job) -> dict:
    """What dashboards filter by and nobody typed."""
    facts, table = job.plan.facts, job.source.table
    content = sorted(zip(table.hashes, table.labels.tolist(), table.splits.tolist(), strict=True))
    return {
        "size": job.plan.size,
        "n_train": facts.train,
        "n_valid": facts.valid,
        "n_classes": facts.classes,
        "data_id": plan.digest([content, table.classes]),
        "device": str(job.device),
    }


def rates_found(settings: Settings, found: dict[str, find.Found]) -> dict[str, float]:
    """The rates the finders took, times lr_factor."""
    return {name: f.taken * settings.lr_factor for name, f in found.items()}


# ----------------------------------------------------------------------------------------------------------------------
# before the first phase


def set_up(settings: Settings, folder: Path, log: Callable[[Row], None]) -> Job:
    """Device, pictures and network, and the plan with all its facts known."""
    device = device_.choose(settings)
    store = Store(Path(settings.store.dir), progress.say)
    side_known = settings.size or settings.backbone.facts.native_size
    pictures = source.load(
        settings.data, round((side_known or 224) / settings.data.crop_pct), store.root / "scan", True
    )
    table = pictures.table
    for note in table.notes:
        progress.say(f"note: {note}")
    write_bad_files(folder, table.bad)
    network = model.create(settings.backbone, len(table.classes), settings.seed, device)
    looked = {**model.looked_at(network)} | {k: v for k, v in asdict(settings.backbone.facts).items() if v is not None}
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
    side = round(planned.size / settings.data.crop_pct)
    return Job(
        settings=settings,
        plan=planned,
        folder=folder,
        device=device,
        store=store,
        source=pictures,
        pixels=pixels.pixels(pictures, side, store, progress.bar),
        network=network,
        log=log,
        counters=Counters(),
    )


def remember(store: Store, settings: Settings, facts: Facts) -> None:
    """Keep the facts, so that the next plan of this data and backbone is complete before anything is loaded."""
    data, backbone = plan.fact_names(settings)
    counts = {key: getattr(facts, key) for key in ("train", "valid", "test", "classes")}
    store.remember(data, counts)
    store.remember(backbone, {key: getattr(facts, key) for key in ("native_size", "multiple", "layers")})


def write_bad_files(folder: Path, bad) -> None:
    if bad:
        with (folder / "bad_files.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows([("path", "reason"), *bad])


def start_from(network: Network, folder: Path) -> None:
    """Load the weights of another run; its head too where it has as many classes. Errors: no run there, exit 6."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise UserError(6, f"init={folder}: no run is there (it has no model.safetensors)")
    weights = model.read_safetensors(path)
    own = network.model.state_dict()
    head = all(n in weights and weights[n].shape == own[n].shape for n in model.head_names(network.model))
    model.load(network.model, weights, f"init={folder}", head=head)


def probe(job: Job) -> None:
    """Try one step of every size and trained part on a copy, so that what does not work fails before the first phase.

    With the full batch where memory is scarce (a GPU), else with two pictures.
    Errors: a size the network does not take, exit 2; a batch that does not fit, exit 5.
    """
    tried = {(p.train, e.size, e.batch) for p in job.plan.phases if p.features == "live" for e in p.epochs}
    gpu = job.device.device.type == "cuda"
    trial = copy.deepcopy(job.network)
    for train, size, batch in sorted(tried | {("head", job.plan.size, job.settings.batch_size)}):
        n = batch if gpu else min(batch, 2)
        thaw(trial, train, job.settings.bn)
        try:
            pictures = torch.zeros(n, size, size, 3, dtype=torch.uint8, device=job.device.device)
            trial(pictures).sum().backward()
            trial.zero_grad(set_to_none=True)
        except torch.OutOfMemoryError:
            advice = f"try batch_size={max(1, batch // 2)}"
            raise UserError(
                5, f"batch_size={batch} at {size} px does not fit into the memory of {job.device}; {advice}"
            ) from None
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(
                2,
                f"size={size}: {job.settings.backbone.name} does not take it ({model.first_line(error)}); "
                f"its own size is {job.plan.facts.native_size}",
            ) from None
    del trial
    if gpu:
        torch.cuda.empty_cache()


def sheets(job: Job) -> None:
    """batch_<size>px.png: what the network sees of the first training pictures at each size, augmented."""
    labels = job.source.table.labels
    views = Views(job.pixels, labels, job.settings.data.crop_pct, job.settings.augment, (job.settings.seed, "sheet"))
    rows = batches.order(labels[job.train_rows], (job.settings.seed, "sheet"))[:SHEET]
    for size in sorted({e.size for phase in job.plan.phases for e in phase.epochs}):
        pictures, _ = views[Key(0, size, job.train_rows[rows])]
        lines = [np.hstack(list(part)) for part in pictures.numpy()[: len(rows) // 8 * 8].reshape(-1, 8, size, size, 3)]
        if lines:
            cv2.imwrite(str(job.folder / f"batch_{size}px.png"), np.vstack(lines)[..., ::-1])


# ----------------------------------------------------------------------------------------------------------------------
# the phases


def layer_groups(job: Job, phase: Phase) -> list[model.Group]:
    """The groups a phase trains, with their ratios."""
    if phase.train == "head":
        return model.head_group(job.network.model)
    return model.groups(job.network.model, phase.split, phase.ratios, job.settings.rates.decay)


def train_batches(job: Job, phase: Phase, epochs: range, name: str, steps: int | None = None):
    """The training batches of some epochs of a phase, in the order drawn from (seed, `name`, epoch).

    `steps` cuts them off, or repeats epochs until there are enough.
    """
    settings, labels = job.settings, job.source.table.labels[job.train_rows]
    seed, cut = (settings.seed, name), []
    for epoch in epochs:
        e = phase.epochs[min(epoch, len(phase.epochs) - 1)]
        positions = batches.order(labels, (*seed, epoch), settings.loss.balance == "sampler")
        cut += [(epoch, e.size, part) for part in batches.cut(positions, e.batch)]
    cut = cut[:steps]
    if phase.features == "precomputed":
        return batches.stored(*job.stored_train, [part for _, _, part in cut])
    views = Views(job.pixels, job.source.table.labels, settings.data.crop_pct, settings.augment, seed)
    return batches.loader(views, [Key(epoch, size, job.train_rows[part]) for epoch, size, part in cut], job.workers)


def search(job: Job, phase: Phase) -> find.Found:
    """Find the rate for the fits that use it, write its curve, say what was taken and why."""
    settings = job.settings
    steps = plan.SMOKE_STEPS if settings.smoke else settings.find.steps
    epochs = range(-(-steps // phase.epochs[0].steps))
    with progress.Phase(phase.name, steps) as line:
        rates, losses = find.range_test(
            job.network,
            watched(train_batches(job, phase, epochs, phase.name, steps), line),
            layer_groups(job, phase),
            settings.optimizer,
            settings.find,
            lambda network: thaw(network, phase.train, settings.bn),
            steps,
            loss=job.loss,
            mixup=settings.augment.mixup if phase.features == "live" else 0.0,
            seed=(settings.seed, phase.name, "find"),
        )
    found = find.read(rates, losses, settings.find)
    for lr, loss, smoothed in zip(found.rates, found.losses, found.smoothed, strict=True):
        job.log({f"{phase.name}/rate": lr, f"{phase.name}/loss": loss, f"{phase.name}/smoothed": smoothed})
    (job.folder / f"find_{phase.name.removeprefix('find_')}.json").write_text(
        json.dumps({"phase": phase.name, **found.as_json()}, indent=1)
    )
    mark = "warning: " if found.doubtful else ""
    progress.say(f"{phase.name}: {mark}lr {found.taken:.3g} taken; {found.reason}")
    return found


def watched(items, line: progress.Phase):
    """The items, the line moving with them."""
    for item in items:
        yield item
        line.step()


def fit(job: Job, phase: Phase, index: int, lr: float, kept: Kept | None) -> tuple[Kept, dict]:
    """Train a phase cycle by cycle; the best cycle end of all phases so far, left in the network, and what was bought.

    The next cycle starts from the last weights; what is handed on is the cycle end with the lowest validation loss.
    """
    settings, ends = job.settings, phase.ends
    groups = layer_groups(job, phase)
    for line in model.group_table(groups, lr) if phase.train == "all" else []:
        progress.say(f"  {line}")
    optimizer = loop.make_optimizer(job.network, groups, settings.optimizer)
    rate, momentum = (shape and schedules.curve(shape, ends) for shape in schedules.shapes(phase.schedule))
    before = stop.CycleEnd(float("inf"), kept.validation.losses if kept else [float("inf")] * len(job.valid_rows), True)
    records, own = [], None
    with progress.Phase(phase.name, phase.steps_budget) as line:
        for cycle, length in enumerate(phase.cycles):
            if cycle >= phase.budget:
                line.extend(ends[cycle] - ends[cycle - 1])
            first = sum(phase.cycles[:cycle])
            for epoch in range(first, first + length):
                train_loss, validation = one_epoch(
                    job, phase, index, epoch, optimizer, groups, lr, rate, momentum, line
                )
            at_final = phase.epochs[epoch].size == job.plan.size
            records.append(stop.CycleEnd(train_loss, validation.losses, at_final))
            if own is None or validation.loss < own.validation.loss:
                own = Kept(weights_of(job.network), validation, phase.name, job.counters.epoch)
            if phase.until == "overfit":
                verdict = stop.judge(before, records, len(phase.cycles))
                because, go_on = verdict.because, verdict.go_on
            else:
                because, go_on = "all planned cycles trained", cycle + 1 < len(phase.cycles)
            if not go_on:
                break
    better = kept is None or own.validation.loss < kept.validation.loss
    kept = own if better else kept
    model.load(job.network.model, kept.weights, "the best cycle end", head=True)
    report = {
        "accuracy": own.validation.accuracy,
        "loss": own.validation.loss,
        "lr": lr,
        "epochs": sum(phase.cycles[: len(records)]),
        "stopped_because": because,
    }
    handed = "" if better else f"; {kept.phase} was better and is handed on"
    progress.say(
        f"{phase.name}: accuracy {own.validation.accuracy:.2%}, validation loss {own.validation.loss:.4f} after "
        f"{report['epochs']} epochs at lr {lr:.3g}; {because}{handed}"
    )
    return kept, report


def one_epoch(job, phase, index, epoch, optimizer, groups, lr, rate, momentum, line) -> tuple[float, Validation]:
    """Train one epoch of a phase and validate; its mean training loss and the validation."""
    settings, counters = job.settings, job.counters
    e = phase.epochs[epoch]
    start = sum(earlier.steps for earlier in phase.epochs[:epoch])
    thaw(job.network, phase.train, settings.bn)
    trained = loop.train(
        job.network,
        train_batches(job, phase, range(epoch, epoch + 1), phase.name, e.steps),
        optimizer,
        lr=lr,
        rate=rate,
        momentum=momentum,
        loss=job.loss,
        mixup=settings.augment.mixup if phase.features == "live" else 0.0,
        seed=(settings.seed, phase.name, "fit"),
        start=start,
        check_every=settings.log_every,
    )
    losses, images, waited, began = [], 0, 0.0, time.perf_counter()
    fixed = {
        "phase": phase.name,
        "phase_index": index,
        "image_size": e.size,
        "batch_size": e.batch,
        "trainable_fraction": trainable_fraction(job.network),
    }
    for step in trained:
        losses.append(step.loss * step.images)
        images += step.images
        waited += step.wait
        counters.step += 1
        counters.images += step.images
        if counters.step % settings.log_every == 0:
            seconds = time.perf_counter() - began
            row = {
                "step": counters.step,
                "epoch": counters.epoch + (step.step + 1 - start) / e.steps,
                **fixed,
                "train/loss": float(step.loss),
                **group_rates(groups, lr * rate(step.step)),
                "speed/images_per_second": images / seconds,
                "speed/data_wait": waited / seconds,
            }
            if job.device.device.type == "cuda":
                row["speed/gpu_gb"] = torch.cuda.max_memory_allocated(job.device.device) / 1e9
            job.log(row)
            line.step(f" loss {row['train/loss']:.3f}, lr {row['lr/head']:.2g}, {images / seconds:,.0f} img/s")
        else:
            line.step()
    train_loss = float(torch.stack(losses).sum()) / images
    counters.train_seconds += time.perf_counter() - began
    counters.epoch += 1
    validation = validate(job, phase)
    job.log(
        {
            "step": counters.step,
            "epoch": counters.epoch,
            **fixed,
            "train/loss": train_loss,
            "valid/loss": validation.loss,
            "valid/accuracy": validation.accuracy,
            "valid/f1_macro": validation.f1_macro,
            **group_rates(groups, lr * rate(step.step)),
            "images_seen": counters.images,
            "train_seconds": counters.train_seconds,
        }
    )
    line.epoch(
        f"epoch {epoch + 1}, train loss {train_loss:.4f}, validation loss {validation.loss:.4f}, accuracy "
        f"{validation.accuracy:.2%}, {images / (time.perf_counter() - began):,.0f} img/s"
    )
    return train_loss, validation


def group_rates(groups: list[model.Group], lr: float) -> dict[str, float]:
    """The rate of the first and last group by name, and of every group by number."""
    rates = {f"lr/group_{i}": lr * group.ratio for i, group in enumerate(groups)}
    return {"lr/head": lr * groups[-1].ratio, "lr/first": lr * groups[0].ratio, **rates}


def trainable_fraction(network: Network) -> float:
    """The share of the parameters that is being trained."""
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return sum(n for n, trained in sizes if trained) / sum(n for n, _ in sizes)


def weights_of(network: Network) -> dict[str, torch.Tensor]:
    """A copy on the CPU of every parameter and buffer, in timm's names."""
    return {name: value.detach().to("cpu", copy=True) for name, value in network.model.state_dict().items()}


def validate(job: Job, phase: Phase) -> Validation:
    """Validate as the network is; while the body is frozen its stored activations do."""
    if phase.train == "head":
        features, labels = job.stored_valid
        return Validation(*loop.evaluate(job.network, [(features, labels)]))
    return look(job, job.valid_rows)


def look(job: Job, rows: np.ndarray) -> Validation:
    """Logits of plain views of the rows at the final size, in their order."""
    views = Views(job.pixels, job.source.table.labels, job.settings.data.crop_pct, None, ())
    keys = [Key(0, job.plan.size, part) for part in batches.cut(rows, max(job.settings.batch_size, 64))]
    return Validation(*loop.evaluate(job.network, batches.loader(views, keys, job.workers)))


# ----------------------------------------------------------------------------------------------------------------------
# after the last phase


def test(job: Job) -> dict:
    """The test set, where there is one: looked at once, used for nothing."""
    rows = job.source.rows(source.TEST)
    if not len(rows):
        return {}
    seen = look(job, rows)
    return {"test/accuracy": seen.accuracy, "test/loss": seen.loss, "test/f1_macro": seen.f1_macro}


def export(job: Job, kept: Kept) -> None:
    """Weights and configuration in timm's form, and what the network says of every validation picture."""
    classes, table = list(job.source.table.classes), job.source.table
    size = job.plan.size
    save_for_hf(
        job.network.model.to(memory_format=torch.contiguous_format),
        str(job.folder),
        safe_serialization=True,
        model_config={"label_names": classes},
        data_config={"input_size": (3, size, size), "crop_pct": job.settings.data.crop_pct},
    )
    probabilities = kept.validation.logits.softmax(1)
    with (job.folder / "valid_predictions.csv").open(
        "w", newline="", encoding="utf-8", errors="backslashreplace"
    ) as file:
        writer = csv.writer(file)
        writer.writerow(["path", "truth", "prediction", *classes])
        for row, label, p in zip(job.valid_rows, kept.validation.labels, probabilities, strict=True):
            writer.writerow([table.paths[row], classes[label], classes[p.argmax()], *(f"{x:.6f}" for x in p.tolist())])
