"""Make the starter checkpoint: `make starter` (about three quarters of an hour on one quiet CPU core).

Episodes with the heads of `quick` on hls_worldcover train clusters, eurosat_rgb (first 800 of each class) and
simulated scenes. `--joint` trains the same network on the same sources the ordinary way instead (one
classifier for all classes of each source, no episodes); `--warm-up N` begins with N such steps before the
episodes; `--steps 0` keeps the random initialisation. `evaluate_starter.py` compares the three.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from landmeta.bands import SENTINEL2
from landmeta.checkpoints import load_start, save_start
from landmeta.episodes import Episode, EpisodeSource, TrainSettings, halves_episode, train
from landmeta.start import Start, balanced_cross_entropy, pixel_features
from landmeta_catalog.archives.chips import HLS_BANDS, RGB_BANDS, Chip, eurosat_rgb_tiles, hls_chips
from landmeta_catalog.simulate import LEGEND, simulate_scene

WIDTHS = (32, 64, 128, 256)
TRAINED_ON = ("hls_worldcover", "eurosat_rgb", "simulated")


def chip_source(chips: list[Chip]) -> EpisodeSource:
    """Episodes inside one random chip: a random cluster first, or well-covered places would dominate."""
    by_cluster: dict[str, list[Chip]] = {}
    for chip in chips:
        by_cluster.setdefault(chip.cluster, []).append(chip)
    places = list(by_cluster.values())

    def draw(rng: np.random.Generator) -> Episode:
        while True:
            place = places[rng.integers(len(places))]
            chip = place[rng.integers(len(place))]
            brightness = float(np.exp(rng.normal(0, 0.1)))
            image = np.nan_to_num(chip.image) * np.float32(brightness)
            if (episode := halves_episode(image, chip.labels, HLS_BANDS, rng)) is not None:
                return episode

    return draw


def simulated_source() -> EpisodeSource:
    """Episodes inside small simulated scenes, each with spectra, light and season of its own."""

    def draw(rng: np.random.Generator) -> Episode:
        while True:
            scene = simulate_scene(int(rng.integers(2**31)), 128, shift=1.0)
            labels = np.where(scene.truth == 255, -1, scene.truth).astype(np.int64)
            image = scene.image.astype(np.float32) * 1e-4
            if (episode := halves_episode(image, labels, SENTINEL2, rng)) is not None:
                return episode

    return draw


def tile_source(archive: Path) -> EpisodeSource:
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
            images, RGB_BANDS, 4, index[:, :3].flatten(), target, index[:, 3:].flatten(), target, dense=False
        )

    return draw


def mixed_source(data: Path, parts: dict[str, float]) -> EpisodeSource:
    """Draw the source of every episode by the shares in `parts`."""
    clusters = json.loads((data / "splits.json").read_text())["hls_worldcover"]["train"]
    sources = {
        "hls": lambda: chip_source(hls_chips(data / "hls_worldcover", clusters)),
        "simulated": simulated_source,
        "eurosat": lambda: tile_source(data / "eurosat_rgb/eurosat_rgb.tar"),
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
    clusters = json.loads((data / "splits.json").read_text())["hls_worldcover"]["train"]
    found: list[tuple[int, Callable[[np.random.Generator], Sample]]] = []
    for name in parts:
        if name == "hls":
            chips = hls_chips(data / "hls_worldcover", clusters)
            codes = sorted({int(k) for c in chips for k in np.unique(c.labels)})
            found.append((len(codes), partial(_joint_chip, chips, codes)))
        elif name == "simulated":
            found.append((len(LEGEND.codes), _joint_scene))
        else:
            tiles = eurosat_rgb_tiles(data / "eurosat_rgb/eurosat_rgb.tar", 0, 800)
            found.append((len(tiles), partial(_joint_tile, [tiles[name] for name in sorted(tiles)])))
    return found


def _joint_chip(chips: list[Chip], codes: list[int], rng: np.random.Generator) -> Sample:
    chip = chips[rng.integers(len(chips))]
    target = torch.from_numpy(np.searchsorted(codes, chip.labels.ravel()))
    return torch.from_numpy(np.nan_to_num(chip.image))[None], HLS_BANDS, target


def _joint_scene(rng: np.random.Generator) -> Sample:
    scene = simulate_scene(int(rng.integers(2**31)), 128, shift=1.0)
    target = np.searchsorted(LEGEND.codes, scene.truth.ravel())
    target[scene.truth.ravel() == 255] = -1
    return torch.from_numpy(scene.image.astype(np.float32) * 1e-4)[None], SENTINEL2, torch.from_numpy(target)


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
    vectors = pixel_features(start, image, names).permute(0, 2, 3, 1).flatten(0, 2)
    depth = vectors[:, -sum(WIDTHS) :]  # the deep features alone: spectral groups would let it idle
    if len(target) == 1:
        return torch.nn.functional.cross_entropy(classifier(depth.mean(dim=0, keepdim=True)), target)
    chosen = torch.from_numpy(rng.permutation(np.flatnonzero(target.numpy() >= 0))[:1024])
    return balanced_cross_entropy(classifier(depth[chosen]), target[chosen])


def main() -> None:
    """Parse, train, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("landmeta/starter.safetensors"))
    parser.add_argument("--warm-up", type=int, default=0, help="joint steps before the episodes")
    parser.add_argument("--init", type=Path, help="a start to begin from instead of the warm-up")
    parser.add_argument(
        "--steps", type=int, default=700, help="steps of episodes (of joint training: --joint)"
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
        start.load_state_dict(load_start(a.init)[0].state_dict())
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
