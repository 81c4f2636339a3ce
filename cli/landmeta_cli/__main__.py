"""`python -m landmeta_cli` is the `landmeta` command."""

from landmeta_cli.app import main

main()
