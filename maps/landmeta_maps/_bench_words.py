"""What a benchmark report says in words: what the data can show, what agrees with the paper and what not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from landmeta.bench.metrics import Estimate
from landmeta.bench.summary import Row, row_difference

_EQUALISED = ("sen12ms_rgb",)
"""Datasets whose tiles were histogram-equalised one by one before they were published."""

_DIGITS = 3


def data_words(cell: Mapping[str, Any]) -> str:
    """What a run on this data can and cannot show: the first paragraph of a report."""
    settings = cell["settings"]
    dataset, size = settings["dataset"], settings["preset"]["name"]
    words = [f"{dataset}:"]
    if size == "smoke":
        words.append(
            "This is a smoke run: a few steps of a tiny network. It shows that every part works; no figure "
            "in it says anything about a method."
        )
    if cell.get("simulated"):
        words.append(
            "The tiles are simulated, with raw radiometry and a shift between regions and seasons. They can "
            "show what a method does by construction, such as the effect of the order of queries; they "
            "cannot show how well it maps land cover."
        )
    elif dataset in _EQUALISED:
        words.append(
            "Each of these tiles was histogram-equalised by itself before it was published. That removes the "
            "very moments of a tile that instance norm discards and the other norms keep: this run can show "
            "the effects of query composition and of imbalance, but not what a norm does with the radiometry "
            "of a region. A run on raw radiometry belongs beside it."
        )
    else:
        words.append(
            "The tiles hold raw radiometry, so norms that keep a tile's moments and norms that discard them "
            "see different things, as in the paper."
        )
    if size != "paper":
        words.append(
            "Network, budget and regions are those stated below, not the paper's: where a row differs from "
            "the printed one, that may be the reason."
        )
    return " ".join(words)


def budget_words(size: Mapping[str, Any]) -> str:
    """The budget that every norm and algorithm had, from the stored preset."""
    rates = ", ".join(f"{rate:g}" for rate in size["inner_rates"])
    start = (
        f"{size['warm_up']:,} steps of joint training on the classes of the training regions, then "
        if size["warm_up"]
        else "From random weights, "
    )
    chosen = (
        f"at the rate of {rates} with the least loss on training tasks before the first outer step"
        if len(size["inner_rates"]) > 1
        else f"at {rates}"
    )
    return (
        f"Every norm and algorithm: {start}{size['steps']:,} outer steps of {size['tasks']} tasks, with "
        f"{size['inner_steps']} inner steps {chosen}; the last network is judged. Fair: {size['test_steps']} "
        f"inner steps at the same rate with the same loss. Compat in regions: {size['compat_steps']} steps "
        "on minibatches of 8 with positives weighed by one, as the released evaluator takes them."
    )


def findings(rows: Sequence[Row]) -> list[str]:
    """What agrees with the paper, what does not, and why, as sentences.

    Rows that did not converge, failed or are missing are named first and bear no conclusion.
    """
    sound = [row for row in rows if row.sound]
    said = [*_missing(rows), *_trivial(rows, sound), *_against_instance_norm(sound), *_algorithms(sound)]
    said += [*_ordering(sound), *_train_mode(sound), *_imbalance(sound), *_rivals(sound)]
    return said


def shown(found: Estimate | None) -> str:
    """A value with its interval, such as `0.612 (0.580 to 0.641)`."""
    if found is None:
        return "-"
    low, high = found.ci95
    return f"{found.value:.{_DIGITS}f} ({low:.{_DIGITS}f} to {high:.{_DIGITS}f})"


def _missing(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for cell in row.failed:
            yield f"{row.label}, seed {cell['cell']['seed']}, failed: {cell['error']}."
        for cell in row.not_converged:
            why = cell["result"]["training"]["why"]
            seed = cell["cell"]["seed"]
            yield f"{row.label}, seed {seed}, did not converge ({why}); it bears no conclusion."
        if not row.cells and not row.failed:
            yield f"{row.label} has not been run yet."


def _trivial(rows: Sequence[Row], sound: Sequence[Row]) -> Iterator[str]:
    """The printed accuracy of balanced tasks is binary with a quarter of positives."""
    printed = [row.label for row in rows if (row.printed["balanced"] or 1.0) < 0.75]
    ours = [(row.label, row.value("fair", "balanced", "binary_accuracy")) for row in sound]
    below = [label for label, found in ours if found is not None and found.ci95[0] <= 0.75]
    if ours:
        yield (
            "The printed accuracy on balanced tasks is binary with one positive in four: a classifier that "
            "always "
            f"says no scores 0.75. Printed below that: {', '.join(printed) or 'none of these rows'}. Ours, "
            "not "
            f"clearly above it: {', '.join(below) or 'none'}. Balanced accuracy and AUROC stand beside it "
            "for that."
        )


def _against_instance_norm(rows: Sequence[Row]) -> Iterator[str]:
    """The paper's main claim: under imbalance, IN is ahead of all other norms under MAML."""
    chosen = next((row for row in rows if (row.method, row.norm) == ("maml", "in")), None)
    for row in rows if chosen else ():
        if chosen is None or row is chosen or row.method != "maml":
            continue
        for column, metric, where in (
            ("regions", "accuracy", "whole regions"),
            ("balanced", "binary_accuracy", "balanced tasks"),
        ):
            ours = row_difference(chosen, row, "fair", column, metric)
            printed, other = chosen.printed[column], row.printed[column]
            if ours is not None and printed is not None and other is not None:
                yield _compared(f"On {where}, IN less {row.label}", ours, printed - other)


def _algorithms(rows: Sequence[Row]) -> Iterator[str]:
    """Second order against first order, and sparse masks, all with IN."""
    chosen = next((row for row in rows if (row.method, row.norm) == ("maml", "in")), None)
    for row in rows if chosen else ():
        if chosen is None or row.method == "maml" or not row.norm:
            continue
        ours = row_difference(chosen, row, "fair", "regions", "accuracy")
        printed, other = chosen.printed["regions"], row.printed["regions"]
        if ours is not None and printed is not None and other is not None:
            yield _compared(f"On whole regions, MAML less {row.label}", ours, printed - other)


def _compared(what: str, ours: Estimate, printed: float) -> str:
    low, high = ours.ci95
    if low <= 0 <= high:
        verdict = "not decided: our interval holds 0"
    else:
        verdict = "agrees in sign" if (ours.value > 0) == (printed > 0) else "contradicts the paper"
    return f"{what}: ours {ours.value:+.3f} ({low:+.3f} to {high:+.3f}), printed {printed:+.2f}; {verdict}."


def _ordering(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row.norm != "tbn":
            continue
        pair = ("class_sorted", "shuffled")
        lost = row_difference(row, row, "fair", "regions", "accuracy", compositions=pair)
        if lost is not None:
            low, high = lost.ci95
            yield (
                f"Transductive batch norm with class-sorted instead of shuffled batches: {lost.value:+.3f} "
                f"({low:+.3f} to {high:+.3f}) in accuracy on whole regions. The printed 0.26 was "
                "measured with class-sorted batches, in which the moments of the batch take the class "
                "away: it "
                "holds this artefact besides the weakness of the method."
            )


def _train_mode(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row.norm in ("cbn", "tasknorm_i") and "meteor_compat" in row.protocols:
            compat = row.value("meteor_compat", "balanced", "binary_accuracy")
            fair = row.value("fair", "balanced", "binary_accuracy")
            yield (
                f"{row.label} on balanced tasks: {shown(compat)} as the released training code tests, which "
                "never "
                f"leaves train mode and so takes moments from the query, {shown(fair)} when it does not."
            )


def _imbalance(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        points = row.sweep("fair", "accuracy")
        if len(points) > 1 and row.norm:
            (first, begin), (last, end) = points[0], points[-1]
            yield (
                f"{row.label}: accuracy {shown(begin)} with {100 * first:.0f} % of the queries in the "
                "largest class, "
                f"{shown(end)} with {100 * last:.0f} %."
            )


def _rivals(rows: Sequence[Row]) -> Iterator[str]:
    learned = [row for row in rows if row.norm]
    rivals = [row for row in rows if not row.norm]
    scored = [(row, row.value("fair", "regions", "balanced_accuracy")) for row in rivals]
    best = max(((r, v) for r, v in scored if v is not None), key=lambda pair: pair[1].value, default=None)
    if best is None:
        return
    ahead = []
    for row in learned:
        gain = row_difference(row, best[0], "fair", "regions", "balanced_accuracy")
        if gain is not None and gain.ci95[0] > 0:
            ahead.append(row.label)
    yield (
        f"The best rival without meta-learning on whole regions is the {best[0].label}, balanced accuracy "
        f"{shown(best[1])}. Clearly ahead of it: {', '.join(ahead) or 'none of the rows that converged'}."
    )
