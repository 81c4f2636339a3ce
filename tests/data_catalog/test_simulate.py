"""Simulated scenes are landscapes with truth, and the demo is written whole or found again."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from scipy import ndimage

from landmeta.errors import OutputError
from landmeta_catalog.layout import SHARES
from landmeta_catalog.simulate import BANDS, LEGEND, Scene, labelled_tiles, simulate_scene, write_demo


@pytest.fixture(scope="module")
def scene() -> Scene:
    return simulate_scene(3, 600)


@pytest.fixture(scope="module")
def small() -> Scene:
    return simulate_scene(5, 128)


def class_mean(scene: Scene, name: str) -> dict[str, float]:
    code = LEGEND.codes[LEGEND.names.index(name)]
    inside = ndimage.binary_erosion(scene.truth == code, iterations=2)
    return dict(zip(BANDS, (scene.image[:, inside].mean(1) * 1e-4).tolist(), strict=True))


def test_same_seed_gives_the_same_scene_and_another_seed_another(small: Scene) -> None:
    again, other = simulate_scene(5, 128), simulate_scene(6, 128)
    assert np.array_equal(again.image, small.image)
    assert np.array_equal(again.truth, small.truth)
    assert again.tiles == small.tiles
    assert (other.truth != small.truth).mean() > 0.2


def test_scene_has_thirteen_bands_on_a_ten_metre_utm_grid(scene: Scene) -> None:
    assert scene.image.shape == (13, 600, 600)
    assert scene.image.dtype == np.uint16
    assert scene.truth.dtype == np.uint8
    assert BANDS[7:9] == ("B08", "B8A")
    assert str(scene.grid.crs) == "EPSG:32632"
    assert scene.grid.shape == (600, 600)
    assert scene.grid.affine.a == 10
    assert scene.grid.affine.e == -10


@pytest.mark.parametrize("seed", range(4))
def test_class_areas_are_near_the_intended_very_unequal_shares(seed: int) -> None:
    truth = simulate_scene(seed, 400, nodata_corner=False).truth
    shares = {code: float((truth == code).mean()) for code in SHARES}
    assert sum(shares.values()) == pytest.approx(1)
    for code, share in SHARES.items():
        assert shares[code] == pytest.approx(share, rel=0.35, abs=0.005)


def test_nodata_is_the_same_diagonal_corner_in_image_and_truth(scene: Scene) -> None:
    empty = scene.truth == 255
    assert np.array_equal((scene.image == 0).all(0), empty)
    assert np.array_equal((scene.image == 0).any(0), empty)
    assert empty[0, 0]
    assert not empty[-1, -1]
    widths = empty.sum(1)
    assert (np.diff(widths) <= 0).all()
    assert 0.005 < empty.mean() < 0.05


def test_spectra_are_those_of_their_classes(scene: Scene) -> None:
    forest, water, urban, barren = (
        class_mean(scene, n) for n in ("Forest", "Water", "Urban/Built-up", "Barren")
    )
    assert forest["B08"] > 3 * forest["B04"]
    assert water["B08"] < 0.06
    assert water["B03"] > water["B08"]
    assert urban["B04"] > 2 * forest["B04"]
    assert barren["B11"] > barren["B08"] > barren["B02"]
    assert max(m["B10"] for m in (forest, water, urban, barren)) < 0.01


def test_coarse_bands_hold_no_detail_finer_than_their_native_pixel(scene: Scene) -> None:
    def fine_detail(band: str, block: int) -> float:
        image = scene.image[BANDS.index(band), 200:, 200:].astype(float)
        coarse = image[: 396 // block * block, : 396 // block * block]
        means = coarse.reshape(len(coarse) // block, block, -1, block).mean((1, 3))
        return float((coarse - np.kron(means, np.ones((block, block)))).std() / coarse.std())

    assert fine_detail("B11", 2) < 0.6 * fine_detail("B04", 2)
    assert fine_detail("B01", 6) < 0.6 * fine_detail("B02", 6)


def test_land_cover_is_coherent_and_not_noise(scene: Scene) -> None:
    same = scene.truth[:, 1:] == scene.truth[:, :-1]
    assert same.mean() > 0.9


def test_croplands_hold_several_spectral_variants(scene: Scene) -> None:
    crops = ndimage.binary_erosion(scene.truth == 6, iterations=2)
    red, nir = (scene.image[BANDS.index(b), crops].astype(float) for b in ("B04", "B08"))
    greenness = (nir - red) / (nir + red)
    assert np.quantile(greenness, 0.9) > 0.7
    assert np.quantile(greenness, 0.1) < 0.4


def test_cloud_shadow_darkens_the_infrared_of_the_patch_only() -> None:
    lit = simulate_scene(2, 200, cloud_shadow=False, nodata_corner=False)
    dim = simulate_scene(2, 200, cloud_shadow=True, nodata_corner=False)
    band = BANDS.index("B08")
    ratio = dim.image[band] / lit.image[band]
    assert 0.005 < (ratio < 0.6).mean() < 0.1
    assert (ratio > 0.97).mean() > 0.8
    assert np.array_equal(lit.truth, dim.truth)


def test_shift_changes_the_spectra_and_not_the_layout() -> None:
    plain, shifted = simulate_scene(4, 128), simulate_scene(4, 128, shift=1.0)
    assert np.array_equal(plain.truth, shifted.truth)
    relative = np.abs(shifted.image.astype(float) / plain.image - 1).mean()
    assert 0.05 < relative < 2
    assert shifted.image.max() < 20000


def test_variety_changes_the_class_areas() -> None:
    forest = [float((simulate_scene(s, 96, variety=1.0).truth == 1).mean()) for s in range(6)]
    assert max(forest) - min(forest) > 0.1


def test_small_scenes_hold_every_class() -> None:
    for seed in range(12):
        present = set(np.unique(simulate_scene(seed, 128).truth).tolist())
        assert present == set(LEGEND.codes)


def test_too_small_a_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="32 pixels"):
        simulate_scene(0, 16)


def test_labelled_tiles_are_five_a_class_pure_apart_and_on_data(scene: Scene) -> None:
    tiles = labelled_tiles(scene, per_class=5, size=16, seed=1)
    assert {c: sum(t.code == c for t in tiles) for c in LEGEND.codes} == dict.fromkeys(LEGEND.codes, 5)
    taken = np.zeros(scene.truth.shape, int)
    for tile in tiles:
        window = np.s_[tile.row : tile.row + tile.size, tile.col : tile.col + tile.size]
        taken[window] += 1
        truth = scene.truth[window]
        assert truth.shape == (16, 16)
        assert not (truth == 255).any()
        assert (truth == tile.code).mean() == pytest.approx(tile.purity)
    assert sum(t.purity >= 0.75 for t in tiles) >= 0.85 * len(tiles)
    assert min(t.purity for t in tiles) >= 0.5
    assert taken.max() == 1


def test_tiles_of_a_class_without_pure_places_are_the_purest_there_are(small: Scene) -> None:
    tiles = labelled_tiles(small, per_class=1, size=32, seed=0)
    barren = [t for t in tiles if t.code == 9]
    assert len(barren) == 1
    counts = ndimage.uniform_filter((small.truth == 9).astype(float), 32)[16:-15:8, 16:-15:8]
    assert barren[0].purity == pytest.approx(float(counts.max()), abs=1e-6)


def test_demo_files_hold_the_scene_its_labels_and_apart_the_truth(tmp_path: Path) -> None:
    files = write_demo(tmp_path / "demo", seed=3, size=300)
    scene = simulate_scene(3, 300)
    with rasterio.open(files.scene) as dataset:
        assert dataset.descriptions == BANDS
        assert dataset.nodata == 0
        assert dataset.crs.to_epsg() == 32632
        assert dataset.profile["tiled"]
        assert np.array_equal(dataset.read(), scene.image)
    with rasterio.open(files.truth) as dataset:
        assert np.array_equal(dataset.read(1), scene.truth)
        assert dataset.nodata == 255
        assert dataset.colormap(1)[10] == (0x1C, 0x0D, 0xFF, 255)
    assert files.truth.parent != files.scene.parent
    labels = geopandas.read_file(files.labels)
    assert labels["class"].value_counts().to_dict() == dict.fromkeys(LEGEND.names, 5)
    first = scene.tiles[0]
    west = scene.grid.affine.c + 10 * first.col
    north = scene.grid.affine.f - 10 * first.row
    assert labels.geometry[0].bounds == (west, north - 10 * first.size, west + 10 * first.size, north)


def test_demo_is_reused_and_made_anew_for_other_parameters(tmp_path: Path) -> None:
    first = write_demo(tmp_path, seed=3, size=64)
    made = first.scene.stat().st_mtime_ns
    assert write_demo(tmp_path, seed=3, size=64).scene.stat().st_mtime_ns == made
    write_demo(tmp_path, seed=4, size=64)
    assert first.scene.stat().st_mtime_ns != made
    with rasterio.open(first.scene) as dataset:
        assert np.array_equal(dataset.read(), simulate_scene(4, 64).image)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo.json", "labels.gpkg", "scene.tif", "truth"]


def test_demo_with_a_lost_file_is_made_anew(tmp_path: Path) -> None:
    files = write_demo(tmp_path, seed=3, size=64)
    files.labels.unlink()
    assert write_demo(tmp_path, seed=3, size=64).labels.is_file()


def test_demo_in_an_impossible_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_demo(tmp_path / "file" / "demo", size=64)
    assert "LANDMETA_CACHE" in caught.value.hint
