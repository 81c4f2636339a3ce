"""The tile index as Parquet: one part a shard while a dataset is made, then one sorted GeoParquet file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from landmeta.errors import DataError
from landmeta_catalog._atomic import replacing
from landmeta_catalog.tiles import INDEX_COLUMNS, INDEX_DEFAULTS, OK

ROW_GROUP = 8192
"""Rows that are read together: a region of SEN12MS has about 3,000."""

_REPEATED = pa.dictionary(pa.int32(), pa.string())
_TYPES: dict[str, pa.DataType] = {
    "dataset": _REPEATED,
    "region": _REPEATED,
    "season": _REPEATED,
    "quadrant": _REPEATED,
    "class_code": pa.int16(),
    "class_name": _REPEATED,
    "class_fractions": pa.list_(pa.float32()),
    "valid_fraction": pa.float32(),
    "crs": _REPEATED,
    "x": pa.float64(),
    "y": pa.float64(),
    "pixel": pa.float64(),
    "side": pa.int16(),
    "geometry": pa.binary(),
    "slot": pa.int64(),
    "status": _REPEATED,
}
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in INDEX_COLUMNS])

_POSITION = {name: i for i, name in enumerate(INDEX_COLUMNS)}
"""Columns of the file: every column of the index is one, a list too."""

_SHAPES = {b"\x03": "Polygon", b"\x06": "MultiPolygon"}
"""Kinds of footprints by the second byte of their WKB; those across the 180th meridian have two polygons."""

_CELL = ["dataset", "region", "season"]
_UNREADABLE = "run the same landmeta ingest command again"


def write_part(path: Path, rows: pd.DataFrame) -> None:
    """Write rows of the index; columns that are absent hold what stands for "not known".

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    table = to_table(rows)
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


def to_table(rows: pd.DataFrame) -> pa.Table:
    """Rows in the columns and types of the index; `geometry` may hold shapely shapes, WKB or None."""
    columns = []
    for field in SCHEMA:
        if field.name not in rows:
            values: object = [_default(field.name)] * len(rows)
        elif field.name == "geometry":
            values = _wkb(rows["geometry"])
        else:
            values = rows[field.name]
        columns.append(pa.array(values, pa.string() if field.type == _REPEATED else field.type))
    plain = pa.schema([(f.name, pa.string() if f.type == _REPEATED else f.type) for f in SCHEMA])
    return pa.table(columns, schema=plain).cast(SCHEMA)


def _default(name: str) -> object:
    value = INDEX_DEFAULTS[name]
    return list(value) if isinstance(value, tuple) else value


def _wkb(shapes: pd.Series) -> list[bytes | None]:
    values = np.empty(len(shapes), dtype=object)
    values[:] = list(shapes)
    drawn = shapely.is_geometry(values)
    values[drawn] = shapely.to_wkb(values[drawn], byte_order=1)  # little-endian, as `_SHAPES` is
    return [value if isinstance(value, bytes) else None for value in values]


@dataclass(frozen=True, slots=True)
class _Cell:
    """The rows of one dataset, region and season, and the parts that hold some of them."""

    key: tuple[str, str, str]
    parts: tuple[Path, ...]


def merge_parts(index: Path, parts: Sequence[Path]) -> None:
    """Write all rows of `parts` to the file `index`, sorted by dataset, region, season and slot.

    One region-season is in memory at a time, so that a file of any number of rows can be written.

    Raises:
        DataError: a part is damaged.
        OutputError: the folder cannot be written or the disk is full.
    """
    cells, shapes = _cells(parts)
    schema = SCHEMA.with_metadata({"geo": json.dumps(_geo(shapes))})
    with replacing(index) as target, pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for table in _regrouped(_read_cell(cell) for cell in cells):
            pieces = -(-table.num_rows // (2 * ROW_GROUP))
            writer.write_table(table.cast(schema), row_group_size=-(-table.num_rows // pieces))


def _geo(shapes: Iterable[str]) -> dict[str, object]:
    """GeoParquet: without a CRS entry the geometry is in longitude and latitude of WGS 84 (OGC:CRS84)."""
    column = {"encoding": "WKB", "geometry_types": sorted(shapes)}
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _cells(parts: Sequence[Path]) -> tuple[list[_Cell], set[str]]:
    """The cells that some parts hold, in order, and the kinds of shapes in them."""
    holders: dict[tuple[str, str, str], list[Path]] = {}
    shapes: set[bytes] = set()
    for path in parts:
        rows = _read(path, [*_CELL, "geometry"])
        shapes.update(pc.unique(pc.binary_slice(rows["geometry"], 1, 2)).drop_null().to_pylist())
        for key in rows.group_by(_CELL).aggregate([]).to_pylist():
            holders.setdefault((key["dataset"], key["region"], key["season"]), []).append(path)
    cells = [_Cell(key, tuple(paths)) for key, paths in sorted(holders.items())]
    return cells, {_SHAPES[kind] for kind in shapes}


def _read_cell(cell: _Cell) -> pa.Table:
    wanted = pa.compute.scalar(True)
    for name, value in zip(_CELL, cell.key, strict=True):
        wanted = wanted & (pc.field(name) == value)
    rows = pa.concat_tables([_read(path).filter(wanted) for path in cell.parts]).unify_dictionaries()
    # A quarantined tile has no slot: it comes last, by name.
    quarantined = pc.less(rows["slot"], 0)
    return (
        rows.append_column("last", quarantined)
        .sort_by([("last", "ascending"), ("slot", "ascending"), ("id", "ascending")])
        .drop_columns("last")
    )


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Neighbouring small tables joined until they fill a row group."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(t.num_rows for t in waiting) >= ROW_GROUP:
            yield pa.concat_tables(waiting).unify_dictionaries()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).unify_dictionaries()


def _read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=list(columns) if columns else None, schema=SCHEMA)
    except (OSError, pa.ArrowException) as error:
        msg = f"the index part {path} is damaged"
        raise DataError(msg, f"delete it, then {_UNREADABLE}") from error


def read_rows(
    index: Path, where: Mapping[str, str | None], columns: Sequence[str] | None, *, quarantined: bool
) -> pd.DataFrame:
    """Rows of the index whose columns equal the values that are not None; only their row groups are read.

    Raises:
        DataError: the index is absent or damaged, or `columns` names one that it lacks.
    """
    unknown = [name for name in columns or () if name not in INDEX_COLUMNS]
    if unknown:
        msg = f"the tile index has no column {', '.join(unknown)}"
        raise DataError(msg, f"its columns are {', '.join(INDEX_COLUMNS)}")
    equal = {name: value for name, value in where.items() if value is not None}
    if not quarantined:
        equal["status"] = OK
    chosen = list(columns) if columns is not None else [c for c in INDEX_COLUMNS if c != "geometry"]
    try:
        with pq.ParquetFile(index) as file:
            groups = [g for g in range(file.num_row_groups) if _may_hold(file.metadata.row_group(g), equal)]
            table = file.read_row_groups(groups, columns=[*chosen, *(c for c in equal if c not in chosen)])
    except (OSError, pa.ArrowException) as error:
        msg = f"the tile index {index} cannot be read"
        raise DataError(msg, _UNREADABLE) from error
    for name, value in equal.items():
        table = table.filter(pc.equal(table[name], value))
    return _frame(table.select(chosen))


def _may_hold(group: pq.RowGroupMetaData, equal: Mapping[str, str]) -> bool:
    """Whether a row group can have rows with these values, by its least and greatest ones.

    pyarrow's own filters read every row group where a column is a dictionary.
    """
    for name, value in equal.items():
        known = group.column(_POSITION[name]).statistics
        if known is not None and known.has_min_max and not known.min <= value <= known.max:
            return False
    return True


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    if "geometry" not in frame:
        return frame
    import geopandas  # late: most readers of the index need no shapes

    shapes = shapely.from_wkb(np.asarray(frame["geometry"], dtype=object))
    shaped: pd.DataFrame = geopandas.GeoDataFrame(frame.assign(geometry=shapes), crs="OGC:CRS84")
    return shaped
