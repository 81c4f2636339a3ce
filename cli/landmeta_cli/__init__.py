"""The `landmeta` command: parses, calls one library function, renders its result.

What a service calls is `landmeta_cli.workflows.adapt_run`; it prints nothing and raises `LandmetaError`.
"""
