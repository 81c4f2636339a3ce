"""What of a benchmark agrees with the paper, what does not, and why: verdicts and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from landmeta.bench.metrics import Estimate
from landmeta.bench.summary import COLUMNS, Row, row_difference
from landmeta_maps._bench_words import shown

AS_RELEASED = {"balanced": "whole", "regions": "class_sorted"}
"""How the code released with the paper puts queries in batches."""

_TRIVIAL = 0.75
_TIE = 0.01  # printed numbers have two digits

# --- our differences beside the printed ones -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compared:
    """A printed difference between two rows beside ours.

    Attributes:
        what: Which rows, on which tasks.
        printed: Difference of the printed numbers.
        measured: Ours as the paper measured: protocol `meteor_compat`, batches of `AS_RELEASED`.
        fair: Ours under protocol `fair` in shuffled batches, which we hold to be right.
        verdict: On `measured`, in words.
    """

    what: str
    printed: float
    measured: Estimate
    fair: Estimate | None
    verdict: str


def comparisons(rows: Sequence[Row]) -> list[Compared]:
    """The claims of the paper that these rows can be held against: instance norm, and MAML, before others.

    Rows whose training did not converge or came out worse than its start are left out.
    """
    sound = [row for row in rows if row.sound]
    chosen = next((row for row in sound if (row.method, row.norm) == ("maml", "in")), None)
    found = []
    for row in sound if chosen else ():
        if chosen is None or row is chosen or not row.norm:
            continue
        first = "IN" if row.method == "maml" else "MAML"
        columns = ("regions", "balanced") if row.method == "maml" else ("regions",)
        found += [_compared(f"{first} less {row.label}", chosen, row, column) for column in columns]
    return [one for one in found if one is not None]


def _compared(what: str, ours: Row, other: Row, column: str) -> Compared | None:
    metric, order = COLUMNS[column][1], AS_RELEASED[column]
    measured = row_difference(ours, other, "meteor_compat", column, metric, compositions=(order, order))
    first, second = ours.printed[column], other.printed[column]
    if measured is None or first is None or second is None:
        return None
    where = "whole regions" if column == "regions" else "balanced tasks"
    printed = round(first - second, 4)
    fair = row_difference(ours, other, "fair", column, metric)
    return Compared(f"{where}: {what}", printed, measured, fair, _verdict(measured, printed, ours))


def _verdict(ours: Estimate, printed: float, row: Row) -> str:
    """Whether our difference has the sign of the printed one, where that can be told at all."""
    low, high = ours.ci95
    if _is_smoke(row):
        return "none from a smoke run"
    if abs(printed) <= _TIE:
        return "a tie in print"
    if ours.seeds < 2:
        return "no verdict from one training"
    if low <= 0 <= high:
        return "not decided: our interval holds 0"
    yes, no = ("agrees in sign", "contradicts the paper")
    if _is_simulated(row):
        yes, no = ("as printed", "other than printed")
    told = yes if (ours.value > 0) == (printed > 0) else no
    return f"{told}, within one pool" if ours.groups == 1 else told


def _is_smoke(row: Row) -> bool:
    return any(cell["settings"]["preset"]["name"] == "smoke" for cell in row.cells)


def _is_simulated(row: Row) -> bool:
    return any(cell.get("simulated") for cell in row.cells)


# --- findings --------------------------------------------------------------------------------------


def findings(rows: Sequence[Row]) -> list[str]:
    """What agrees with the paper, what does not, and why, as sentences.

    Rows that failed, are missing, did not converge or became worse than their start are named first and
    bear no conclusion.
    """
    sound = [row for row in rows if row.sound]
    said = [*_missing(rows), *_edges(rows), *_reminder(sound), *_counted(comparisons(rows))]
    if not any(_is_smoke(row) for row in sound):
        said += [*_trivial(rows, sound), *_no_norm(rows), *_ordering(sound), *_train_mode(sound)]
        said += [*_imbalance(sound), *_rivals(sound)]
    return said


def _missing(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for cell in row.failed:
            mend = f" To mend it: {cell['hint']}." if cell.get("hint") else ""
            yield f"{row.label}, seed {cell['cell']['seed']}, failed: {cell['error']}.{mend}"
        lost = [(cell["cell"]["seed"], found) for cell, found in row.outcomes if not found.sound]
        for ending, chosen in (
            ("did not converge", [(seed, found.why) for seed, found in lost if not found.converged]),
            ("became worse than its start", [(seed, found.why) for seed, found in lost if found.worse]),
        ):
            if chosen:
                told = "; ".join(f"seed {seed}: {why}" for seed, why in chosen)
                yield f"{row.label} {ending} ({told}) and bears no conclusion about meta-training."
    if absent := [row.label for row in rows if not row.cells and not row.failed]:
        yield f"Not run yet: {', '.join(absent)}."


def _edges(rows: Sequence[Row]) -> Iterator[str]:
    """A rate at the edge of its grid may not be the best for the norm."""
    told = []
    for row in rows:
        rates = [
            (cell["result"]["training"]["inner_rate"], cell["settings"]["preset"]["inner_rates"])
            for cell, _ in row.outcomes
            if "inner_rate" in cell["result"]["training"]
        ]
        ends = sorted({rate for rate, grid in rates if len(grid) > 1 and rate in (min(grid), max(grid))})
        told += [f"{row.label} ({', '.join(f'{rate:g}' for rate in ends)})"] if ends else []
    if told:
        yield (
            f"The inner rate chosen lies at an edge of the grid for {', '.join(told)}: a rate beyond it may "
            "suit them better."
        )


def _reminder(rows: Sequence[Row]) -> Iterator[str]:
    if any(_is_smoke(row) for row in rows):
        yield "This is a smoke run: no verdict is given on any row."
    elif any(_is_simulated(row) for row in rows):
        yield "These tiles are simulated: as printed or not, nothing here bears on a claim about land cover."


def _counted(found: Sequence[Compared]) -> Iterator[str]:
    counts = Counter(one.verdict for one in found)
    if counts:
        told = "; ".join(f"{verdict} ({count})" for verdict, count in counts.most_common())
        yield f"Of {len(found)} printed differences between rows that bear conclusions: {told}; see below."


def _trivial(rows: Sequence[Row], sound: Sequence[Row]) -> Iterator[str]:
    """The printed accuracy of balanced tasks is binary with a quarter of positives."""
    printed = [row.label for row in rows if (row.printed["balanced"] or 1.0) < _TRIVIAL]
    ours = [(row.label, row.value("fair", "balanced", "binary_accuracy")) for row in sound]
    below = [label for label, found in ours if found is not None and found.ci95[0] <= _TRIVIAL]
    if ours:
        yield (
            "The printed accuracy on balanced tasks is binary with one positive in four: a classifier that "
            f"always says no scores {_TRIVIAL}. Printed below that: {', '.join(printed) or 'none'}. Ours "
            f"(fair), not clearly above it: {', '.join(below) or 'none'}. Balanced accuracy and AUROC stand "
            "beside it for that."
        )


def _no_norm(rows: Sequence[Row]) -> Iterator[str]:
    """The paper gives no number without norm, but says in its text that training did not converge."""
    row = next((row for row in rows if row.norm == "none" and row.cells), None)
    if row is None:
        return
    told = "Without normalization the paper prints no number: its training did not converge."
    lost, count = len(row.not_converged) + len(row.worse), len(row.cells)
    auroc = shown(row.value("fair", "balanced", "auroc"))
    if lost:
        yield f"{told} Of ours {lost} of {count} came to nothing either."
    else:
        warm = any(cell["settings"]["preset"]["warm_up"] for cell in row.cells)
        start = ", but from a network already trained jointly: it is no test of that" if warm else ""
        yield f"{told} Ours did ({count} of {count}; AUROC {auroc} on balanced tasks){start}."


def _ordering(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        pair = ("class_sorted", "shuffled")
        lost = row_difference(row, row, "fair", "regions", "accuracy", compositions=pair)
        if row.norm != "tbn" or lost is None:
            continue
        low, high = lost.ci95
        if high < 0:
            why = "the moments of a batch of one class take the class away, and 0.26 holds this artefact"
        elif low > 0:
            why = "here the order helped, so it does not explain 0.26"
        else:
            why = "our interval holds 0, so this run does not show that the order lowered it"
        yield (
            f"Transductive batch norm with class-sorted instead of shuffled batches: {lost.value:+.3f} "
            f"({low:+.3f} to {high:+.3f}) in accuracy on whole regions"
            f"{' (one training)' if lost.seeds < 2 else ''}. The printed 0.26 was measured with class-sorted "
            f"batches; {why}."
        )


def _train_mode(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row.norm in ("cbn", "tasknorm_i") and "meteor_compat" in row.protocols:
            order = AS_RELEASED["balanced"]
            compat = row.value("meteor_compat", "balanced", "binary_accuracy", order)
            fair = row.value("fair", "balanced", "binary_accuracy")
            yield (
                f"{row.label} on balanced tasks: binary accuracy {shown(compat)} as the released training "
                "code tests, all queries of a task in one batch and in train mode, so that moments come from "
                f"the query; {shown(fair)} when they do not."
            )


def _imbalance(rows: Sequence[Row]) -> Iterator[str]:
    """From the balanced end of the sweep to the other, whose shares are the realised ones."""
    ends = [
        (row, points[0], points[-1])
        for row in rows
        if row.norm and len(points := row.sweep("fair", "accuracy")) > 1
    ]
    if ends:
        _, first, last = ends[0]
        really = "really " if first.realised else ""
        told = ", ".join(f"{row.label} {a.score.value:.2f} to {b.score.value:.2f}" for row, a, b in ends)
        yield (
            f"Accuracy from {first.name} queries (the largest class {really}has {100 * first.share:.0f} %) "
            f"to those where it {really}has {100 * last.share:.0f} %: {told}. Intervals are in the table."
        )


def _rivals(rows: Sequence[Row]) -> Iterator[str]:
    rivals = [(row, row.value("fair", "regions", "balanced_accuracy")) for row in rows if not row.norm]
    best = max(((r, v) for r, v in rivals if v is not None), key=lambda pair: pair[1].value, default=None)
    if best is None:
        return
    gains = [
        (row.label, row_difference(row, best[0], "fair", "regions", "balanced_accuracy"))
        for row in rows
        if row.norm
    ]
    told = [(label, gain) for label, gain in gains if gain is not None and gain.seeds > 1]
    once = [label for label, gain in gains if gain is not None and gain.seeds == 1]
    ahead = [label for label, gain in told if gain.ci95[0] > 0]
    behind = [label for label, gain in told if gain.ci95[1] < 0]
    score = f"balanced accuracy {shown(best[1])}"
    words = [f"The best rival without meta-learning on whole regions is {best[0].label}, {score}."]
    if told:
        words.append(
            f"Clearly ahead of it: {', '.join(ahead) or 'no row that bears conclusions'}. Clearly behind it: "
            f"{', '.join(behind) or 'none'}."
        )
    if once:
        words.append(f"No verdict from one training: {', '.join(once)}.")
    yield " ".join(words)
