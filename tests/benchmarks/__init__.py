"""The measurements, each `python -m tests.benchmarks.bench_...`.

The library comes first: what it sets for threads is read once, as PyTorch is imported.
"""

import robbertje_lib  # noqa: F401
