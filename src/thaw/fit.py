"""The phases: find a rate, fit cycle by cycle."""

import json
import time
from dataclasses import dataclass

import torch

from thaw import find, loop, model, plan, progress, schedules, stop
from thaw.job import Job, Validation, layer_groups, train_batches, validate
from thaw.model import Network, thaw
from thaw.plan import Phase


@dataclass(frozen=True)
class Kept:
    """The best cycle end so far: its weights on the CPU, its validation, where it was."""

    weights: dict[str, torch.Tensor]
    validation: Validation
    phase: str
    epoch: int


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
                verdict = stop.judge(before, records, phase.budget, len(phase.cycles))
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
