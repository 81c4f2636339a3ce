"""Schemes of moments and blocks: weights sum to one, frozen moments make no seams, own ones do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from landmeta.bench.local_moments import CELL, MixedMoments, NeighbourhoodMoments
from landmeta.bench.seams import (
    Place,
    Scheme,
    Scores,
    fit,
    fitting,
    place_for,
    region_pixels,
    thinned,
)
from landmeta.norms import InstanceNorm
from landmeta.start import Start

NAMES = ("B02", "B03", "B04", "B08")
START = Start((4, 6, 8, 10), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Two classes, left and right, with noise, 64 x 64 px."""
    rng = np.random.default_rng(0)
    values = 0.1 + 0.1 * (np.arange(64) >= 32) + 0.02 * rng.standard_normal((4, 64, 64))
    return values.astype(np.float32)


def place(image: np.ndarray, scheme: Scheme) -> Place:
    return place_for(scheme, image, NAMES, START, np.array([70, 1000, 3000]))


EVERY = np.arange(64 * 64)


@pytest.mark.parametrize(
    "scheme",
    [
        Scheme("blended", "own", 32, halo=0, blended=True, edge="reflect"),
        Scheme("phases", "region", 32, phases=((0, 0), (5, 5))),
        Scheme("cut", "own", 32, halo=8),
        Scheme("mixed", "region", 32, halo=16, blended=True, edge="reflect", own_share=0.5),
        Scheme("field", "own", 64, halo=32, edge="reflect", neighbourhood=48),
    ],
)
@pytest.mark.parametrize("origin", [(0, 0), (-13, -7)])
def test_the_views_of_a_pixel_weigh_one_together(
    image: np.ndarray, scheme: Scheme, origin: tuple[int, int]
) -> None:
    views = place(image, scheme).views(EVERY, origin)
    torch.testing.assert_close(views.weights.sum(dim=0), torch.ones(EVERY.size))
    assert views.features.shape[:2] == views.weights.shape
    assert views.features.isfinite().all()


@pytest.mark.parametrize("moments", ["region", "sample", "support"])
def test_frozen_moments_do_not_see_the_block_grid(image: np.ndarray, moments: str) -> None:
    scheme = Scheme("frozen", moments, 32, halo=64, edge="reflect")  # type: ignore[arg-type]
    one, other = (place(image, scheme).views(EVERY, origin).blended for origin in ((0, 0), (-8, -16)))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_own_moments_see_the_block_grid_and_blending_softens_it(image: np.ndarray) -> None:
    def moved(blended: bool) -> float:
        here = place(image, Scheme("own", "own", 32, halo=0, blended=blended, edge="reflect"))
        one, other = (here.views(EVERY, origin).blended for origin in ((0, 0), (-8, -8)))
        return float((one - other).abs().mean())

    assert moved(False) > 1.3 * moved(True) > 0.01


def test_mixed_moments_are_those_of_the_pixels_mixed() -> None:
    rng = torch.Generator().manual_seed(0)
    here, region = (torch.randn(1, 3, 40, 40, generator=rng) * k + k for k in (1.0, 3.0))
    layer = InstanceNorm(3, "n")
    frozen = {"n": (region.mean((0, 2, 3)), region.var((0, 2, 3), correction=0))}
    both = torch.cat([here, *[region] * 3], dim=3)  # a quarter of the values are the window's own
    expected = InstanceNorm(3, "n")(both)[..., :40]
    torch.testing.assert_close(MixedMoments(frozen, 0.25)(layer, here), expected, rtol=1e-4, atol=1e-4)


def test_mixed_moments_see_the_blocks_the_more_the_larger_their_own_share(image: np.ndarray) -> None:
    def moved(share: float) -> float:
        here = place(image, Scheme("mixed", "region", 32, halo=32, edge="reflect", own_share=share))
        one, other = (here.views(EVERY, origin).blended for origin in ((0, 0), (-8, -8)))
        return float((one - other).abs().mean())

    assert moved(0.0) < moved(0.25) < moved(0.5)


@pytest.mark.parametrize("stride", [1, 8])
def test_neighbourhoods_that_are_all_alike_give_the_moments_of_the_image(stride: int) -> None:
    cell = torch.rand(2, 3, CELL // stride, CELL // stride, generator=torch.Generator().manual_seed(0))
    images, layer = cell.repeat(1, 1, 8, 8), InstanceNorm(3, "n")
    found = NeighbourhoodMoments(side=3 * CELL, window=8 * CELL)(layer, images)
    torch.testing.assert_close(found, layer(images), rtol=1e-4, atol=1e-4)


def test_neighbourhoods_forget_a_level_that_lies_further_away_than_their_side() -> None:
    noise = torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    level = 5.0 * (torch.arange(128) >= 64)
    layer = InstanceNorm(1, "n").requires_grad_(False)
    found = NeighbourhoodMoments(side=48, window=128)(layer, noise + level)
    for half in (found[..., :32], found[..., 96:]):
        assert abs(float(half.mean())) < 0.1
        assert float(half.std()) == pytest.approx(1, abs=0.1)
    assert float(layer(noise + level)[..., 96:].mean()) > 0.8


def test_moments_of_the_neighbourhood_can_begin_at_any_block(image: np.ndarray) -> None:
    def depths(**more: object) -> torch.Tensor:
        scheme = Scheme("deep", "region", 64, halo=64, edge="reflect", **more)  # type: ignore[arg-type]
        return place(image, scheme).views(EVERY).blended

    widths = START.for_bands(NAMES).widths
    sizes = [depths().shape[1] - sum(widths), *widths]
    frozen, local = (
        depths(**more).split(sizes, dim=1) for more in ({}, {"neighbourhood": 64, "local_from": 2})
    )
    same = [torch.allclose(a, b, atol=1e-4) for a, b in zip(frozen, local, strict=True)]
    assert same == [True, True, True, False, False]


def test_class_models_of_every_scheme_tell_the_classes(image: np.ndarray) -> None:
    truth = np.where(EVERY % 64 >= 32, 7, 3)
    support = np.sort(np.random.default_rng(1).permutation(EVERY)[:60])
    sample = region_pixels(image)
    for scheme in (
        Scheme("phases", "region", 64, halo=16, phases=((0, 0), (5, 5)), one_phase_fit=True),
        Scheme("shares", "own", 32, halo=0, blended=True, space="probabilities", edge="reflect"),
        Scheme("field", "own", 64, halo=32, edge="reflect", neighbourhood=64),
        Scheme("deep", "region", 64, halo=32, edge="reflect", neighbourhood=64, local_from=2),
    ):
        here = place(image, scheme)
        views = here.views(EVERY)
        vectors = fitting(scheme, views)
        kept = support[thinned(truth[support], None, 0)]
        model = fit(here, START, vectors[sample], vectors[kept], truth[kept])
        assert (model.scores(views).classes == truth).mean() > 0.9


def test_averaged_scores_lie_between_those_of_two_schemes() -> None:
    codes = np.array([3, 7])
    one, other = Scores(codes, np.array([[3.0, 1.0]])), Scores(codes, np.array([[0.0, 4.0]]))
    np.testing.assert_allclose(one.averaged(other, 0.25).values, [[2.25, 1.75]])
    assert [one.averaged(other, share).classes.tolist() for share in (0.0, 0.25, 0.5, 1.0)] == [
        [3],
        [3],
        [7],
        [7],
    ]


def test_what_lies_outside_is_the_mirror_image_or_the_mean(image: np.ndarray) -> None:
    mirror = place(image, Scheme("m", "own", 32, edge="reflect")).windows([(-8, 0)], 24)[0].numpy()
    np.testing.assert_array_equal(mirror[:, :8], image[:, 8:0:-1, :24])
    filled = place(image, Scheme("f", "own", 32)).windows([(-8, 0)], 24)[0].numpy()
    assert np.ptp(filled[:, :8], axis=(1, 2)).max() == 0
