"""`landmeta catalog`: the datasets and regions known, and how to have them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from landmeta.errors import DataError, Interrupted
from landmeta_cli.console import emit, emit_json, progress_bars

app = typer.Typer(name="catalog", help="Datasets and regions known, and how to have them.")

_Json = Annotated[bool, typer.Option("--json", help="Print the records as JSON.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.callback(invoke_without_command=True)
def catalog(context: typer.Context) -> None:
    """Datasets and regions known, and how to have them."""
    if context.invoked_subcommand is None:
        emit(context.get_help())


@app.command("list", epilog="Example: landmeta catalog list")
def list_all(
    *,
    regions: Annotated[bool, typer.Option("--regions", help="All named regions, one a line.")] = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """List the datasets and the regions that have names."""
    del debug  # read by `landmeta_cli.app.run`, which sees every failure
    from landmeta_catalog.boundaries import countries
    from landmeta_catalog.places import named_places
    from landmeta_catalog.records import read_record, record_names
    from landmeta_cli.catalog_pages import list_page, regions_page

    if regions:
        rows = _named_regions()
        emit_json(rows) if as_json else emit(regions_page(rows))
        return
    records = [read_record(name) for name in record_names()]
    if as_json:
        emit_json([dict(record.stac) for record in records])
    else:
        emit(list_page(records, named_places(), len(countries())))


@app.command(epilog="Example: landmeta catalog show sen12ms")
def show(
    name: Annotated[
        str, typer.Argument(help="A dataset, a region, a tile store or STORE/DATASET.", show_default=False)
    ],
    *,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Show a dataset, a named region, or the classes in each region of a tile store."""
    del debug
    from landmeta_catalog.records import read_record, record_names
    from landmeta_cli.catalog_pages import record_page

    if name.strip().lower() in record_names():
        record = read_record(name)
        emit_json(dict(record.stac)) if as_json else emit(record_page(record))
    elif store := _store_of(name):
        _show_store(*store, as_json=as_json)
    else:
        _show_region(name, as_json=as_json)


@app.command(epilog="Example: landmeta catalog fetch simulated-dfc2020 --out data/dfc2020")
def fetch(
    name: Annotated[str, typer.Argument(help="A dataset of the catalogue.", show_default=False)],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder to put it in. Default: the cache folder and the name.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of a simulated archive.", min=0)] = 0,
    regions: Annotated[
        int | None, typer.Option(help="Regions of simulated-sen12ms. Default: 4.", min=1, max=400)
    ] = None,
    patches: Annotated[
        int | None, typer.Option(help="Patches in each simulated region. Default: 25 and 16.", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print where it is as JSON.")] = False,
    debug: _Debug = False,
) -> None:
    """Download a dataset and verify it, simulate it, or say how to have it by hand."""
    del debug
    from landmeta_catalog.fetching import Simulation
    from landmeta_catalog.fetching import fetch as fetch_dataset
    from landmeta_catalog.records import read_record
    from landmeta_catalog.regions import cache_folder

    record = read_record(name)
    if record.how != "simulate" and (regions or patches or seed):
        msg = f"{record.name} is not simulated: --seed, --regions and --patches do not apply to it"
        raise DataError(msg, "leave them out")
    target = out or cache_folder() / record.name
    try:
        with progress_bars() as progress:
            folder = fetch_dataset(
                record, target, simulation=Simulation(seed, patches, regions), progress=progress
            )
    except KeyboardInterrupt:
        if record.how != "download":
            raise
        msg = f"interrupted; what has arrived is kept in {target}"
        raise Interrupted(msg, "run the same command again: it goes on from there") from None
    following = f"landmeta ingest {record.archive} {folder} --out STORE"
    if as_json:
        emit_json({"dataset": record.name, "folder": folder, "next": following})
    else:
        emit(f"{record.title} is in {folder}\nNext: {following}")


def _named_regions() -> list[dict[str, Any]]:
    from landmeta_catalog.boundaries import countries
    from landmeta_catalog.places import named_places

    places = [
        {
            "name": p.name,
            "kind": "catalogue",
            "place": p.describe(),
            "longitude": p.longitude,
            "latitude": p.latitude,
        }
        for p in named_places()
    ]
    lands = [
        {"name": c.name, "kind": "country", "place": ", ".join(filter(None, (c.iso_a2, c.iso_a3)))}
        for c in countries()
    ]
    return [*places, *lands]


def _store_of(name: str) -> tuple[Path, str | None] | None:
    """The tile store that a path names, and the dataset in it; None where the path leads to no store."""
    from landmeta_catalog.regions import path_of

    path = path_of(name)
    if (path / "store.json").is_file():
        return path, None
    if (path.parent / "store.json").is_file():
        return path.parent, path.name
    return None


def _show_store(path: Path, dataset: str | None, *, as_json: bool) -> None:
    from landmeta_catalog.store import TileStore
    from landmeta_cli.catalog_pages import class_page

    with TileStore.open(path) as store:
        chosen = (dataset,) if dataset else store.datasets
        tables = {name: (store.regions(name), store.legend(name)) for name in chosen}
    if as_json:
        emit_json({"store": path, "datasets": [_as_json(name, t) for name, (t, _) in tables.items()]})
    else:
        pages = [class_page(f"{name} in {path}", table, legend) for name, (table, legend) in tables.items()]
        emit("\n\n".join(pages))


def _as_json(name: str, table: Any) -> Mapping[str, Any]:
    rows = [
        {"region": region, "season": season, "tiles": int(counts.sum()), "classes": counts.to_dict()}
        for (region, season), counts in table.iterrows()
    ]
    return {"dataset": name, "tiles": int(table.to_numpy().sum()), "regions": rows}


def _show_region(name: str, *, as_json: bool) -> None:
    from landmeta_cli.catalog_pages import region_page

    found = _region(name)
    if found is None:
        raise _unknown(name)
    emit_json(found) if as_json else emit(region_page(found))


def _region(name: str) -> dict[str, Any] | None:
    """Name, kind and place of a named region, and its bounds in degrees; None if unknown."""
    from landmeta_catalog.boundaries import boundary, find_country
    from landmeta_catalog.places import find_place

    if name == "demo":
        return {"name": name, "kind": "demo", "place": "nowhere: a simulated scene with labels"}
    if place := find_place(name):
        return {
            "name": place.name,
            "kind": "catalogue",
            "place": place.describe(),
            "dataset": place.dataset,
            "region": place.region,
            "season": place.season,
            "parts": _parts(place.dataset, place.season, place.region),
            "bounds": place.extent.bounds,
        }
    if country := find_country(name):
        return {
            "name": country.name,
            "kind": "country",
            "codes": [code for code in (country.iso_a2, country.iso_a3) if code],
            "other_names": country.other_names,
            "bounds": boundary(country).bounds,
        }
    return None


def _parts(dataset: str, season: str, region: str) -> dict[str, str]:
    """Which part of each published split a scene of SEN12MS is in."""
    if dataset != "sen12ms":
        return {}
    from landmeta.splits import region_part, scene_part

    return {"official": scene_part(season, region), "regions": region_part(season, region) or "none"}


def _unknown(name: str) -> DataError:
    from landmeta_catalog.boundaries import similar_countries
    from landmeta_catalog.places import similar_places
    from landmeta_catalog.records import record_names

    names = record_names()
    if "/" in name:
        near = list(similar_places(name))
    else:
        near = [*difflib.get_close_matches(name.lower(), names, cutoff=0.7), *similar_countries(name)]
    msg = f"{name!r} is neither a dataset nor a region of the catalogue, nor a tile store"
    hint = f"did you mean {' or '.join(near[:3])}?" if near else f"there are {', '.join(names)}"
    return DataError(msg, hint)
