"""Run the command with ``python -m keytrail``."""

from keytrail.cli import main

main()
