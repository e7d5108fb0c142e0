"""Anything may lie in a file: every reader reads it whole or refuses it in one line, and nothing gets lost between.

Each reader is given plain noise, and valid files with a few bytes changed, cut out, doubled or moved. The examples
are the same on every run.
"""

import bz2
import copy
import csv
import gzip
import io
import json
import lzma
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robbertje_lib.corpus import manifestos, novels, readers
from robbertje_lib.evaluation.crows_pairs import read_pairs
from robbertje_lib.experiment import paths, sources
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Profile, load_profile, parse_profile
from robbertje_lib.tasks import dbrd, ner, pos, sick_nl

T = TypeVar("T")
FUZZ = settings(
    max_examples=150, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

TXT = "Eerste alinea. Nog een zin.\nTweede alinea.\n\n\nEen ander stuk — met é.\n".encode()
JSONL = b'{"id": "a", "text": "Een zin.\\nNog een."}\n{"id": 2, "text": " "}\n\n{"text": "Dag.", "id": "c"}\n'
BOL = '"1","Heel &amp; mooi, \n""echt"""\n"-1","Saai één"\n"1","Goed"\n'.encode()
SICK = (
    b'pair_ID\tsentence_A\tsentence_B\tentailment_label\tSemEval_set\n1\tEen "kat"\tEen dier\tENTAILMENT\tTRAIN\n'
    b"2\tHij zit\tHij staat\tCONTRADICTION\tTEST\n3\tEen man\tEen vrouw\tNEUTRAL\tTRIAL\n"
)
IOB2 = b"-DOCSTART- -DOCSTART- O\nJan N B-PER\nPraet N I-PER\n\nin Prep O\nGent N B-LOC\n"
CONLLU = (
    b"# sent_id = 1\n1-2\tm'n\t_\t_\t_\t_\t_\t_\t_\t_\n1\tme\tik\tPRON\t_\tCase=Acc\t2\tobj\t_\tSpaceAfter=No\n"
    b"2\teen\teen\tDET\t_\t_\t0\troot\t_\t_\n2.1\tx\tx\tNOUN\t_\t_\t_\t_\t0:root\t_\n\n# twee\n1\tEn\ten\tCONJ\t_\t_\t0\troot\t_\t_\n"
)
CROWS = (
    "id,sent_more,sent_less,stereo_antistereo,bias_type\n1,Hij is één arts.,Zij is één arts.,stereo,gender\n"
    '2,"Ja, hij.","Ja, zij.",antistereo,gender\n'
).encode("mac_roman")
MANIFEST = (
    b"group\turl\tbytes\tsha256\tlicence\n"
    b"boeken\thttps://voorbeeld.nl/een%20boek.txt\t12\t" + b"a" * 64 + b"\teigen\n"
    b"boeken\thttps://voorbeeld.nl/twee.txt\t7\t" + b"b" * 64 + b"\teigen\n"
)
NOVEL = (
    b"Character set encoding: UTF-8\n\n*** START OF THIS PROJECT GUTENBERG EBOOK HUIS ***\n\nEr stond een huis aan de rand\n"
    b"van het bos.\n\n\n\n\nI.\n\nDaar woonde niemand.\n\n*** END OF THIS PROJECT GUTENBERG EBOOK HUIS ***\n"
)
MANIFESTO = b"Ons plan\n1 Wonen ....... 3\nDe overheid moet zorgen voor wo-\nningen. Dat wil iedereen.\n12\n"


@st.composite
def mutations(draw: st.DrawFn, valid: bytes) -> bytes:
    """`valid` after one to four changes; the signs that a format rests on come up most."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 12)))
        piece = bytes(content[start:end])
        other = draw(st.binary(max_size=4) | st.sampled_from([b'"', b",", b"\t", b"\n", b"\r", b"\n\n", b" ", b"\0", b"_", b"-1",
                                                            b"\xff", b"\xef\xbb\xbf", b"{", b"\\ud800", b"1e999", piece * 2, piece[::-1]]))  # fmt: skip
        content[start:end] = other
    return bytes(content)


def noise(valid: bytes) -> st.SearchStrategy[bytes]:
    return mutations(valid) | mutations(valid) | mutations(valid) | st.binary(max_size=200)


def told_or_done(read: Callable[[], T]) -> T | None:
    """What `read` returns, or None after a refusal of one line; any other error fails the test."""
    try:
        return read()
    except UserError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 1000
        return None


def kept(folder: Path, content: bytes, name: str = "data") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def words(texts: Iterator[str]) -> Counter[str]:
    return Counter(word for text in texts for word in text.replace("\0", "").split())


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@FUZZ
@given(content=noise(TXT), packing=st.sampled_from(sorted(PACKED)))
def test_own_text_keeps_every_word(tmp_path: Path, content: bytes, packing: str) -> None:
    path = kept(tmp_path, PACKED[packing](content), f"a.txt{packing}")
    documents = told_or_done(lambda: list(readers.read_file(str(path), path, Counter())))
    if documents is not None:
        assert words(p for d in documents for p in d.paragraphs) == words(iter([content.decode("utf-8-sig")]))


@FUZZ
@given(content=noise(JSONL), packing=st.sampled_from(sorted(PACKED)))
def test_every_line_of_jsonl_is_a_document_or_counted(tmp_path: Path, content: bytes, packing: str) -> None:
    path, dropped = kept(tmp_path, PACKED[packing](content), f"a.jsonl{packing}"), Counter[str]()
    documents = told_or_done(lambda: list(readers.read_file(str(path), path, dropped)))
    if documents is not None:
        lines = [line for line in content.decode("utf-8-sig").split("\n") if line.replace("\0", "").strip()]
        assert len(documents) + dropped.total() == len(lines)
        assert len({d.id for d in documents}) == len(documents)
        for document in documents:  # what follows is UTF-8 all the way
            "\n".join([document.id, *document.paragraphs]).encode()


@FUZZ
@given(content=st.sampled_from([PACKED[p](TXT * 40) for p in (".gz", ".bz2", ".xz")]).flatmap(noise),
       name=st.sampled_from(["a.txt.gz", "a.txt.bz2", "a.txt.xz", "a.jsonl.gz"]))  # fmt: skip
def test_damaged_compression_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    path = kept(tmp_path, content, name)
    told_or_done(lambda: list(readers.read_file(str(path), path, Counter())))


@FUZZ
@given(content=noise(BOL))
def test_every_review_is_an_example(tmp_path: Path, content: bytes) -> None:
    rows = told_or_done(lambda: dbrd.parse_bol(kept(tmp_path, content)))
    if rows is not None:
        records = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
        assert len(rows) == len(records)
        split = dbrd.split_bol(rows, seed=0)
        assert sum(map(len, split.splits.values())) + split.dropped["duplicate"] == len(rows)


@FUZZ
@given(content=noise(SICK))
def test_every_pair_goes_to_a_split(tmp_path: Path, content: bytes) -> None:
    splits = told_or_done(lambda: sick_nl.parse_pairs(kept(tmp_path, content)))
    if splits is not None:
        assert (
            sum(map(len, splits.values()))
            == len(re.split(r"\r\n|\r|\n", content.decode("utf-8-sig").rstrip("\r\n"))) - 1
        )
        assert all(row["text"].strip() and row["text_pair"].strip() for rows in splits.values() for row in rows)


@FUZZ
@given(content=noise(IOB2))
def test_every_line_of_conll_2002_is_a_word_or_a_boundary(tmp_path: Path, content: bytes) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member in ner.MEMBERS.values():
            archive.writestr(member, content)
    read = told_or_done(lambda: ner.parse_archive(kept(tmp_path, packed.getvalue())))
    if read is not None:
        assert [len(rows) for rows in read.splits.values()] == [len(read.splits["train"])] * 3
        tokens = sum(len(row["tokens"]) for row in read.splits["train"])
        lines = sum(bool(line.strip()) for line in content.decode().split("\n"))
        assert tokens + read.dropped["article_boundary_line"] // 3 == lines


def _zip(**options: Any) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", **options) as archive:
        for member in ner.MEMBERS.values():
            archive.writestr(member, IOB2)
    return packed.getvalue()


@FUZZ
@given(
    content=st.sampled_from(
        [_zip(), _zip(compression=zipfile.ZIP_DEFLATED), _zip(compression=zipfile.ZIP_LZMA)]
    ).flatmap(noise)
)
def test_a_damaged_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    told_or_done(lambda: ner.parse_archive(kept(tmp_path, content)))


@FUZZ
@given(content=noise(CONLLU))
def test_every_line_of_conll_u_is_a_word_or_counted(tmp_path: Path, content: bytes) -> None:
    read = told_or_done(lambda: pos.parse_conllu(kept(tmp_path, content), "test"))
    if read is not None:
        rows, dropped = read
        lines = [line for line in content.decode("utf-8-sig").split("\n") if line and not line.startswith("#")]
        assert sum(len(row["tokens"]) for row in rows) + sum(dropped.values()) == len(lines)
        assert all(isinstance(token, str) and token for row in rows for token in row["tokens"])


@FUZZ
@given(content=noise(CROWS))
def test_every_line_of_crows_pairs_is_a_pair(tmp_path: Path, content: bytes) -> None:
    pairs = told_or_done(lambda: read_pairs(kept(tmp_path, content)))
    if pairs is not None:
        records = list(csv.reader(io.StringIO(content.decode("mac_roman"), newline=""), strict=True))
        assert len(pairs) == len(records) - 1


@FUZZ
@given(content=noise(MANIFEST))
def test_every_line_of_the_manifest_is_a_source(tmp_path: Path, content: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "MANIFEST", kept(tmp_path, content))
        groups = told_or_done(sources.catalogue)
    if groups is not None:
        entries = [source for group in groups.values() for source in group]
        assert len(entries) == len(content.decode().removesuffix("\n").split("\n")) - 1
        root = Path("/cache")
        assert all((root / source.location).is_relative_to(root) for source in entries)


@FUZZ
@given(content=noise(NOVEL) | noise(MANIFESTO))
def test_novels_and_manifestos(tmp_path: Path, content: bytes) -> None:
    path = kept(tmp_path, content)
    for read in (novels.read_novel, manifestos.read_manifesto):
        for paragraphs in told_or_done(lambda: list(read(path, Counter()))) or []:  # noqa: B023
            assert paragraphs and all(paragraph.strip() for paragraph in paragraphs)


SMOKE = (paths.PROFILES / "smoke.yaml").read_bytes()
RAW: dict[str, Any] = yaml.safe_load(SMOKE)


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, below in inside for place in [(*way, key), *_places(below, (*way, key))]]


def _at(value: Any, way: tuple[Any, ...]) -> Any:
    for part in way:
        value = value[part]
    return value


@FUZZ
@given(first=st.sampled_from(_places(RAW)), second=st.sampled_from(_places(RAW)), drop=st.booleans())
def test_a_profile_with_its_parts_moved_about(first: tuple[Any, ...], second: tuple[Any, ...], drop: bool) -> None:
    raw = copy.deepcopy(RAW)
    if first[: len(second)] == second:
        first, second = second, first  # what lies around goes first
    moved = copy.deepcopy(_at(raw, second))
    _at(raw, second[:-1])[second[-1]] = copy.deepcopy(_at(RAW, first))
    if drop and isinstance(_at(raw, first[:-1]), dict):
        del _at(raw, first[:-1])[first[-1]]
    elif second[: len(first)] != first:
        _at(raw, first[:-1])[first[-1]] = moved
    profile = told_or_done(lambda: parse_profile(raw))
    assert profile is None or isinstance(profile, Profile)


@settings(FUZZ, max_examples=60)
@given(content=mutations(SMOKE))
def test_a_profile_with_bytes_changed(tmp_path: Path, content: bytes) -> None:
    path = kept(tmp_path, content, "smoke.yaml")
    profile = told_or_done(lambda: load_profile(str(path)))
    if profile is not None:
        json.dumps(profile.model_dump(mode="json"), allow_nan=False)
