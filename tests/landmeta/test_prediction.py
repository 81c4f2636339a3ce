from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from threading import Event
from threading import enumerate as enumerate_threads

import numpy as np
import pytest
import torch

from landmeta.adaptation import Adapted, adapt_region
from landmeta.devices import choose_device
from landmeta.heads import Heads
from landmeta.legend import LandClass, Legend
from landmeta.prediction import map_blocks, one_ahead, predict


@pytest.fixture(scope="module")
def adapted(stripes) -> Adapted:
    return adapt_region(stripes[0], stripes[1])


def test_the_map_finds_the_classes_on_the_imagery_s_own_grid(stripes, adapted):
    imagery, _, truth = stripes
    class_map = predict(adapted.ensemble, imagery)
    valid = class_map.codes != 255
    assert class_map.codes.shape == truth.shape
    assert (class_map.codes == truth)[valid].mean() > 0.93


def test_exactly_the_pixels_without_data_are_nodata_in_every_layer(stripes, adapted):
    class_map = predict(adapted.ensemble, stripes[0])
    missing = np.zeros(class_map.codes.shape, bool)
    missing[:10, :12] = True
    np.testing.assert_array_equal(class_map.codes == 255, missing)
    np.testing.assert_array_equal(class_map.confidence == 65535, missing)
    np.testing.assert_array_equal((class_map.probabilities == 65535).all(axis=0), missing)


def test_probabilities_sum_to_one_and_confidence_is_the_winner_s(stripes, adapted):
    class_map = predict(adapted.ensemble, stripes[0])
    valid = class_map.codes != 255
    shares = class_map.probabilities[:, valid].astype(int)
    assert abs(shares.sum(axis=0) - 10_000).max() <= 2
    np.testing.assert_array_equal(shares.max(axis=0), class_map.confidence[valid])


def test_the_map_has_no_seams_whatever_the_blocks(stripes, adapted):
    whole, blocks = (predict(adapted.ensemble, stripes[0], block=b) for b in (512, 64))
    difference = whole.probabilities.astype(int) - blocks.probabilities.astype(int)
    assert abs(difference).max() <= 2


def test_a_map_of_a_part_equals_that_part_of_the_whole_map(stripes, adapted):
    from odc.geo.geobox import GeoBox

    imagery = stripes[0]
    part = replace(imagery, grid=GeoBox((60, 50), imagery.grid.transform, None), origin=(37, 21))
    whole, piece = predict(adapted.ensemble, imagery), predict(adapted.ensemble, part)
    difference = whole.probabilities[:, 37:97, 21:71].astype(int) - piece.probabilities.astype(int)
    assert abs(difference).max() <= 2


def test_logits_are_the_mean_of_the_heads_on_features_of_two_phases(stripes, adapted):
    """Projecting each depth before upsampling is the same linear map as heads on dense features."""
    from landmeta.features import PHASE, dense_features, feature_maps
    from landmeta.norms import FrozenMoments

    ensemble = adapted.ensemble

    def whole(window: torch.Tensor) -> torch.Tensor:
        maps = feature_maps(ensemble.network, window[None], FrozenMoments(ensemble.moments))
        vectors = dense_features(maps)[0].flatten(1).T
        return ensemble.heads(vectors).T.reshape(2, *window.shape[1:])

    window = torch.from_numpy(stripes[0].read(40, 0, 160, 160).copy()).nan_to_num(0.1)
    found = ensemble.logits(window, ensemble.prepare())
    end = PHASE - 8
    moved = whole(window[:, PHASE:end, PHASE:end])
    mean = (whole(window)[:, PHASE:end, PHASE:end] + moved) / 2
    inner = np.s_[:, 56:-56, 56:-56]  # the second pass sees the border of its own window
    torch.testing.assert_close(found[:, PHASE:end, PHASE:end][inner], mean[inner], rtol=1e-3, atol=1e-3)


def test_beyond_the_edge_the_imagery_is_mirrored_and_nodata_stays(stripes):
    imagery = stripes[0]
    window = imagery.read_mirrored(-16, -8, 232, 184)
    inside = imagery.read(0, 0, 200, 168)
    np.testing.assert_array_equal(window[:, 16:216, 8:176], inside)
    np.testing.assert_array_equal(window[:, :16, 100:150], inside[:, 16:0:-1, 92:142])
    np.testing.assert_array_equal(window[:, 100:150, 176:], inside[:, 84:134, -2:-10:-1])


def test_a_clipped_part_is_completed_by_its_true_neighbours(stripes):
    from odc.geo.geobox import GeoBox

    imagery = stripes[0]
    part = replace(imagery, grid=GeoBox((60, 50), imagery.grid.transform, None), origin=(37, 21))
    np.testing.assert_array_equal(part.read_mirrored(-8, -8, 76, 66), imagery.read(29, 13, 76, 66))


def test_the_next_is_made_while_one_is_used_and_no_more_than_that():
    begun = {k: Event() for k in range(4)}

    def work(k: int) -> int:
        begun[k].set()
        return 10 * k

    taken = one_ahead(work, range(4))
    assert next(taken) == 0
    assert begun[1].wait(10)
    assert not begun[2].is_set()
    assert list(taken) == [10, 20, 30]


def test_what_fails_ahead_is_raised_where_its_result_is_taken():
    def work(k: int) -> int:
        return 1 // (k - 1)

    taken = one_ahead(work, range(3))
    assert next(taken) == -1
    with pytest.raises(ZeroDivisionError):
        next(taken)


def test_a_map_that_is_given_up_in_the_middle_leaves_no_thread(stripes, adapted):
    blocks = map_blocks(adapted.ensemble, stripes[0], block=16)
    next(blocks)
    blocks.close()
    assert not [t for t in enumerate_threads() if t.name.startswith("landmeta-ahead")]


def test_a_model_computes_where_its_tensors_are_wherever_the_window_is(adapted):
    # Tensors of the device "meta" have no values; mixed with others they fail as those of a GPU do.
    ensemble = adapted.ensemble.to("meta")
    logits = ensemble.logits(torch.zeros(len(ensemble.bands.names), 128, 128), ensemble.prepare())
    assert logits.device.type == "meta"
    assert logits.shape == (len(ensemble.legend), 128, 128)


@pytest.mark.gpu
@pytest.mark.parametrize("effort", ["quick", "standard"])
def test_a_gpu_gives_the_map_of_the_cpu(stripes, effort):
    here, there = (
        predict(adapt_region(stripes[0], stripes[1], effort=effort, device=device).ensemble, stripes[0])
        for device in ("cpu", choose_device("cuda"))
    )
    apart = here.probabilities.astype(int) - there.probabilities.astype(int)
    assert np.percentile(abs(apart), 99) <= 10  # of 10,000
    assert (here.codes == there.codes).mean() > 0.999


def with_classes(ensemble, classes: int):
    """The ensemble with random heads for so many classes."""
    generator = torch.Generator().manual_seed(classes)
    features = ensemble.heads.weight.shape[1]
    heads = Heads(torch.randn(classes, features, generator=generator), torch.zeros(classes))
    legend = Legend(tuple(LandClass(i + 1, f"{i}", "#000000") for i in range(classes)))
    return replace(ensemble, heads=heads, legend=legend)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("shape", [(120, 168), (240, 328)])
def test_a_map_has_the_same_bits_whatever_the_threads(adapted, threads, classes, shape):
    ensemble = with_classes(adapted.ensemble, classes)
    window = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    found = []
    for count in (1, 2):
        threads(count)
        found.append(ensemble.logits(window, ensemble.prepare()))
    assert torch.equal(*found)


@pytest.mark.parametrize("height", [120, 136, 192, 200])  # the last strip of 136 rows has 8, all of them halo
def test_strips_of_the_first_block_make_the_same_logits(adapted, monkeypatch, height):
    ensemble = with_classes(adapted.ensemble, 3)
    window = torch.rand(4, height, 128, generator=torch.Generator().manual_seed(0))
    in_strips = ensemble.logits(window, ensemble.prepare())
    monkeypatch.setattr("landmeta.ensemble._STRIP", height)
    torch.testing.assert_close(in_strips, ensemble.logits(window, ensemble.prepare()), rtol=1e-5, atol=1e-5)


def test_what_lies_beyond_the_context_changes_nothing(adapted):
    """To rounding in double precision: the halo is cut to exactly what the core needs."""
    double = {name: (m.double(), v.double()) for name, (m, v) in adapted.ensemble.moments.items()}
    ensemble = with_classes(adapted.ensemble, 2)
    heads = Heads(ensemble.heads.weight.double(), ensemble.heads.bias.double())
    network = deepcopy(ensemble.network).double()
    ensemble = replace(ensemble, network=network, moments=double, heads=heads, fill=ensemble.fill.double())
    scene = torch.rand(4, 272, 280, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    around = 56
    assert ensemble.context == around
    core = np.s_[:, around:-around, around:-around]
    whole = ensemble.logits(scene, ensemble.prepare())[:, 112:-112, 112:-112]
    part = ensemble.logits(scene[core].contiguous(), ensemble.prepare())[core]
    torch.testing.assert_close(part, whole, rtol=1e-10, atol=1e-10)


def test_a_window_that_is_all_halo_is_refused(adapted):
    with pytest.raises(ValueError, match="112 x 120 px, expected more than twice the context of 56"):
        adapted.ensemble.logits(torch.zeros(4, 112, 120), adapted.ensemble.prepare())
