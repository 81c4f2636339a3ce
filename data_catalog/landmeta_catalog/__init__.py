"""What data exists and how to read it: simulated scenes, regions, records and readers."""
