"""What `landmeta catalog` prints: datasets, one dataset, regions, and the class table of a tile store."""

from __future__ import annotations

import io
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from landmeta.legend import Legend
    from landmeta_catalog.places import NamedPlace
    from landmeta_catalog.records import Record

_WIDEST, _NARROWEST = 120, 60
_TIE = "\N{NO-BREAK SPACE}"
_FEW = 4
"""Region-seasons up to which a class table has a row for each class instead of a column."""
_HOW = {"download": "fetch", "simulate": "fetch (simulated)", "manual": "by hand", "own": "your own"}


def page_width() -> int:
    """Columns of the terminal within what reads well; COLUMNS chooses."""
    return min(max(shutil.get_terminal_size((100, 24)).columns, _NARROWEST), _WIDEST)


def list_page(records: Sequence[Record], places: Sequence[NamedPlace], countries: int) -> str:
    """The datasets with size, licence and how to have them, then the regions that have names."""
    rows = [(r.name, r.title, size_text(r.size), r.license, _HOW[r.how]) for r in records]
    datasets = _table(("dataset", "title", "size", "licence", "how to have it"), rows, numbers=(2,))
    named = [p for p in places if p.dataset == "dfc2020"]
    scenes = [p for p in places if p.dataset == "sen12ms"]
    regions = [
        ("demo", "simulated, made on first use"),
        *((p.name, p.describe()) for p in named),
        (scenes[0].name, f"and {len(scenes) - 1} more scenes of SEN12MS"),
        ("Kenya, KE or KEN", f"and {countries - 1} more countries"),
    ]
    more = (
        "landmeta catalog show NAME tells more of one, landmeta catalog fetch NAME brings a dataset; "
        "landmeta catalog list --regions names all regions."
    )
    return "\n\n".join([datasets, _table(("region", "where"), regions), _paragraph(more)])


def regions_page(rows: Sequence[Mapping[str, Any]]) -> str:
    """All named regions, one a line whatever the width of the page."""
    cells = [("region", "kind", "where"), *((row["name"], row["kind"], row["place"]) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(2)]
    return "\n".join(
        f"{name:{widths[0]}}  {kind:{widths[1]}}  {place}".rstrip() for name, kind, place in cells
    )


def record_page(record: Record) -> str:
    """One dataset: what it is, licence, size, bands, classes, splits, citation, how to have it."""
    stac = record.stac
    tiles, size = stac["landmeta:tiles"], stac["landmeta:size"]
    facts = [
        ("licence", record.license),
        ("size", f"{size_text(record.size)}, {size['of']}" if record.size else ""),
        ("tiles", _tiles(tiles)),
        ("dates", _dates(stac)),
        ("checksums", stac["landmeta:checksums"]),
        ("citation", stac.get("sci:citation", "")),
        ("DOI", f"https://doi.org/{stac['sci:doi']}" if "sci:doi" in stac else ""),
        ("page", record.page),
        ("not checked", stac.get("landmeta:unverified", "")),
    ]
    parts = [f"{record.title} ({record.name})", _paragraph(stac["description"]), _facts(facts)]
    parts += filter(None, [_bands(stac["item_assets"]), _classes(stac["item_assets"]), _splits(stac)])
    return "\n\n".join([*parts, _steps(record)])


def _steps(record: Record) -> str:
    steps = [*record.steps, f"landmeta ingest {record.archive} FOLDER --out STORE"]
    if record.how == "download":
        steps[0] = f"landmeta catalog fetch {record.name} --out FOLDER, or by hand: {steps[0]}"
    return "How to have it\n" + "\n".join(_item(f"{i}.", text) for i, text in enumerate(steps, 1))


def _dates(stac: Mapping[str, Any]) -> str:
    begin, end = stac["extent"]["temporal"]["interval"][0]
    if "landmeta:dates" in stac or begin is None:
        return str(stac.get("landmeta:dates", ""))
    return f"{begin[:10]} to {end[:10]}"


def region_page(region: Mapping[str, Any]) -> str:
    """One named region: where it is and what to do with it."""
    parts = region.get("parts") or {}
    facts = [
        ("where", region.get("place", "")),
        ("codes", ", ".join(region.get("codes", ()))),
        ("also", "; ".join(region.get("other_names", ()))),
        ("dataset", _dataset(region)),
        ("splits", ", ".join(f"{part} of {split}" for split, part in parts.items())),
        ("degrees", _degrees(region)),
        ("extent", _extent(region["kind"])),
        ("use", _use(region)),
    ]
    return f"{region['name']}\n\n{_facts(facts)}"


def _dataset(region: Mapping[str, Any]) -> str:
    return (
        f"{region['dataset']}, region {region['region']}, {region['season']}" if "dataset" in region else ""
    )


def _degrees(region: Mapping[str, Any]) -> str:
    if "bounds" not in region:
        return ""
    return "west {:.2f}, south {:.2f}, east {:.2f}, north {:.2f}".format(*region["bounds"])


def _extent(kind: str) -> str:
    if kind == "catalogue":
        return "the box of 100 km around its place: footprints are published in the patches only"
    return "Natural Earth 1:10m, simplified: within some hundred metres" if kind == "country" else ""


def _use(region: Mapping[str, Any]) -> str:
    name = f'"{region["name"]}"' if " " in region["name"] else region["name"]
    given = "" if region["kind"] == "demo" else " --imagery PATH --labels PATH"
    return f"landmeta adapt --region {name}{given}"


def class_page(title: str, counts: pd.DataFrame, legend: Legend) -> str:
    """Tiles of each class in each region-season of a dataset (`TileStore.regions`), to see the imbalance.

    Classes without a tile are left out. Few region-seasons stand in columns. Many stand in rows: with the
    names of the classes where there is room, else with their codes, else with shares for counts.
    """
    present = counts.loc[:, counts.sum() > 0]
    total, regions = int(present.to_numpy().sum()), len(present)
    head = f"{title}: {total:,} tiles, {present.shape[1]} of {len(legend)} classes"
    if regions != 1:
        head += f", {regions} region-seasons"
    return f"{head}\n\n{_by_class(present) if regions <= _FEW else _by_region(present, legend)}"


def _by_class(counts: pd.DataFrame) -> str:
    header, columns = ["class"], [[*counts.columns, "all"]]
    for key, row in zip(counts.index, counts.to_numpy().tolist(), strict=True):
        header += [" ".join(filter(None, key)) or "tiles", "share"]
        columns.append([f"{n:,}" for n in (*row, sum(row))])
        columns.append([*(_share(n, sum(row)) for n in row), ""])
    return _table(header, list(zip(*columns, strict=True)), numbers=range(1, len(header)))


def _by_region(counts: pd.DataFrame, legend: Legend) -> str:
    names = list(counts.columns)
    codes = dict(zip(legend.names, map(str, legend.codes), strict=True))
    keyed = [(tuple(key), row) for key, row in zip(counts.index, counts.to_numpy().tolist(), strict=True)]
    keyed.append((("all", ""), counts.sum().tolist()))
    head = ("region", "season", "tiles")
    with_counts = [(*key, f"{sum(row):,}", _share(max(row), sum(row)), *_counts(row)) for key, row in keyed]
    with_shares = [(*key, f"{sum(row):,}", *_shares(row)) for key, row in keyed]
    key = "Classes: " + ", ".join(_together(codes[name], name) for name in names)
    most = "max: share of the most frequent class"
    variants = (
        ((*head, "max", *names), with_counts, most),
        ((*head, "max", *(codes[name] for name in names)), with_counts, f"{most}. {key}"),
        ((*head, *(codes[name] for name in names)), with_shares, f"In % of the tiles. {key}"),
    )
    header, rows, note = next((v for v in variants if _fits(*v[:2])), variants[-1])
    return f"{_table(header, rows, numbers=range(2, len(header)))}\n\n{_paragraph(note)}"


def _fits(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether columns have room on the page, two spaces apart."""
    widths = (max(map(len, column)) for column in zip(header, *rows, strict=True))
    return sum(widths) + 2 * (len(header) - 1) <= page_width()


def _counts(row: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{n:,}" if n else "." for n in row)


def _shares(row: Sequence[int]) -> tuple[str, ...]:
    whole = sum(row)
    return tuple(("<1" if 200 * n < whole else f"{100 * n / whole:.0f}") if n else "." for n in row)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def size_text(size: int | None) -> str:
    """Bytes as a person reads them, "-" for None."""
    if size is None:
        return "-"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            number = size / factor
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{size} B"


def _tiles(tiles: Mapping[str, Any]) -> str:
    if not tiles["count"]:
        return ""
    note = f" ({tiles['note']})" if "note" in tiles else ""
    return f"{tiles['count']:,} {tiles['unit']} of {tiles['side']} px, {tiles['classes']} classes{note}"


def _bands(assets: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [row for key, asset in assets.items() for row in _band_rows(key, asset)]
    header = ("array", "band", "centre nm", "pixel m", "stored as", "scale", "unit")
    return "Bands\n" + _table(header, rows, numbers=(2, 3)) if rows else ""


def _band_rows(key: str, asset: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    scale = asset.get("raster:scale")
    unit = asset.get("unit", "reflectance" if scale else "")
    # What holds for the whole array is said once, beside its first band.
    whole = (key, asset.get("data_type", ""), f"{scale:g}" if scale else "", unit)
    for band in asset.get("bands", ()):
        micrometres = band.get("eo:center_wavelength")
        nanometres = f"{1000 * micrometres:.1f}" if micrometres else "-"
        yield whole[0], band["name"], nanometres, f"{band.get('gsd', '-')}", *whole[1:]
        whole = ("", "", "", "")


def _classes(assets: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        _item(
            f"{key}:", ", ".join(_together(c["value"], c["title"]) for c in asset["classification:classes"])
        )
        for key, asset in assets.items()
        if "classification:classes" in asset
    ]
    return "Classes\n" + "\n".join(lines) if lines else ""


def _splits(stac: Mapping[str, Any]) -> str:
    lines = []
    for split in stac["landmeta:splits"]:
        parts = ", ".join(f"{part} {_number(count)}" for part, count in split["parts"].items())
        text = f"{parts} ({split['unit']}, by {split['by']}); {split['source']}"
        lines.append(_item(f"{split['name']}:", text))
    return "Splits\n" + "\n".join(lines) if lines else ""


def _number(count: int | str) -> str:
    return f"{count:,}" if isinstance(count, int) else count


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(_item(f"{name:9}", text, indent=11) for name, text in rows if text)


def _item(label: str, text: str, *, indent: int = 4) -> str:
    """A label and a text that goes on below itself."""
    return _fill(f"{label:{indent - 1}} {text}", " " * indent)


def _paragraph(text: str) -> str:
    return _fill(text, "")


def _fill(text: str, indent: str) -> str:
    lines = textwrap.fill(
        text, page_width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines.replace(_TIE, " ")


def _together(code: int | str, name: str) -> str:
    """A code and the first word of its name, which no line break may part."""
    return f"{code}{_TIE}{name}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()) -> str:
    """Columns under a header within the page; what does not fit goes on below. `numbers` align right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    right = set(numbers)
    for i, title in enumerate(header):
        table.add_column(title, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    text = io.StringIO()
    Console(file=text, width=page_width(), color_system=None, markup=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip("\n").splitlines())
