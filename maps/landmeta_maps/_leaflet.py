"""Leaflet's script and style as text, to stand inside a page that opens without a network."""

from __future__ import annotations

import base64
import re
from functools import cache
from importlib.resources import files

_PACKAGE = "js_lib_leaflet"
"""Import name of the distribution django-js-lib-leaflet: Leaflet's files under its BSD licence.

Only its files are read; the package needs no Django for that.
"""


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
