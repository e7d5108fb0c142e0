"""Are two runs of one profile the same, byte for byte? `python -m tests.long.compare_runs BEFORE AFTER`.

BEFORE and AFTER are folders below `papermill_runs/`, made on the same machine: before and after a change that is to
change no number. Compared are weights, tokenizers, token stores, predictions, token probabilities and every result
file. Left out is what no two runs share: times, speeds, memory, and what follows from them (the records, the executed
notebooks, claims about speed). Ends with status 1 if anything else differs.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robbertje_lib.experiment.artefacts import sha256

BYTES = (".safetensors", ".parquet", ".arrow", ".onnx", ".txt")
# Keys whose values are measured with a clock or a memory meter.
MEASURED = ("second", "rss_bytes", "latency", "throughput", "per_second", "speed", "ratio_interval", "reason")


def main() -> int:
    """Compare two run folders; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    names = [set(_compared(folder)) for folder in (options.before, options.after)]
    differing = [f"only in one: {name}" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        differing += _differences(name, options.before / name, options.after / name)
    print(*differing, sep="\n")
    print(f"{len(names[0] & names[1])} files compared, {len(differing)} differences")
    return 1 if differing or not names[0] else 0


def _compared(run: Path) -> Iterator[str]:
    for folder in ("corpus", "models", "onnx", "results"):
        for file in (run / folder).rglob("*"):
            if file.suffix in (*BYTES, ".json") and file.name not in {"state.json", "dataset_info.json"}:
                yield file.relative_to(run).as_posix()


def _differences(name: str, before: Path, after: Path) -> list[str]:
    if before.suffix in BYTES:
        return [] if sha256(before) == sha256(after) else [f"other bytes: {name}"]
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in (before, after)]
    return [f"{name}: {place}" for place in _unlike(*contents)]


def _unlike(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Places of two JSON contents at which they differ, but for what is measured."""
    if isinstance(before, dict) and isinstance(after, dict):
        if "faster" in str(before.get("id")):  # a claim about speed
            return
        for key in sorted(before.keys() | after.keys()):
            if not any(word in key for word in MEASURED):
                yield from _unlike(before.get(key), after.get(key), f"{place}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from _unlike(*pair, f"{place}[{number}]")
    elif before != after:
        yield f"{place.lstrip('.')}: {before!r:.60} became {after!r:.60}"


if __name__ == "__main__":
    sys.exit(main())
