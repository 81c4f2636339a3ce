"""`landmeta models`: checkpoints, what is in them, and their way from and to other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from landmeta.errors import CheckpointError
from landmeta_cli.console import emit, emit_json, table

app = typer.Typer(name="models", help="Checkpoints: list, show, import and export them.")

STARTER = "starter"
"""Name of the checkpoint that ships with the package."""


class Program(StrEnum):
    """Whose weights are imported."""

    meteor = "meteor"


_Model = Annotated[
    str, typer.Argument(help="A checkpoint, a run folder, or 'starter'.", metavar="MODEL", show_default=False)
]
_Json = Annotated[bool, typer.Option("--json", help="Print the headers as JSON.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """Checkpoints: list, show, import and export them."""
    if context.invoked_subcommand is None:
        emit(context.get_help())


@app.command("list", epilog="Example: landmeta models list runs")
def list_all(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Where to look, deeply. Default: runs and models.", show_default=False),
    ] = None,
    *,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """List the checkpoint of the package and those in some folders."""
    del debug  # read by `landmeta_cli.app.run`, which sees every failure
    rows = [_row(name, path) for name, path in _found(folders or [Path("runs"), Path("models")])]
    if as_json:
        emit_json(rows)
        return
    emit(table(("model", "kind", "network", "bands", "MB"), [_cells(row) for row in rows], indent=0))


@app.command(epilog="Example: landmeta models show starter")
def show(model: _Model, *, as_json: _Json = False, debug: _Debug = False) -> None:
    """Show what a checkpoint is, was trained on and how; a network's checksum is verified."""
    del debug
    from landmeta.checkpoints import NETWORK_FORMAT, read_network_file
    from landmeta.checksums import sha256

    path = _path(model)
    header, parameters = _read_header(path)
    if header["format"] == NETWORK_FORMAT:
        read_network_file(path)
    told = {"file": str(path), "file_sha256": sha256(path), "parameters": parameters, **header}
    emit_json(told) if as_json else emit(_page(told))


@app.command("import", epilog="Example: landmeta models import meteor resnet12.pth --bands B2,B3,B4,B8")
def import_one(
    program: Annotated[Program, typer.Argument(help="Whose weights they are.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="A file of torch.save.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")] = Path("models/meteor.safetensors"),
    bands: Annotated[
        str | None, typer.Option(help="Bands to keep, in order, as in B2,B3,B4. Default: all of the file.")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="Norm it was trained with. Default: as the file shows, else in.")
    ] = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Make a checkpoint from another program's weights; nothing in the file is executed."""
    del debug, program
    from landmeta.bands import parse_bands
    from landmeta.checkpoints import save_network
    from landmeta.checksums import sha256
    from landmeta.meteor_import import import_meteor

    if not file.is_file():
        msg = f"{file} is no file"
        raise CheckpointError(msg, "give METEOR's state dict, as downloaded")
    network, settings = import_meteor(file, None if bands is None else parse_bands(bands), norm=norm)
    notes = {
        "scaling": "meteor",
        "unit": "reflectance 0..1, dB / 100",
        "adaptation": {"steps": 60, "rate": 0.4, "minibatch": 8},
        "training": {"program": "METEOR", "trained_on": ["SEN12MS"]},
        "source": {"file": file.name, "sha256": sha256(file)},
        "licence": "MIT (METEOR); SEN12MS is CC BY 4.0",
    }
    save_network(network, out, settings, notes)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    told = {"file": str(out), "parameters": parameters, "network": settings}
    if as_json:
        emit_json(told)
    else:
        emit(f"{out}: {parameters:,} parameters, {len(settings['bands'])} bands, norm {settings['norm']}")


@app.command(epilog="Example: landmeta models export runs/train/best.safetensors --out best.onnx")
def export(
    model: _Model,
    *,
    out: Annotated[Path, typer.Option(help="File to write: .onnx, or .safetensors for a plain state dict.")],
    dense: Annotated[
        bool, typer.Option("--dense", help="ONNX: logits of every cell instead of whole tiles.")
    ] = False,
    debug: _Debug = False,
) -> None:
    """Write a network checkpoint for other programs."""
    del debug
    from landmeta.checkpoints import load_network
    from landmeta.export import export_onnx, export_state_dict

    if out.suffix not in (".onnx", ".safetensors"):
        msg = f"{out} names no known format"
        raise CheckpointError(msg, "--out ends with .onnx or .safetensors")
    path = _path(model)
    if path.resolve() == out.resolve():
        msg = f"{out} is the checkpoint itself"
        raise CheckpointError(msg, "--out names another file")
    network, header = load_network(path)
    if out.suffix == ".onnx":
        export_onnx(network, out, header, dense=dense)
    else:
        export_state_dict(network, out, {"bands": ",".join(header["network"]["bands"])})
    emit(f"{out}: {out.stat().st_size / 1e6:,.1f} MB")


def _path(model: str) -> Path:
    """The checkpoint's file."""
    from landmeta.checkpoints import starter_path

    if model == STARTER:
        return starter_path()
    path = Path(model)
    for inside in ("model/model.safetensors", "model.safetensors", "best.safetensors"):
        if (path / inside).is_file():
            return path / inside
    if not path.is_file():
        msg = f"no checkpoint {model}"
        raise CheckpointError(msg, "landmeta models list shows those there are")
    return path


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Header and number of parameters of a checkpoint, without reading its tensors."""
    from landmeta.checkpoints import read_header

    return read_header(path)


def _found(folders: list[Path]) -> Iterator[tuple[str, Path]]:
    from landmeta.checkpoints import starter_path

    yield STARTER, starter_path()
    for folder in folders:
        for path in sorted(folder.rglob("*.safetensors")):
            yield str(path), path


def _row(name: str, path: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"model": name, "bytes": path.stat().st_size}
    try:
        header, parameters = _read_header(path)
    except CheckpointError:
        return {**row, "kind": "not ours", "network": {}, "parameters": None, "bands": []}
    bands = header.get("bands", header.get("network", {}).get("bands", []))
    return {
        **row,
        "kind": str(header["format"]).removeprefix("landmeta-").rsplit("-", 1)[0],
        "network": header.get("network", {}),
        "parameters": parameters,
        "bands": bands["names"] if isinstance(bands, Mapping) else bands,
    }


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    network = row["network"]
    widths = "-".join(map(str, network.get("widths", ())))
    what = " ".join(filter(None, (network.get("name", ""), widths, network.get("norm", ""))))
    return row["model"], row["kind"], what, str(len(row["bands"]) or ""), f"{row['bytes'] / 1e6:,.1f}"


def _page(told: Mapping[str, Any]) -> str:
    """One entry a line, those within entries after a dot."""
    lines = [(key, _text(value)) for key, value in _entries(told)]
    width = max(len(key) for key, _ in lines)
    return "\n".join(f"{key.ljust(width)}  {value}".rstrip() for key, value in lines)


def _entries(told: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in told.items():
        if isinstance(value, Mapping) and value:
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
