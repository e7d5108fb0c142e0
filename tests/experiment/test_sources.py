"""Sources: the right files, from a mirror, the cache or the web; never the wrong ones."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from robbertje_lib.experiment import sources
from robbertje_lib.experiment.errors import UserError

CONTENT = {"een%20boek.txt": b"Het regent.\n", "twee.txt": b"De zon schijnt.\n"}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A web server with two files, and a manifest that names them."""
    folder = tmp_path / "site"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    host = f"127.0.0.1:{server.server_port}"
    rows = []
    for name, content in CONTENT.items():
        path = folder / "map" / name.replace("%20", " ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        rows.append(f"boeken\thttp://{host}/map/{name}\t{len(content)}\t{digest}\teigen")
    manifest = tmp_path / "sources.tsv"
    manifest.write_text("group\turl\tbytes\tsha256\tlicence\n" + "\n".join(rows) + "\n")
    monkeypatch.setattr(sources, "MANIFEST", manifest)
    monkeypatch.setenv("ROBBERTJE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ROBBERTJE_MIRROR", raising=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield host, folder
    server.shutdown()
    server.server_close()


def test_downloads_once_and_then_works_offline(site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    host, folder = site
    paths = sources.fetch("boeken")
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert paths[0] == sources.cache_folder() / host / "map" / "een boek.txt"
    for path in (folder / "map").iterdir():
        path.unlink()
    assert sources.fetch("boeken") == paths
    # The cache has the layout of a mirror.
    monkeypatch.setenv("ROBBERTJE_MIRROR", str(sources.cache_folder()))
    assert sources.fetch("boeken") == paths


@pytest.mark.parametrize("index", [0, 1])
def test_a_damaged_cached_file_is_fetched_anew_or_named(site: tuple[str, Path], index: int) -> None:
    paths = sources.fetch("boeken")
    good = paths[index].read_bytes()
    paths[index].write_bytes(b"x" * len(good))
    assert sources.fetch("boeken")[index].read_bytes() == good
    paths[index].write_bytes(b"x" * len(good))
    (site[1] / "map" / paths[index].name).unlink()
    with pytest.raises(UserError, match=r"wrong checksum.*cannot reach .*deleting") as error:
        sources.fetch("boeken")
    assert str(paths[index]) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["een boek.txt", "twee.txt"])
def test_another_file_at_the_same_address_is_refused(site: tuple[str, Path], name: str) -> None:
    (site[1] / "map" / name).write_bytes(b"iets anders\n")
    with pytest.raises(UserError, match="serves another file"):
        sources.fetch("boeken")
    assert not list(sources.cache_folder().rglob(name))


def test_offline_says_what_is_unreachable_and_what_to_do(
    site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBBERTJE_MIRROR", "http://127.0.0.1:9/spiegel")
    with pytest.raises(UserError, match=r"cannot reach http://127.0.0.1:9/spiegel/.*een%20boek.txt.*ROBBERTJE_MIRROR"):
        sources.fetch("boeken")
    assert not [path for path in sources.cache_folder().rglob("*") if path.is_file()]


def test_a_base_url_serves_host_and_path_below_it(site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    host, folder = site
    (folder / host).mkdir()
    (folder / "map").rename(folder / host / "map")
    monkeypatch.setenv("ROBBERTJE_MIRROR", f"http://{host}/")
    assert [path.read_bytes() for path in sources.fetch("boeken")] == list(CONTENT.values())


def test_a_mirror_folder_is_read_in_place_and_checked(site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    host, folder = site
    monkeypatch.setenv("ROBBERTJE_MIRROR", str(folder / "nergens"))
    with pytest.raises(UserError, match="is not a folder"):
        sources.fetch("boeken")
    monkeypatch.setenv("ROBBERTJE_MIRROR", str(folder))
    with pytest.raises(UserError, match=r"the mirror has no .*een boek.txt"):
        sources.fetch("boeken")
    (folder / host).mkdir()
    (folder / "map").rename(folder / host / "map")
    paths = sources.fetch("boeken")
    assert paths[0] == folder / host / "map" / "een boek.txt"
    assert not sources.cache_folder().exists()
    paths[1].write_bytes(b"De zon schijnt?\n")
    with pytest.raises(UserError, match=r"twee.txt: wrong checksum"):
        sources.fetch("boeken")


@pytest.mark.parametrize(
    "url", ["https://h/../../etc/passwd", "https://h/%2e%2e/%2e%2e/x", "file:///etc/passwd", "x.txt"]
)
def test_an_address_that_leaves_the_cache_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="not a plain"):
        _ = sources.Source("g", url, 1, "", "").location


def test_an_unknown_group_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'novels'"):
        sources.fetch("novel")


def test_the_manifest_is_complete() -> None:
    every = [source for group in sources.catalogue().values() for source in group]
    assert len({source.location for source in every}) == len(every) == 257
    for source in every:
        assert source.url.startswith("https://") and source.bytes > 0 and source.licence
        assert len(source.sha256) == 64


def test_the_mirror_serves_every_group(mirror: Path) -> None:
    for group, entries in sources.catalogue().items():
        paths = sources.fetch(group)
        assert [path.stat().st_size for path in paths] == [entry.bytes for entry in entries]
