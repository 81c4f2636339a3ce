"""From class map to products: rasters with sidecars, web map, report, STAC item."""
