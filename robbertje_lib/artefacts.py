"""Result files: written whole or not at all, read with their schema checked, hashed by content."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robbertje_lib.errors import UserError

SCHEMA_VERSION = 1


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` (file or folder) and rename it to `path` if the block succeeds.

    A reader therefore never sees half a file, whenever the writer is killed. Anything that stood at
    `path` is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    remove(temporary)
    try:
        yield temporary
        # rename() replaces a file in one step, but not a folder that holds something.
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Delete a file or a folder; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` and the schema version as JSON. NaN and infinity are refused (ValueError)."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **content}, indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a result file. Raises `UserError` if it is missing, not JSON, or of another schema version."""
    content = _read(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    if content.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema version {content.get('schema_version')} where {SCHEMA_VERSION} is needed; "
            "delete it and run `make reproduce` again"
        )
    return content


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write per-example rows as parquet."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_parquet(path: Path) -> pa.Table:
    """Read per-example rows. Raises `UserError` if the file is missing or not parquet."""
    return _read(path, lambda: pq.read_table(path))


def _read(path: Path, reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; `make reproduce` makes it") from None
    except (ValueError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run `make reproduce` again") from None


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents in sorted order."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
