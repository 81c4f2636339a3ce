"""Benchmarks: protocols that give landmeta and its rivals the same labels and score them alike."""
