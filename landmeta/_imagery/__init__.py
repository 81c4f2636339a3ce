"""The parts of `landmeta.raster`: one file, several as one, their bands, scale and place on Earth."""
