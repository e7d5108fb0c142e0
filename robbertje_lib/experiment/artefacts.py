"""Result files and token stores: written whole or not at all, read with their schema checked, hashed by content."""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robbertje_lib.experiment.errors import UserError

SCHEMA_VERSION = 1
# Told by their words: Arrow, safetensors and tokenizers raise errors of their own around those of the system.
NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS))
ANEW = "delete it and run `make reproduce` again"
MAKE_ROOM = "free some space, or set ROBBERTJE_OUTPUT to another folder, and run the same command again"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` (file or folder) and rename it to `path` if the block succeeds.

    A reader therefore never sees half a file, whenever the writer is killed. Anything that stood at
    `path` is replaced. Raises `UserError` when the disk is full or cannot be written; nothing is left then.
    """
    temporary, replaced = (path.parent / f".{path.name}.{os.getpid()}.{use}.tmp" for use in ("new", "old"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
        yield temporary
        # rename() replaces a file in one step, but not a folder that holds something. That is moved away whole:
        # a folder killed while it is being deleted would still look like a model.
        if path.is_dir() and not path.is_symlink():
            remove(replaced)
            path.rename(replaced)
        temporary.rename(path)
    except Exception as error:
        if not isinstance(error, UserError) and (reason := no_room(error)):
            raise UserError(f"cannot write {path} ({reason}); {MAKE_ROOM}") from None
        raise
    finally:
        remove(temporary)
        remove(replaced)


def no_room(error: Exception) -> str | None:
    """What the system says if `error` comes from a full or read-only disk, else None."""
    return next((told.lower() for told in NO_ROOM if told in str(error)), None)


def remove(path: Path) -> None:
    """Delete a file or a folder; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def settle_dates(files: Iterable[Path]) -> list[Path]:
    """Give today's date to the files that are dated in the future, and return them.

    A clock that was set back, or an archive from a machine that is ahead, makes such files; Snakemake takes whatever
    is made from them for older than they are, and fails.
    """
    now = time.time()
    ahead = [file for file in files if file.is_file() and file.stat().st_mtime > now + 1]
    for file in ahead:
        os.utime(file)
    return ahead


def write_json(path: Path, content: Mapping[str, Any], version: int = SCHEMA_VERSION) -> None:
    """Write `content` and its schema version as JSON. NaN and infinity are refused (ValueError)."""
    text = json.dumps({"schema_version": version, **content}, indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, version: int = SCHEMA_VERSION) -> dict[str, Any]:
    """What `write_json` wrote. Raises `UserError` if it is missing, not JSON, or of another schema version."""
    content = _read(path, lambda: dict(json.loads(path.read_text(encoding="utf-8"))))
    if content.get("schema_version") != version:
        raise UserError(f"{path}: schema version {content.get('schema_version')} where {version} is needed; {ANEW}")
    return content


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write per-example rows as parquet."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_parquet(path: Path) -> pa.Table:
    """Read per-example rows. Raises `UserError` if the file is missing or not parquet."""
    return _read(path, lambda: pq.read_table(path))


def open_store(path: Path) -> pa.Table:
    """Map a token store into memory. Raises `UserError` if it is missing or damaged."""
    if not path.exists():
        raise UserError(f"{path} is missing; `make reproduce` makes it")
    return _read(path, lambda: _map_store(path))


def _map_store(folder: Path) -> pa.Table:
    """The rows of a folder as `datasets` writes it; its own reader would have every stage import it, for a second."""
    parts = (folder / f"{name}.json" for name in ("state", "dataset_info"))
    state, info = (json.loads(part.read_text(encoding="utf-8")) for part in parts)
    files = [str(folder / file["filename"]) for file in state["_data_files"]]
    tables = [pa.ipc.open_stream(pa.memory_map(file)).read_all() for file in files]
    return pa.concat_tables(tables).select(list(info["features"]))


def _read(path: Path, reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give yourself the right to read it") from None
    except FileNotFoundError as error:
        if path.is_dir():  # a folder that lacks a part
            raise UserError(f"{path} is damaged ({error}); {ANEW}") from None
        raise UserError(f"{path} is missing; `make reproduce` makes it") from None
    except (ValueError, TypeError, AttributeError, KeyError, OSError, RecursionError, pa.ArrowException) as error:
        reason = f"{type(error).__name__}: {error!s:.150}"
        raise UserError(f"{path} is damaged ({reason}); {ANEW}") from None


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents in sorted order."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
