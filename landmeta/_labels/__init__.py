"""The parts of `landmeta.labels`: drawn features, label rasters, tiles, and the pixels they cover."""
