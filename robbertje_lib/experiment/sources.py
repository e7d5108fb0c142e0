"""Data files: where they come from, that they are the right ones, and where they lie on this machine.

`data/sources.tsv` lists every file by group, with its URL and SHA-256. A file is taken from `ROBBERTJE_MIRROR` (a
folder, read in place, or a base URL, which serve https://HOST/PATH as HOST/PATH), or else from its URL. What is
downloaded is kept in `ROBBERTJE_CACHE` (by default the user's cache folder) as a registry of pooch's. The cache
has the layout of a mirror, so one can be copied to a machine without internet and serve as the other.
"""

import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

import pooch
from tqdm import tqdm

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError, did_you_mean

MANIFEST = paths.DATA / "sources.tsv"
DOWNLOADS = 8  # at once; the files are small, so waiting for the server is most of the work
TIMEOUT = 30  # seconds without an answer
KNOWN_ANSWER = "known_answer"  # the source that is generated, and has no files
COLUMNS = ("group", "url", "bytes", "sha256", "licence")
LINE = re.compile("\t".join((r"([^\t]+)", r"([^\t]*)", r"([0-9]{1,18})", r"([0-9a-f]{64})", r"([^\t]*)")))


@dataclass(frozen=True)
class Source:
    """One file of the manifest."""

    group: str
    url: str
    bytes: int
    sha256: str
    licence: str

    @property
    def location(self) -> str:
        """The file's place below a mirror or the cache: HOST/PATH, with %20 and the like decoded."""
        try:
            parts = urlsplit(self.url)
            location = PurePosixPath(unquote(parts.netloc + parts.path, errors="strict"))
        except ValueError:
            raise self._not_plain() from None
        outside = location.is_absolute() or ".." in location.parts or "\\" in str(location)
        whole = parts.scheme in {"http", "https"} and len(location.parts) > 1 and str(location).isprintable()
        if outside or not whole:
            raise self._not_plain()
        return str(location)

    def _not_plain(self) -> UserError:
        return UserError(f"{MANIFEST}: {self.url!r:.200} is not a plain https://HOST/PATH address; correct it")


def catalogue() -> dict[str, list[Source]]:
    """Every source by group, in manifest order. Raises `UserError` with the line of a malformed manifest."""
    try:
        lines = MANIFEST.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{MANIFEST}: cannot be read ({error}); restore the file") from None
    if tuple(lines[0].split("\t")) != COLUMNS:
        raise UserError(f"{MANIFEST}, line 1: expected the columns {', '.join(COLUMNS)}, separated by tabs")
    groups: dict[str, list[Source]] = {}
    for number, line in enumerate(lines[1:], 2):
        if not (fields := LINE.fullmatch(line)):
            wanted = "a group, an address, a size in bytes, a SHA-256, a licence"
            raise UserError(f"{MANIFEST}, line {number}: expected {wanted}")
        group, url, size, sha256, licence = fields.groups()
        groups.setdefault(group, []).append(Source(group, url, int(size), sha256, licence))
        _ = groups[group][-1].location  # refuses an address that leads out of the cache
    return groups


def fetch(group: str) -> list[Path]:
    """Local paths of a group's files, in manifest order, each checked against the manifest.

    Files are downloaded, several at once, unless a mirror folder or the cache has them. A damaged file in
    the cache is fetched anew once. Raises `UserError` for an unknown group, a wrong checksum, or no connection.
    """
    groups = catalogue()
    if group not in groups:
        raise UserError(f"no data source '{group}': {did_you_mean(group, groups)}")
    mirror = os.environ.get("ROBBERTJE_MIRROR", "")
    if mirror and not mirror.startswith(("https://", "http://")):
        if not Path(mirror).is_dir():
            raise UserError(f"ROBBERTJE_MIRROR={mirror} is not a folder; correct it, or unset it to download")
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            return list(pool.map(partial(_from_folder, folder=Path(mirror)), groups[group]))
    return _from_web(groups[group], mirror)


def cache_folder() -> Path:
    """Where downloads are kept: `ROBBERTJE_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("ROBBERTJE_CACHE") or pooch.os_cache("robbertje"))


def _from_folder(source: Source, folder: Path) -> Path:
    path = folder / source.location
    if not path.is_file():
        raise UserError(f"the mirror has no {path}; add it, or unset ROBBERTJE_MIRROR to download it")
    try:
        right = pooch.file_hash(str(path), alg="sha256") == source.sha256
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give yourself the right to read it") from None
    if not right:
        raise UserError(f"{path}: wrong checksum, not the file the manifest means; delete it and copy it anew")
    return path


def _from_web(sources: list[Source], mirror: str) -> list[Path]:
    base = mirror.rstrip("/")
    registry = pooch.create(
        path=cache_folder(),
        base_url="",
        registry={source.location: f"sha256:{source.sha256}" for source in sources},
        urls={s.location: f"{base}/{quote(s.location)}" if mirror else s.url for s in sources},
    )
    pooch.get_logger().setLevel(logging.WARNING)
    missing = sum(source.bytes for source in sources if not (registry.abspath / source.location).is_file())
    with (
        ThreadPoolExecutor(DOWNLOADS) as pool,
        tqdm(total=missing, unit="B", unit_scale=True, desc=sources[0].group, disable=not missing) as bar,
    ):
        jobs = [pool.submit(_fetch, source, registry, bar) for source in sources]
        try:
            return [job.result() for job in jobs]
        except UserError:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(source: Source, registry: pooch.Pooch, bar: tqdm) -> Path:
    """The file in the cache: pooch checks what is there, and downloads to a temporary name what is missing or wrong."""
    target, url = registry.abspath / source.location, registry.get_url(source.location)
    absent = not target.is_file()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)  # pooch's own way fails where two threads do it at once
        registry.fetch(source.location, downloader=pooch.HTTPDownloader(timeout=TIMEOUT))
    except OSError as error:
        if error.errno is not None:  # from the disk; those of requests are OSErrors without a number
            raise UserError(
                f"cannot keep {target} ({error.strerror}); free some space, or set ROBBERTJE_CACHE to another folder"
            ) from None
        damaged = "" if absent else f"{target} has a wrong checksum and cannot be fetched anew: "
        raise UserError(
            f"{damaged}cannot reach {url} ({type(error).__name__}); connect to the internet, or set ROBBERTJE_MIRROR "
            "to a folder or URL that has it" + (f", after deleting {target}" if damaged else "")
        ) from None
    except ValueError:
        raise UserError(f"{url} now serves another file (wrong checksum); nothing was kept; use a mirror") from None
    bar.update(source.bytes if absent else 0)
    return target
