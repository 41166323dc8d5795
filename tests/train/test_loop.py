"""The training loop: learning rates, momentum, determinism, and steps that are not finite."""

import math
from dataclasses import replace

import pytest
import torch

from thaw.config.optimizers import SGD, AdamW
from thaw.config.schema import Backbone, BackboneFacts, Find
from thaw.data.batches import cut_batches, epoch_order, stored_batches
from thaw.model import freezing
from thaw.model.device import Device
from thaw.model.layer_groups import split_into_groups
from thaw.model.network import Network, create_network
from thaw.runtime.errors import UserError
from thaw.runtime.seeds import seed_for
from thaw.train import loop, lr_finder
from thaw.train.lr_finder import Trial, range_test, rate_trials

CPU = Device(torch.device("cpu"), torch.float32, 1)
MOMENTUM = SGD(weight_decay=1e-4, momentum=0.9, nesterov=False, clip=None)
ADAMW = AdamW(betas=[0.9, 0.99], weight_decay=0.01, clip=None)
FIND = Find("trials", 1e-5, 10.0, 6, 24, 400, 20, 0.8, 4.0)


def network() -> Network:
    return create_network(Backbone("test_resnet", "none", 0.0, 0.0, BackboneFacts()), 4, 0, CPU)


def images(n=24, batch=8):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 255, (n, 32, 32, 3), dtype=torch.uint8, generator=generator)
    y = torch.arange(n) % 4
    return [(x[i : i + batch], y[i : i + batch]) for i in range(0, n, batch)]


def fit(net, optimizer=MOMENTUM, batches=None, **kwargs):
    groups = split_into_groups(net.model, "equal", (0.1, 1.0))
    made = loop.make_optimizer(net, groups, optimizer)
    freezing.set_trainable(net, "all", "train")
    return made, loop.train(net, batches or images(), made, options(**kwargs))


def options(**kwargs):
    return loop.StepOptions(**{"lr": 0.01, "seed": (0, "full", "fit")} | kwargs)


@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAMW])
def test_rates_follow_group_and_schedule_and_norms_and_biases_do_not_decay(optimizer):
    net = network()
    made, steps = fit(net, optimizer, rate=lambda step: 1 / (step + 1), momentum=lambda step: 0.5 + step / 10)
    for step in steps:
        for group in made.param_groups:
            assert group["lr"] == pytest.approx(0.01 * group["lr_scale"] / (step.step + 1), rel=1e-12)
            assert (group["betas"][0] if "betas" in group else group["momentum"]) == 0.5 + step.step / 10
    assert sorted({g["lr_scale"] for g in made.param_groups}) == [0.1, 1.0]
    for group in made.param_groups:
        assert all((p.ndim > 1) == bool(group["weight_decay"]) for p in group["params"])
    held = [p for group in made.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(net.parameters()))


def test_sgd_step_is_torchs_own():
    """One fused step equals SGD computed by hand on the same gradients."""
    net, reference = network(), network()
    _, steps = fit(net, batches=images()[:1])
    list(steps)
    groups = split_into_groups(reference.model, "equal", (0.1, 1.0))
    named = dict(reference.model.named_parameters())
    freezing.set_trainable(reference, "all", "train")
    x, y = images()[0]
    torch.nn.functional.cross_entropy(reference(x), y).backward()
    with torch.no_grad():
        for group in groups:
            for name in group.names:
                p = named[name]
                decay = 1e-4 if p.ndim > 1 else 0.0
                p -= 0.01 * group.ratio * (p.grad + decay * p)
    for (name, a), (_, b) in zip(net.model.named_parameters(), reference.model.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name, atol=1e-7, rtol=1e-6)


def moved(clip):
    """Return the norm of the first step of plain SGD at rate 1, over all parameters, and the weights after it."""
    net = network()
    before = {name: p.detach().clone() for name, p in net.model.named_parameters()}
    plain = SGD(weight_decay=0.0, momentum=0.0, nesterov=False, clip=None)
    _, steps = fit(net, plain, batches=images()[:1], lr=1.0, clip=clip)
    list(steps)
    ratios = {name: group.ratio for group in split_into_groups(net.model, "equal", (0.1, 1.0)) for name in group.names}
    parts = [(p.detach() - before[name]) / ratios[name] for name, p in net.model.named_parameters()]
    return float(torch.cat([part.flatten() for part in parts]).norm()), net.state_dict()


def test_only_a_gradient_whose_norm_over_all_groups_exceeds_the_clip_is_scaled_down():
    whole, weights = moved(None)
    assert moved(whole / 4)[0] == pytest.approx(whole / 4, rel=1e-4)
    same = moved(2 * whole)[1]
    assert all(torch.equal(value, same[name]) for name, value in weights.items())


@pytest.mark.parametrize("mixing", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}], ids=str)
def test_training_depends_only_on_its_seed_and_continues_at_any_step(mixing):
    a, b = network(), network()
    _, steps = fit(a, **mixing)
    list(steps)
    torch.rand(7)  # draws in between change nothing
    made, steps = fit(b, **mixing, batches=images()[:1])
    list(steps)
    torch.rand(3)
    steps = loop.train(b, images()[1:], made, options(**mixing), start=1)
    assert [step.step for step in steps] == [1, 2]
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


def seen_by(x, mixup, cutmix, step):
    """Return the batch the network receives, and the loss if each image's own label counts 1 and any other 0."""
    given = []

    class Looks(torch.nn.Linear):
        device = CPU

        def forward(self, x):
            given.append(x)
            return torch.eye(len(x)) + 0 * self.weight

    def loss(logits, y):
        return (y == torch.arange(len(y))).float().mean() + 0 * logits.sum()

    net = Looks(1, 1, bias=False)
    optimizer = torch.optim.SGD([{"params": [net.weight], "lr_scale": 1.0}], fused=True)
    how = loop.StepOptions(mixup=mixup, cutmix=cutmix, loss=loss, seed=())
    (done,) = loop.train(net, [(x, torch.arange(len(x)))], optimizer, how, start=step)
    return given[0], float(done.loss)


def test_cutmix_pastes_a_box_of_another_image_and_weighs_labels_by_area():
    x = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 20, 30, 3).contiguous()
    kept, areas = x.clone(), []
    for step in range(100):
        given, value = seen_by(x, 0.0, 1.0, step)
        changed = (given != x).any(-1)
        boxes = changed[changed.any(2).any(1)]
        if len(boxes):
            assert (boxes == boxes[0]).all(), "one box for the batch"
            rows, columns = boxes[0].any(1).nonzero(), boxes[0].any(0).nonzero()
            area = int((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))
            assert boxes[0].sum() == area, "a rectangle"
            own = 1 - area / 600
            fixed = float((~changed.any(2).any(1)).float().mean())  # share of images mixed with themselves
            assert value == pytest.approx(own + fixed * area / 600, abs=1e-6)
            areas.append(area / 600)
    assert torch.equal(x, kept), "the batch itself is unchanged"
    assert min(areas) < 0.1 and max(areas) > 0.7


def test_mixup_and_cutmix_are_drawn_equally_often():
    x = torch.randint(0, 255, (4, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = 0
    for step in range(200):
        given, _ = seen_by(x, 1.0, 1.0, step)
        # After CutMix every pixel equals that of some image; after mixup most pixels equal none.
        whole += bool((given[:, None] == x[None]).all(-1).any(1).all())
    assert 70 < whole < 130


@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAMW])
def test_a_step_that_is_not_finite_is_not_applied_and_later_steps_report_it(optimizer):
    net = network()
    x, y = images()[0]
    good = (x, y)
    made, steps = fit(net, optimizer, batches=[good, good])
    list(steps)
    kept = {name: p.detach().clone() for name, p in net.named_parameters()}

    def poisoned(logits, labels):
        return torch.nn.functional.cross_entropy(logits, labels) * math.nan

    how = options(lr=0.5, loss=poisoned)
    steps = list(loop.train(net, [good] * 3, made, how, start=2))
    assert [int(step.first_bad) for step in steps] == [2, 2, 2]
    with pytest.raises(UserError) as caught:
        loop.raise_if_not_finite(steps[-1], how, "full")
    assert caught.value.code == 4
    assert "full at step 2 (lr 0.5)" in caught.value.line
    for name, p in net.named_parameters():
        assert torch.equal(p, kept[name]), name


def test_an_infinite_gradient_of_a_finite_loss_is_noticed():
    net = network()

    def steep(logits, labels):
        return torch.sqrt(logits.sum() * 0).sum()

    _, steps = fit(net, loss=steep)
    assert [int(step.first_bad) for step in steps] == [0, 0, 0]
    trial = Trial("all", "train", split_into_groups(net.model, "equal", (0.1, 1.0)), MOMENTUM, options(loss=steep))
    tried = list(rate_trials(net, images(), trial, FIND, 4, fitted=True))
    assert tried == [(0.0, math.inf), *((pytest.approx(10 ** (-2.5 + k / 2)), math.inf) for k in range(3))]
    assert list(range_test(net, (batch for batch in images()), trial, FIND, 3)) == []
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_the_finder_changes_nothing_even_after_an_exception():
    net = network()
    freezing.set_trainable(net, "head", "train")
    groups = split_into_groups(net.model, "equal", (0.1, 1.0))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes, drawn = [m.training for m in net.modules()], torch.get_rng_state()
    needs = [p.requires_grad for p in net.parameters()]

    def breaks():
        yield from images()[:2]
        raise RuntimeError("in the middle")

    class Breaks(list):
        def __iter__(self):
            return breaks()

    trial = Trial("all", "train", groups, MOMENTUM, options(seed=(0, "find", "find")))

    def sweeps(batches):
        rates, losses = zip(*range_test(net, (batch for batch in batches), trial, FIND, steps=20), strict=True)
        assert len(rates) == len(losses) <= 20
        assert rates[0] == pytest.approx(1e-5) and rates[1] / rates[0] == pytest.approx(10 ** (6 / 20))

    def tries(batches, held_out=None):
        ran = list(rate_trials(net, batches, trial, FIND, 5, held_out, fitted=held_out is None))
        if held_out is None:
            (before, _), *ran = ran
            assert before == 0.0
        rates, losses = zip(*ran, strict=True)
        assert rates[0] == pytest.approx(1e-2 if held_out else 10**-2.5) and 2 <= len(set(rates)) == len(rates) <= 5
        assert all(map(math.isfinite, losses)) and len(set(losses)) == len(losses)
        again = rate_trials(net, batches, trial, FIND, 5, held_out, fitted=held_out is None)
        assert list(again)[-len(ran) :] == ran
        second = replace(FIND, min_lr=rates[1])  # tried first, it has the same loss: each starts from the same weights
        again = rate_trials(net, batches, trial, second, 2, held_out, fitted=held_out is None)
        assert list(again)[-2 if held_out else -1 :][:1] == ran[1:2]

    def tries_held_out(batches):
        tries(batches, images()[0])

    tested = ((tries, images()), (tries, Breaks([0] * 4)), (tries_held_out, images()))
    for test, batches in ((sweeps, images() * 7), (sweeps, breaks()), *tested):
        try:
            test(batches)
        except RuntimeError as error:
            assert str(error) == "in the middle"
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        assert modes == [m.training for m in net.modules()]
        assert needs == [p.requires_grad for p in net.parameters()]
        assert all(p.grad is None for p in net.parameters())
        assert torch.equal(drawn, torch.get_rng_state())


def trained_to(*losses, steps=2):
    """Return a `train` that does nothing, each time with the next of these losses at every step, and its calls."""
    given, left = [], list(losses)

    def train(network, batches, optimizer, how):
        given.append((how.lr, [how.rate(step) for step in range(4)]))
        loss = torch.tensor(left.pop(0))
        return iter([loop.Step(step, loss, 8, 0.0, torch.tensor(-1)) for step in range(steps)])

    return train, given


def test_a_trial_falls_to_0_and_both_finders_scale_their_rates(monkeypatch):
    net = network()
    groups = split_into_groups(net.model, "equal", (0.1, 1.0))
    trial = Trial("all", "train", groups, ADAMW, options(), scale=0.5)
    train, given = trained_to(1.0, 1.1, 1.2, 1.3)
    monkeypatch.setattr(lr_finder, "train", train)
    found = list(rate_trials(net, images(32), trial, FIND, 4, fitted=True))
    rates = [0.0, *(10 ** (-3.5 + k / 2) for k in range(3))]  # without the scale
    assert found == [(pytest.approx(rate), pytest.approx(1 + k / 10)) for k, rate in enumerate(rates)]
    assert given == [(0.5 * rate, [1.0, 0.75, 0.5, 0.25]) for rate, _ in found]
    train, given = trained_to(1.0)
    monkeypatch.setattr(lr_finder, "train", train)
    assert [rate for rate, _ in range_test(net, (batch for batch in images(32)), trial, FIND, 4)] == pytest.approx(
        [1e-5, 10**-3.5]
    )
    assert given == [(5.0, pytest.approx([1e-6, 10**-4.5, 1e-3, 10**-1.5]))]


def test_a_trial_whose_loss_is_not_finite_counts_as_infinite(monkeypatch):
    net = network()
    trial = Trial("all", "train", split_into_groups(net.model, "equal", (0.1, 1.0)), MOMENTUM, options())
    monkeypatch.setattr(lr_finder, "train", trained_to(1.0, 1.0, math.nan)[0])
    assert [loss for _, loss in rate_trials(net, images(32), trial, FIND, 9, fitted=True)] == [1.0, 1.0, math.inf]


def test_a_trial_of_a_head_has_the_loss_of_the_held_out_images_after_it(monkeypatch):
    net, (x, y) = network(), images()[0]
    trial = Trial("all", "train", split_into_groups(net.model, "equal", (0.1, 1.0)), MOMENTUM, options())
    monkeypatch.setattr(lr_finder, "train", trained_to(1.0)[0])  # changes nothing
    net.eval()
    with torch.no_grad():
        expected = float(torch.nn.functional.cross_entropy(net(x), y))
    ((_, loss),) = rate_trials(net, images(32), trial, FIND, 1, (x, y))
    assert loss == pytest.approx(expected, rel=1e-5)


def test_the_order_of_an_epoch_is_a_permutation_drawn_from_its_seed():
    labels = torch.arange(50).numpy() % 5
    assert sorted(epoch_order(labels, (0, "full", 0))) == list(range(50))
    assert list(epoch_order(labels, (0, "full", 0))) == list(epoch_order(labels, (0, "full", 0)))
    others = [(1, "full", 0), (0, "head", 0), (0, "full", 1)]
    assert all(list(epoch_order(labels, key)) != list(epoch_order(labels, (0, "full", 0))) for key in others)


def test_balanced_order_draws_classes_equally():
    import numpy as np

    labels = np.r_[np.zeros(900, int), np.ones(100, int)]
    drawn = np.concatenate([labels[epoch_order(labels, (0, "x", e), balance=True)] for e in range(20)])
    assert abs(drawn.mean() - 0.5) < 0.02


@pytest.mark.parametrize(
    ("n", "batch", "sizes"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (8, 4, [4, 4]), (3, 64, [3]), (1, 64, [1]), (5, 4, [5]), (2, 1, [1, 1])],
)
def test_a_partial_last_batch_is_kept_but_a_single_image_joins_the_batch_before(n, batch, sizes):
    import numpy as np

    from thaw.plan.image_sizes import steps_per_epoch

    parts = cut_batches(np.arange(n), batch)
    assert [len(part) for part in parts] == sizes
    assert list(np.concatenate(parts)) == list(range(n))
    assert steps_per_epoch(n, batch) == len(sizes)


def test_stored_activations_come_in_the_requested_order():
    import numpy as np

    features, labels = torch.arange(12.0).view(6, 2), torch.arange(6)
    got = list(stored_batches(features, labels, [np.array([4, 1]), np.array([0])]))
    assert got[0][0].tolist() == [[8, 9], [2, 3]] and got[0][1].tolist() == [4, 1]
    assert got[1][1].tolist() == [0]


def test_seeds_are_the_same_on_every_machine_and_differ_by_key():
    assert seed_for(0, "full", 3) == 6217852049100772482
    assert len({seed_for(0, "a", i) for i in range(1000)} | {seed_for(1, "a", i) for i in range(1000)}) == 2000
    assert 0 <= seed_for("x") < 2**63


def test_the_gradient_of_the_smallest_images_in_bfloat16_is_finite_and_the_same_each_time():
    """At 16 px, one pixel is left before the last strided convolution, where oneDNN's bfloat16 kernel reads garbage."""
    backbone = Backbone("test_resnet", "none", 0.0, 0.0, BackboneFacts())
    net = create_network(backbone, 4, 0, Device(torch.device("cpu"), torch.bfloat16, 1))
    freezing.set_trainable(net, "all", "train")
    x, y = images()[0]
    seen = set()
    for _ in range(10):
        net.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(x[:, ::2, ::2].contiguous()), y).backward()
        seen.add(math.fsum(float(p.grad.double().abs().sum()) for p in net.parameters()))
    assert len(seen) == 1 and math.isfinite(seen.pop())
