"""``python -m mirrorwitness``: the same as the console command."""

from __future__ import annotations

from mirrorwitness.cli import main

main(prog_name="mirrorwitness")
