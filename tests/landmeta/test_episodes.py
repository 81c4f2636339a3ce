import numpy as np
import pytest
import torch
from scipy import ndimage

from landmeta.episodes import (
    Episode,
    TrainSettings,
    draw_patches,
    episode_logits,
    halves_episode,
    train,
    varied,
)
from landmeta.start import Start

SMALL = (4, 4, 4, 4)
BANDS = ("B02", "B03", "B04", "B08")


def make_scene(seed=0):
    """Two classes in horizontal stripes, told apart by a spatial texture and a spectral step."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(64) // 16 % 2)[:, None].repeat(64, axis=1)
    image = 0.2 + 0.1 * labels + 0.05 * rng.standard_normal((4, 64, 64))
    return image.astype(np.float32), labels


def make_episode(seed=0):
    episode = halves_episode(*make_scene(seed), BANDS, np.random.default_rng(seed), shots=(5,))
    assert episode is not None
    return episode


def make_start(seed=0):
    return Start(SMALL, generator=torch.Generator().manual_seed(seed))


def test_support_and_query_of_a_halves_episode_lie_on_different_sides():
    episode = make_episode()
    support, query = (index % 64 for index in (episode.support, episode.query))
    assert int(support.max()) < 24
    assert int(query.min()) >= 40


def test_a_scene_of_one_class_makes_no_episode():
    image, labels = make_scene()
    assert halves_episode(image, labels * 0, BANDS, np.random.default_rng(0)) is None


def test_patches_are_pixels_of_their_class_that_lie_together():
    labels = make_scene()[1]
    for seed in range(8):
        index, target = draw_patches(labels, [0, 1], np.random.default_rng(seed))
        assert (labels.ravel()[index.numpy()] == target.numpy()).all()
        assert len(np.unique(index.numpy())) == len(index)
        for k in (0, 1):
            chosen = np.zeros(labels.size, bool)
            chosen[index[target == k].numpy()] = True
            _, count = ndimage.label(chosen.reshape(labels.shape), np.ones((3, 3)))
            assert 1 <= count <= 8
            assert chosen.sum() <= 8 * 9 * 9


@pytest.mark.parametrize("seed", range(6))
def test_a_varied_scene_keeps_its_labels_where_they_were_and_its_bands_by_name(seed):
    labels = make_scene()[1]
    gains = np.array([1.0, 2, 4, 8], np.float32)[:, None, None]
    scene = (gains * (1 + labels)).astype(np.float32)
    image, seen, names = varied(scene, labels, BANDS, np.random.default_rng(seed))
    assert image.shape == (len(names), *seen.shape)
    assert image.dtype == np.float32
    for band, name in zip(image, names, strict=True):
        level = band / gains[BANDS.index(name)]
        assert 1.2 < level[seen == 1].mean() / level[seen == 0].mean() < 2.2
        assert 0.5 < level[seen == 0].mean() < 2


def test_the_order_of_the_support_does_not_matter():
    start, episode = make_start(), make_episode()
    order = torch.randperm(len(episode.support), generator=torch.Generator().manual_seed(1))
    shuffled = Episode(
        episode.images,
        episode.bands,
        episode.classes,
        episode.support[order],
        episode.support_target[order],
        episode.query,
        episode.query_target,
    )
    with torch.no_grad():
        torch.testing.assert_close(
            episode_logits(start, shuffled), episode_logits(start, episode), rtol=1e-3, atol=1e-3
        )


def test_the_outer_gradient_reaches_every_meta_learned_tensor_but_the_classifier():
    start, episode = make_start(), make_episode()
    episode_logits(start, episode).square().sum().backward()
    without = [name for name, p in start.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ["network.classifier.weight", "network.classifier.bias"]


def test_training_lowers_the_query_loss():
    start, losses = make_start(), []

    def keep(_step, loss):
        losses.append(loss)
        return True

    train(start, lambda rng: make_episode(int(rng.integers(1000))), TrainSettings(steps=30, tasks=1), keep)
    assert np.mean(losses[-8:]) < np.mean(losses[:8])


def test_training_twice_with_one_seed_gives_the_same_start():
    starts = [make_start(), make_start()]
    for start in starts:
        train(start, lambda rng: make_episode(int(rng.integers(1000))), TrainSettings(steps=2, tasks=1))
    assert all(torch.equal(a, b) for a, b in zip(*(s.state_dict().values() for s in starts), strict=True))
