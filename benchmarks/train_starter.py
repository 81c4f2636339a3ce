"""Make the starter checkpoint: `make starter` (about an hour on one quiet CPU core).

The network is first trained jointly (one classifier for all classes of each source), then in episodes with
the heads of `quick`, on hls_worldcover train clusters, eurosat_rgb (first 800 of each class) and simulated
scenes, each seen turned, brighter or darker, now and then finer, and with random subsets of its bands.

The controls: `--warm-up 800 --steps 0` stops before the episodes; `--init` that file with `--joint` goes on
jointly for as many steps; `--warm-up 0 --steps 0` keeps the random initialisation. `evaluate_starter.py`
compares them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from landmeta.bands import SENTINEL2
from landmeta.checkpoints import load_start, save_start
from landmeta.episodes import Episode, EpisodeSource, TrainSettings, halves_episode, train, varied
from landmeta.start import Start, balanced_cross_entropy, feature_maps, image_vectors, pixel_vectors
from landmeta_catalog.archives.chips import HLS_BANDS, RGB_BANDS, Chip, eurosat_rgb_tiles, hls_chips
from landmeta_catalog.simulate import LEGEND, simulate_scene

WIDTHS = (32, 64, 128, 256)
TRAINED_ON = ("hls_worldcover", "eurosat_rgb", "simulated")


Scene = tuple[np.ndarray, np.ndarray, tuple[str, ...]]
"""Reflectances (band, y, x), class numbers (y, x) with -1 for unknown, and band names."""

SceneSource = Callable[[np.random.Generator], Scene]


def chip_scenes(chips: list[Chip]) -> SceneSource:
    """Random chips: a random cluster first, or well-covered places would dominate."""
    by_cluster: dict[str, list[Chip]] = {}
    for chip in chips:
        by_cluster.setdefault(chip.cluster, []).append(chip)
    places = list(by_cluster.values())

    def draw(rng: np.random.Generator) -> Scene:
        place = places[rng.integers(len(places))]
        chip = place[rng.integers(len(place))]
        return np.nan_to_num(chip.image), chip.labels, HLS_BANDS

    return draw


def simulated_scenes(rng: np.random.Generator) -> Scene:
    """Small simulated scenes, each with spectra, light and season of its own."""
    scene = simulate_scene(int(rng.integers(2**31)), 128, shift=1.0)
    labels = np.where(scene.truth == 255, -1, scene.truth).astype(np.int64)
    return scene.image.astype(np.float32) * np.float32(1e-4), labels, SENTINEL2


def scene_episodes(scenes: SceneSource) -> EpisodeSource:
    """Episodes inside one scene, seen as another sensor might have."""

    def draw(rng: np.random.Generator) -> Episode:
        while True:
            if (episode := halves_episode(*varied(*scenes(rng), rng), rng)) is not None:
                return episode

    return draw


def tile_episodes(archive: Path) -> EpisodeSource:
    """4-way 3-shot episodes of whole EuroSAT tiles, three queries a class."""
    tiles = eurosat_rgb_tiles(archive, 0, 800)
    names = sorted(tiles)

    def draw(rng: np.random.Generator) -> Episode:
        classes = rng.permutation(len(names))[:4]
        chosen = [tiles[names[k]][i] for k in classes for i in rng.permutation(len(tiles[names[k]]))[:6]]
        index = torch.arange(24).reshape(4, 6)
        target = torch.arange(4)[:, None].expand(4, 3).flatten()
        images = torch.from_numpy(np.stack(chosen))
        return Episode(
            images,
            RGB_BANDS,
            4,
            support=index[:, :3].flatten(),
            support_target=target,
            query=index[:, 3:].flatten(),
            query_target=target,
            dense=False,
        )

    return draw


def train_chips(data: Path) -> list[Chip]:
    """HLS chips of the train clusters."""
    clusters = json.loads((data / "splits.json").read_text())["hls_worldcover"]["train"]
    return hls_chips(data / "hls_worldcover", clusters)


def mixed_source(data: Path, parts: dict[str, float]) -> EpisodeSource:
    """Draw the source of every episode by the shares in `parts`."""
    sources = {
        "hls": lambda: scene_episodes(chip_scenes(train_chips(data))),
        "simulated": lambda: scene_episodes(simulated_scenes),
        "eurosat": lambda: tile_episodes(data / "eurosat_rgb/eurosat_rgb.tar"),
    }
    ready = [sources[name]() for name in parts]
    shares = np.array(list(parts.values())) / sum(parts.values())
    return lambda rng: ready[rng.choice(len(ready), p=shares)](rng)


Sample = tuple[torch.Tensor, tuple[str, ...], torch.Tensor]
"""An image (1, band, y, x), its band names, and class numbers: (y * x,), -1 unknown, or (1,) of a tile."""


def joint_sources(
    data: Path, parts: dict[str, float]
) -> list[tuple[int, Callable[[np.random.Generator], Sample]]]:
    """Number of classes and a draw of labelled images for each source, the same data as the episodes."""
    found: list[tuple[int, Callable[[np.random.Generator], Sample]]] = []
    for name in parts:
        if name == "hls":
            chips = train_chips(data)
            codes = sorted({int(k) for c in chips for k in np.unique(c.labels)} - {-1})
            found.append((len(codes), partial(_joint_scene, chip_scenes(chips), codes)))
        elif name == "simulated":
            found.append((len(LEGEND.codes), partial(_joint_scene, simulated_scenes, LEGEND.codes)))
        else:
            tiles = eurosat_rgb_tiles(data / "eurosat_rgb/eurosat_rgb.tar", 0, 800)
            found.append((len(tiles), partial(_joint_tile, [tiles[name] for name in sorted(tiles)])))
    return found


def _joint_scene(scenes: SceneSource, codes: Sequence[int], rng: np.random.Generator) -> Sample:
    image, labels, names = varied(*scenes(rng), rng)
    flat = labels.ravel()
    target = torch.from_numpy(np.where(flat < 0, -1, np.searchsorted(codes, flat)))
    return torch.from_numpy(np.ascontiguousarray(image))[None], names, target


def _joint_tile(tiles: list[list[np.ndarray]], rng: np.random.Generator) -> Sample:
    of_class = int(rng.integers(len(tiles)))
    image = tiles[of_class][rng.integers(len(tiles[of_class]))]
    return torch.from_numpy(image)[None], RGB_BANDS, torch.tensor([of_class])


def train_jointly(
    start: Start, data: Path, parts: dict[str, float], settings: TrainSettings, deadline: float
) -> None:
    """The control: one linear classifier a source over all its classes, plain cross entropy, no episodes."""
    sources = joint_sources(data, parts)
    shares = np.array(list(parts.values())) / sum(parts.values())
    classifiers = torch.nn.ModuleList(torch.nn.Linear(sum(WIDTHS), classes) for classes, _ in sources)
    for parameter in classifiers.parameters():
        torch.nn.init.zeros_(parameter)
    rng = np.random.default_rng(settings.seed)
    optimizer = torch.optim.Adam(
        [*start.network.blocks.parameters(), *classifiers.parameters()], settings.rate
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    for step in range(1, settings.steps + 1):
        total = 0.0
        for _ in range(settings.tasks):
            which = int(rng.choice(len(sources), p=shares))
            loss = _joint_loss(start, sources[which][1](rng), classifiers[which], rng)
            (loss / settings.tasks).backward()
            total += float(loss.detach())
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            print(f"joint step {step} loss {total / settings.tasks:.3f}", flush=True)
        if time.time() > deadline:
            break


def _joint_loss(
    start: Start, sample: Sample, classifier: torch.nn.Module, rng: np.random.Generator
) -> torch.Tensor:
    image, names, target = sample
    maps = feature_maps(start, image, names)
    if len(target) == 1:
        return torch.nn.functional.cross_entropy(classifier(image_vectors(maps)[:, -sum(WIDTHS) :]), target)
    depth = pixel_vectors(maps)[:, -sum(WIDTHS) :]  # alone: with the spectral groups it could idle
    chosen = torch.from_numpy(rng.permutation(np.flatnonzero(target.numpy() >= 0))[:1024])
    return balanced_cross_entropy(classifier(depth[chosen]), target[chosen])


def main() -> None:
    """Parse, train, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("landmeta/starter.safetensors"))
    parser.add_argument("--warm-up", type=int, default=800, help="joint steps before the episodes")
    parser.add_argument("--init", type=Path, help="a start to begin from instead of the warm-up")
    parser.add_argument(
        "--steps", type=int, default=1000, help="steps of episodes (of joint training: --joint)"
    )
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--joint", action="store_true")
    parser.add_argument("--sources", default="hls=6,simulated=2,eurosat=1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    start = Start(WIDTHS, generator=torch.Generator().manual_seed(a.seed))
    parts = {k: float(v) for k, v in (p.split("=") for p in a.sources.split(","))}
    training = {"trained_on": list(TRAINED_ON), "warm_up": a.warm_up, "joint": a.joint, "steps": a.steps}
    training |= {"tasks": a.tasks, "seed": a.seed, "sources": a.sources}
    begun = time.time()
    deadline = begun + 60 * a.minutes
    recent: list[float] = []

    def report(step: int, loss: float) -> bool:
        recent.append(loss)
        if step % 20 == 0:
            mean = np.mean(recent[-20:])
            print(f"step {step} loss {mean:.4f} {(time.time() - begun) / step:.2f} s/step", flush=True)
        if step % 100 == 0:
            save_start(start, a.out, training | {"steps": step})
        return time.time() < deadline

    if a.init is not None:
        begun_from, header = load_start(a.init)
        start.load_state_dict(begun_from.state_dict())
        training["warm_up"] = header["training"]["warm_up"]
    elif a.warm_up:
        train_jointly(
            start, a.data, parts, TrainSettings(steps=a.warm_up, tasks=a.tasks, seed=a.seed), deadline
        )
    # After a warm-up the network is tuned, no longer made: half of the rate.
    rate = 1e-3 if a.init is None and not a.warm_up else 5e-4
    settings = TrainSettings(steps=a.steps, tasks=a.tasks, rate=rate, seed=a.seed + (rate < 1e-3))
    if a.steps and a.joint:
        train_jointly(start, a.data, parts, settings, deadline)
    elif a.steps:
        train(start, mixed_source(a.data, parts), settings, report)
    save_start(start, a.out, training)


if __name__ == "__main__":
    main()
