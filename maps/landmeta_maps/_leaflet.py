"""Leaflet's script and style as text, to stand inside a page that opens without a network."""

from __future__ import annotations

import base64
import re
from functools import cache
from importlib.metadata import distribution
from importlib.resources import files

_DISTRIBUTION = "django-js-lib-leaflet"
"""Leaflet's files with its licence; only files are read, which needs no Django."""

_PACKAGE = "js_lib_leaflet"
_NOTICE = "Leaflet, (c) Volodymyr Agafonkin and CloudMade, BSD 2-Clause License, https://leafletjs.com"


@cache
def leaflet_licence() -> str:
    """Leaflet's licence (BSD, two clauses): whoever passes the page on must pass this on too."""
    found = distribution(_DISTRIBUTION)
    return found.read_text("LICENSE") or found.read_text("licenses/LICENSE") or _NOTICE


@cache
def leaflet_script() -> str:
    """Leaflet's minified script, without the pointer to a source map that is not there."""
    return re.sub(r"//# sourceMappingURL=\S+\s*$", "", _read("leaflet.js").decode("utf-8"))


@cache
def leaflet_style() -> str:
    """Leaflet's style sheet with its icons written into it as data URIs."""
    return re.sub(r"url\(([^)#]+\.png)\)", _inline, _read("leaflet.css").decode("utf-8"))


def _inline(found: re.Match[str]) -> str:
    return f"url(data:image/png;base64,{base64.b64encode(_read(found[1])).decode('ascii')})"


def _read(name: str) -> bytes:
    return (files(_PACKAGE) / "static" / "js_lib_leaflet" / name).read_bytes()
