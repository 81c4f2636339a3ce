import pytest
import torch

from landmeta.heads import class_balanced_weights, fit_ridge


def blobs(per_class=(30, 30, 30), features=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    centres = 4 * torch.eye(features)[: len(per_class)]
    target = torch.cat([torch.full((n,), k) for k, n in enumerate(per_class)])
    return centres[target] + torch.randn(len(target), features, generator=g), target


def test_separate_classes_are_told_apart_on_new_samples():
    heads = fit_ridge(*blobs(), 3, 0.1)
    points, truth = blobs(seed=1)
    assert (heads(points).argmax(dim=1) == truth).float().mean() > 0.9


@pytest.mark.parametrize("n", [(2, 2), (40, 40)])
def test_both_linear_systems_give_the_weighted_ridge_solution(n):
    """Against the normal equations in double precision, fewer samples than features and more."""
    x, target = blobs(n, features=10)
    x = x.double()
    heads = fit_ridge(x, target, 2, 0.3)
    w = class_balanced_weights(target, 2).double()
    y = torch.nn.functional.one_hot(target, 2).double()
    xc, yc = x - w @ x, y - w @ y
    expected = torch.linalg.solve(xc.T @ (w[:, None] * xc) + 0.3 * torch.eye(10), xc.T @ (w[:, None] * yc))
    torch.testing.assert_close(heads.weight.T, expected)


def test_repeating_the_samples_of_one_class_changes_nothing():
    """Class-balanced: the imbalance of the support must not move the heads."""
    x, target = blobs((6, 6))
    again = torch.cat([torch.arange(12), torch.arange(6).repeat(9)])
    once, often = fit_ridge(x, target, 2, 0.1), fit_ridge(x[again], target[again], 2, 0.1)
    torch.testing.assert_close(often.weight, once.weight, rtol=1e-3, atol=1e-4)


def test_the_fit_is_differentiable_in_the_features():
    x, target = blobs((4, 4))
    x = x.double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v: fit_ridge(v, target, 2, 0.1).weight, (x,))


def test_a_large_penalty_leaves_the_class_shares_only():
    heads = fit_ridge(*blobs((5, 20)), 2, 1e9)
    torch.testing.assert_close(heads(torch.randn(3, 5)), torch.full((3, 2), 0.5), atol=1e-4, rtol=0)
