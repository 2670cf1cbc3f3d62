"""Muon: orthogonal updates against an exact decomposition and a plain loop, AdamW's against torch's own; rates."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import get_scheduler

from zoomzero.train.engine.optimizers import Muon, orthogonalise, rate_factor, split_parameters


class Small(nn.Module):
    """Matrices of two shapes, two of one of them, and one parameter of every kind that is not for Muon."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6, bias=False)
        self.third = nn.Linear(6, 4, bias=False)
        self.wide = nn.Linear(4, 40, bias=False)
        self.norm = nn.LayerNorm(40)
        self.lm_head = nn.Linear(40, 7, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(N,) -> (N, 7)."""
        states = torch.tanh(self.second(torch.tanh(self.first(self.table(ids)))))
        out: Tensor = self.lm_head(self.norm(self.wide(self.third(states))))
        return out


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def give_gradients(model: nn.Module, step: int) -> None:
    """Gradients of a loss that changes from step to step."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(7, (16,), generator=generator)
    model.zero_grad()
    nn.functional.cross_entropy(model(ids), torch.randint(7, (16,), generator=generator)).backward()


def polynomial(values: Tensor) -> Tensor:
    """What five Newton-Schulz steps make of singular values."""
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return values


@pytest.mark.parametrize("shape", [(5, 5), (12, 4), (4, 12), (1, 6)])
def test_orthogonalise_keeps_singular_vectors_and_evens_out_values(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalise(matrices)
    u, values, v = torch.linalg.svd(matrices.double(), full_matrices=False)
    scaled = values / values.norm(dim=1, keepdim=True)
    exact = u @ torch.diag_embed(polynomial(scaled)) @ v
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-4)
    large = scaled > 0.05  # a smaller one needs more than five steps
    assert large.sum() >= large.numel() - 2
    evened = torch.linalg.svdvals(found)[large]
    assert evened.min() > 0.6
    assert evened.max() < 1.25


def test_matrices_together_are_each_alone() -> None:
    matrices = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(2))
    alone = torch.cat([orthogonalise(one[None]) for one in matrices])
    torch.testing.assert_close(orthogonalise(matrices), alone, rtol=1e-5, atol=1e-6)


def test_size_of_the_gradient_does_not_matter_and_none_moves_nothing() -> None:
    matrix = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(orthogonalise(matrix), orthogonalise(1e-3 * matrix), rtol=1e-3, atol=1e-3)
    assert torch.equal(orthogonalise(torch.zeros(2, 4, 4)), torch.zeros(2, 4, 4))


def test_only_matrices_inside_layers_get_orthogonal_updates() -> None:
    model = small()
    model.third.requires_grad_(False)
    names = {id(p): name for name, p in model.named_parameters()}
    matrices, others = split_parameters(model, largest=16)
    assert [names[id(p)] for p in matrices] == ["first.weight", "second.weight"]
    assert [names[id(p)] for p in others] == [
        "table.weight",
        "first.bias",
        "wide.weight",  # 40 on a side
        "norm.weight",
        "norm.bias",
        "lm_head.weight",
    ]


def test_tied_head_is_an_embedding() -> None:
    model = nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 7, bias=False))
    model[2].weight = model[0].weight
    matrices, others = split_parameters(model, largest=16)
    assert [id(p) for p in matrices] == [id(model[1].weight)]
    assert [id(p) for p in others] == [id(model[0].weight)]


def test_orthogonal_updates_are_those_of_a_plain_loop() -> None:
    """m = 0.9 m + g; w = (1 - 0.02 * 0.1) w - 0.02 * 0.2 sqrt(longer side) * orthogonal(g + 0.9 m)."""
    model = small()
    plain = {name: p.detach().clone() for name, p in model.named_parameters()}
    momenta = {name: torch.zeros_like(p) for name, p in plain.items()}
    optimizer = Muon(model, 0.02, weight_decay=0.1, momentum=0.9, largest=16)
    for step in range(4):
        give_gradients(model, step)
        for name in ("first.weight", "second.weight", "third.weight"):
            gradient = model.get_parameter(name).grad
            assert gradient is not None
            momenta[name] = 0.9 * momenta[name] + gradient
            update = orthogonalise((gradient + 0.9 * momenta[name])[None])[0]
            plain[name] = (1 - 0.02 * 0.1) * plain[name] - 0.02 * 0.2 * max(update.shape) ** 0.5 * update
        optimizer.step()
    for name in ("first.weight", "second.weight", "third.weight"):
        torch.testing.assert_close(model.get_parameter(name).detach(), plain[name], rtol=1e-4, atol=1e-5)


def test_update_has_the_size_that_serves_both_kinds() -> None:
    """Liu et al. 2025: 0.2 sqrt(max side) makes the root mean square of an update about 0.2 of the rate, as AdamW's."""
    torch.manual_seed(4)
    model = nn.Linear(64, 32, bias=False)
    before = model.weight.detach().clone()
    model.weight.grad = torch.randn(32, 64)
    Muon(model, 0.01, weight_decay=0.0).step()
    assert float((model.weight.detach() - before).square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.25)


def test_everything_else_is_updated_as_torchs_adamw_does() -> None:
    model = small()
    twin = copy.deepcopy(model)
    matrices, others = split_parameters(twin, largest=16)
    optimizer = Muon(model, 3e-3, weight_decay=0.1, betas=(0.8, 0.97), largest=16)
    theirs = torch.optim.AdamW(others, 3e-3, betas=(0.8, 0.97), eps=1e-8, weight_decay=0.0)
    mine, _ = split_parameters(model, largest=16)
    for step in range(5):
        give_gradients(model, step)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            q.grad = None if p.grad is None else p.grad.clone()
        optimizer.step()
        theirs.step()
        with torch.no_grad():
            for p, q in zip(matrices, mine, strict=True):
                p.copy_(q)
        for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert torch.equal(p, q), (step, name)


def test_what_has_no_gradient_stays_as_it_is() -> None:
    """A stage that rests the vision tower must not let weight decay, or old momentum, move it."""
    model = small()
    optimizer = Muon(model, 0.02, weight_decay=0.5)
    give_gradients(model, 0)
    optimizer.step()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    give_gradients(model, 1)
    for p in (model.first.weight, model.first.bias):
        p.grad = None
    optimizer.step()
    same = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert same == {"first.weight", "first.bias"}


def test_rate_of_a_schedule_is_the_rate_of_both_kinds() -> None:
    model = small()
    optimizer = Muon(model, 0.02)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    give_gradients(model, 0)
    optimizer.step()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_model_without_matrices_is_all_adamw() -> None:
    model = nn.LayerNorm(4)
    optimizer = Muon(model, 0.1)
    assert [group["orthogonal"] for group in optimizer.param_groups] == [False]
    model(torch.randn(3, 4)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model.weight, torch.ones(4))


def test_loaded_state_goes_on_as_if_nothing_had_happened() -> None:
    model = small()
    optimizer = Muon(model, 0.02)
    for step in range(3):
        give_gradients(model, step)
        optimizer.step()
    again = small(seed=9)
    again.load_state_dict(model.state_dict())
    resumed = Muon(again, 0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.param_groups[0]["lr"] == 0.02
    for step in range(3, 6):
        for one, its in ((model, optimizer), (again, resumed)):
            give_gradients(one, step)
            its.step()
    for (name, p), q in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_steps_lower_a_loss() -> None:
    model = small()
    ids, wanted = torch.arange(7), torch.arange(7).roll(2)
    optimizer = Muon(model, 0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(ids), wanted)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0], losses


def test_rates_lie_on_straight_lines_and_stay_where_the_last_one_ends() -> None:
    rates = [(0, 0.0), (4, 1.0), (6, 1.0), (10, 0.5)]
    found = [rate_factor(rates, step) for step in range(13)]
    assert found == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.5, 0.5])


def test_rates_can_say_what_a_named_schedule_does() -> None:
    """transformers' warmup_stable_decay, over all its steps."""
    details = {"num_decay_steps": 20, "min_lr_ratio": 0.01, "decay_type": "linear"}
    schedule = get_scheduler(
        "warmup_stable_decay",
        torch.optim.SGD(small().parameters(), lr=1.0),
        num_warmup_steps=5,
        num_training_steps=60,
        scheduler_specific_kwargs=details,
    )
    rates = [(0, 0.01), (5, 1.0), (40, 1.0), (60, 0.01)]
    assert [rate_factor(rates, step) for step in range(61)] == pytest.approx(
        [schedule.lr_lambdas[0](step) for step in range(61)]
    )
