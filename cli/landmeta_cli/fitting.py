"""Whether imagery fits a model adapted to other imagery: bands, size of pixels, scale, brightness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from landmeta.errors import ImageryError
from landmeta_cli.inputs import pixel_metres

if TYPE_CHECKING:
    from torch import Tensor

    from landmeta.bands import BandSet
    from landmeta.raster import Imagery

_PIXEL_RATIO = 1.5
"""Pixels that differ more in size than this show objects at another scale than the model knows."""

_APART = 0.05
"""Reflectance by which the means of all bands differ, all upwards or all downwards, where something is wrong:
seasons move bands against each other. The offset of Sentinel-2 products since 2022 is 0.1."""


def check_scale(
    imagery: Imagery, known: BandSet, notes: Mapping[str, Any], offset: float | None = None
) -> None:
    """Refuse to infer a scale where the model's was known and is another: ten times too dark maps something.

    Raises:
        ImageryError: So it is.
    """
    now, then = (imagery.bands.scale, imagery.bands.offset), (known.scale, known.offset)
    if offset is not None:  # it was given for this imagery, as it may have to be
        then = known.scale, offset
    was_known = notes.get("scale_from", "inferred") != "inferred"
    if imagery.scale_from == "inferred" and was_known and now != then:
        msg = (
            f"the imagery does not say its scale: {now[0]:g} and offset {now[1]:g} would be inferred, "
            f"but the model was adapted to imagery of scale {then[0]:g} and offset {then[1]:g}"
        )
        raise ImageryError(msg, "give --scale and --offset of this imagery")


def fitting(imagery: Imagery, bands: tuple[str, ...], pixel_m: float | None) -> Imagery:
    """The imagery with the model's bands in the model's order.

    Raises:
        ImageryError: A band is lacking, or pixels are of quite another size.
    """
    if lacking := [name for name in bands if name not in imagery.bands.names]:
        msg = (
            f"the imagery has the bands {', '.join(imagery.bands.names)}; "
            f"the model needs {', '.join(lacking)} as well"
        )
        raise ImageryError(msg, f"give imagery with {', '.join(bands)}, or adapt a model to these bands")
    found = pixel_metres(imagery.grid)
    if pixel_m and not 1 / _PIXEL_RATIO < found / pixel_m < _PIXEL_RATIO:
        msg = f"the imagery has pixels of {found:.3g} m; the model was adapted to pixels of {pixel_m:.3g} m"
        raise ImageryError(msg, "resample the imagery, or adapt a model to this resolution")
    return imagery.pick(bands)


def apart(imagery: Imagery, known: Tensor) -> tuple[str, ...]:
    """A warning where every band is brighter, or every one darker, than the model's region was.

    `known` is that region's mean reflectance, (band,).
    """
    from landmeta.sampling import region_sample

    mean = region_sample(imagery, np.random.default_rng(0))[0]
    difference = (mean - known.cpu())[list(imagery.bands.optical)].numpy()
    if not len(difference) or not mean.any():  # radar alone, or no data
        return ()
    if (difference > _APART).all():
        word = "brighter"
        reasons = "clouds, snow, or another offset (--offset -0.1 for Sentinel-2 products since 2022)"
    elif (difference < -_APART).all():
        word, reasons = "darker", "shadow, or another --scale or --offset"
    else:
        return ()
    least, most = (f"{by:.2f}" for by in (np.abs(difference).min(), np.abs(difference).max()))
    by = least if least == most else f"{least} to {most}"
    found = f"every band is {word} than in the region of the model, by {by}"
    return (f"{found} in reflectance: {reasons}",)
