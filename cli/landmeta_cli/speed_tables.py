"""The figures of `landmeta bench speed` as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from landmeta_cli.console import table
from landmeta_cli.scale_bench import scale_table
from landmeta_cli.store_bench import store_table


def speed_table(found: Mapping[str, Any]) -> str:
    """A table for each part that was measured."""
    parts = {"rows": _map_part, "scale": _scale_part, "engines": _engine_part, "store": _store_part}
    return "\n\n".join(show(found) for key, show in parts.items() if key in found)


def _scale_part(found: Mapping[str, Any]) -> str:
    return scale_table(found["scale"])


def _store_part(found: Mapping[str, Any]) -> str:
    return store_table(found["store"])


def _map_part(found: Mapping[str, Any]) -> str:
    """One line a job: seconds, ratio, goal and speed; then accuracy beside the reference's, and memory."""
    cells = [
        (
            r["what"],
            f"{r['reference_s']:.1f}",
            f"{r['ours_s']:.2f}",
            f"{r['ratio']:.0f}",
            f"{r['goal']:.0f}",
            f"{r['gflops']:.0f}",
            f"{r['share_of_matrix_product']:.0%}",
        )
        for r in found["rows"]
    ]
    head = ("job", "reference s", "landmeta s", "ratio", "goal", "GFLOP/s", "of matrix product")
    hardware = found["hardware"]
    return "\n".join(
        [
            table(head, cells, indent=0),
            f"\nReference: {found['reference']}.",
            f"{hardware['threads']} threads, {hardware['gflops']} GFLOP/s in a matrix product.",
            f"The map without its halos: {found['useful_share_of_matrix_product']:.0%} of that.",
            _accuracy(found["accuracy"]),
            f"Accuracy: {found['accuracy_sample']}.",
        ]
    )


def _accuracy(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy of our efforts beside the reference's on the same tasks."""
    cells = [
        (
            row["source"],
            row["effort"],
            str(row["tasks"]),
            f"{row['ours']:.3f}",
            f"{row['reference']:.3f}",
            f"{row['diff']:+.3f}",
            f"{row['diff_ci95'][0]:+.3f}..{row['diff_ci95'][1]:+.3f}",
        )
        for row in rows
    ]
    head = ("accuracy on", "effort", "tasks", "landmeta", "reference", "difference", "95 %")
    return f"\n{table(head, cells, indent=0)}\n" if rows else ""


def _engine_part(found: Mapping[str, Any]) -> str:
    """One line an engine and setting; then what an ensemble costs."""
    cells = [
        (
            _setting(row),
            row["engine"],
            f"{row['tasks_per_s']:.2f}",
            f"{row['ratio']:.2f}",
            "" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}",
            "" if row["memory_ratio"] is None else f"{row['memory_ratio']:.2f}",
            f"{row['share_of_matrix_product']:.0%}",
        )
        for row in found["engines"]
    ]
    head = ("second-order MAML", "engine", "tasks/s", "ratio", "MB", "ratio", "of matrix product")
    ensembles = [
        f"{row['classes']} class models on {row['images']} tiles ({row['device']}): the time of "
        f"{row['passes']:.2f} passes of one network."
        for row in found["ensembles"]
    ]
    return "\n".join(
        [
            table(head, cells, indent=0),
            "\nRatios to the plain loop: torch's own operations, one task after the other, all graphs kept.",
            f"GPU: {found['engine_gpu']}.",
            *ensembles,
        ]
    )


def _setting(row: Mapping[str, Any]) -> str:
    steps = "1 step" if row["steps"] == 1 else f"{row['steps']} steps"
    return f"{steps}, {row['side']} px, {row['width']:g} width, {row['device']}"
