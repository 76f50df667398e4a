"""python -m bench: run benchmarks by name."""

import sys

from bench.mirror import main

main(sys.argv[2:])
