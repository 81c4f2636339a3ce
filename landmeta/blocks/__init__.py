"""A map in blocks: which there are, where they are kept, and how those that overlap become one."""
