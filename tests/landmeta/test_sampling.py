"""Windows around labels are on the file's own grid; features at pixels are those of the dense arrays."""

from dataclasses import replace

import geopandas
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landmeta.features import PHASE, dense_features, feature_maps, fold
from landmeta.labels import Labels
from landmeta.legend import legend_for
from landmeta.networks import ResNet12
from landmeta.raster import imagery_of_array
from landmeta.sampling import (
    Region,
    group_tiles,
    in_order,
    label_windows,
    region_sample,
    sample_features,
)

POSITIONS = st.lists(st.tuples(st.integers(0, 299), st.integers(0, 259)), min_size=1, max_size=30)


def scene(rows=300, cols=260, seed=0):
    values = np.random.default_rng(seed).random((3, rows, cols), dtype=np.float32)
    return imagery_of_array(values, ("B02", "B03", "B04"))


@pytest.fixture(scope="module")
def network():
    return ResNet12(3, (4, 6, 8, 10), generator=torch.Generator().manual_seed(0)).requires_grad_(False)


def test_the_tile_of_a_patch_lies_about_one_of_its_pixels_and_large_patches_come_first():
    """A ring around a lake: its middle is the lake. Of ten islands of 1 px in the lake few get a tile."""
    ring, lake, island = 1, 2, 3
    codes = np.full((60, 60), ring)
    codes[10:50, 10:50] = lake
    codes[20, 12:42:3] = island
    groups = codes - 1
    groups[20, 12:42:3] = np.arange(2, 12)
    rows, cols = (v.ravel() for v in np.indices(codes.shape))
    flat = np.where(codes.ravel() == island, ring, codes.ravel())  # the islands are of the ring's class
    legend = legend_for(["forest", "water"], [ring, lake])
    nowhere = geopandas.GeoDataFrame({"group": [], "class_name": []}, geometry=[])
    labels = Labels(legend, rows, cols, flat, groups.ravel(), nowhere, patches=True)
    imagery = imagery_of_array(np.stack([flat.reshape(60, 60).astype(np.float32)] * 3), ("B02", "B03", "B04"))
    for seed in range(5):
        tiles, target, chosen = group_tiles(imagery, labels, np.random.default_rng(seed), side=8, limit=1)
        assert target.tolist() == [0, 1]
        assert chosen.tolist() == [0, 1]
        assert tiles[:, 0, 4, 4].tolist() == [ring, lake]


def test_features_at_points_equal_the_dense_features_there(network):
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = feature_maps(network, images)
    rows, cols = torch.tensor([0, 5, 31, 63, 17]), torch.tensor([63, 0, 32, 63, 8])
    expected = dense_features(maps)[0, :, rows, cols].T
    torch.testing.assert_close(sample_features(images, maps[1:], rows, cols), expected, rtol=1e-4, atol=1e-5)


@given(positions=POSITIONS, origin=st.tuples(st.integers(0, 9), st.integers(0, 9)))
@settings(max_examples=40, deadline=None)
def test_label_windows_hold_every_pixel_once_with_a_halo_on_the_aligned_grid(positions, origin):
    imagery = replace(scene(), origin=origin)
    rows, cols = (np.array(v) for v in zip(*positions, strict=True))
    windows = label_windows(imagery, rows, cols, halo=8)
    assert sorted(torch.cat([w.order for w in windows]).tolist()) == list(range(len(rows)))
    for w in windows:
        height, width = w.image.shape[1:]
        top = rows[w.order[0]] - int(w.rows[0]) + origin[0]
        left = cols[w.order[0]] - int(w.cols[0]) + origin[1]
        assert height % 8 == width % 8 == top % 8 == left % 8 == 0
        assert int(w.rows.min()) >= 8 <= int(w.cols.min())
        assert int(w.rows.max()) < height - 8
        assert int(w.cols.max()) < width - 8


def test_features_of_labels_are_those_of_both_passes_of_the_map_up_to_the_halo(network):
    imagery = scene()
    fill, blocks = region_sample(imagery, np.random.default_rng(0))
    rows, cols = np.array([64, 70, 200]), np.array([90, 81, 131])
    region = Region(network, fill, blocks, label_windows(imagery, rows, cols, halo=56))
    features = region.features()
    whole = torch.from_numpy(imagery.read(0, 0, 304, 264))[None]
    image = torch.nan_to_num(whole)
    at = torch.from_numpy(rows), torch.from_numpy(cols)
    folded = fold(network, features.moments)
    first = sample_features(image, folded.features(image), *at)
    later, moved = image[:, :, PHASE : PHASE - 8, PHASE : PHASE - 8], [a - PHASE for a in at]
    second = sample_features(later, folded.features(later), *moved)
    assert not torch.allclose(first, second, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(features.labelled, (first + second) / 2, rtol=1e-3, atol=1e-3)


def test_unlabelled_pixels_have_data_and_spread_over_the_columns():
    values = np.random.default_rng(0).random((3, 256, 256), dtype=np.float32)
    values[:, :60, :128] = np.nan
    _, blocks = region_sample(imagery_of_array(values, ("B02", "B03", "B04")), np.random.default_rng(0))
    assert sum(len(b.rows) for b in blocks) == pytest.approx(4096, rel=0.2)
    for block in blocks:
        assert block.image[:, block.rows, block.cols].isfinite().all()
        assert len(block.cols.unique()) > 100


def test_rows_computed_by_window_come_back_in_the_order_of_the_samples():
    imagery = scene()
    rows, cols = np.array([250, 3, 130, 4]), np.array([3, 250, 130, 249])
    windows = label_windows(imagery, rows, cols)
    values = in_order([w.image[0, w.rows, w.cols] for w in windows], windows)
    np.testing.assert_array_equal(values.numpy(), imagery.read(0, 0, 300, 260)[0, rows, cols])
