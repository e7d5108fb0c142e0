"""Readers: running text comes out whole, furniture is counted, bad files are named."""

import bz2
import gzip
import json
import lzma
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robbertje_lib.corpus import manifestos, novels, readers
from robbertje_lib.corpus.sentences import sentence_fault, split_sentences
from robbertje_lib.experiment.errors import UserError

NOVEL = """The Project Gutenberg EBook of Het Huis

Character set encoding: {encoding}

*** START OF THIS PROJECT GUTENBERG EBOOK HET HUIS ***

Produced by Niemand
and nobody else



                     HET HUIS


I.

Er stond een huis aan de _rand_ van het bosch, waar niemand meer
woonde dan een oude café-houder. [1]

    De brief luidde aldus: kom toch spoedig terug naar het groote oude
    huis aan de rand van het bosch.

        De maan scheen,
        de uil scheen mee.

[Illustratie: het huis]




INHOUD.

Het huis . . . . . . . . 12

Het bosch en al wat daarin leefde in den tijd van onze grootouders.




II.

--Wie is daar? riep hij.

[1] Een herbergier.

End of the Project Gutenberg EBook of Het Huis

*** END OF THIS PROJECT GUTENBERG EBOOK HET HUIS ***

Not a part of the book.
"""
MANIFESTO = """Onze Partij 1990-1994
Inhoud
1 Wonen ............... 3
WONEN VOOR IEDEREEN
Onze Partij 1990-1994
De overheid moet zorgen voor betaalbare wo-
ningen, ook voor starters op de woningmarkt. Zorg- en
welzijnsinstellingen houden hun eigen taak en mogen ver\u00ad
trouwen op steun. Wie dat wil be-hoort te kunnen kiezen.
12
Het ~~ <}{ £ 3% ][ ::
Onze Partij 1990-1994
Iedereen behoort een huis te hebben en dat blijft zo in de
Onze Partij 1990-1994
komende jaren. Dat is ons doel.
• Er komen meer huizen.
Onze Partij 1990-1994
"""


def test_a_novel_is_chapters_of_joined_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "huis.txt"
    path.write_bytes(NOVEL.format(encoding="ISO Latin-1").replace("\n", "\r\n").encode("latin-1"))
    dropped: Counter[str] = Counter()
    assert list(novels.read_novel(path, dropped)) == [
        [
            "Er stond een huis aan de rand van het bosch, waar niemand meer woonde dan een oude café-houder.",
            "De brief luidde aldus: kom toch spoedig terug naar het groote oude huis aan de rand van het bosch.",
        ],
        ["—Wie is daar? riep hij."],
    ]
    assert dropped == {
        "novels: credits": 1,
        "novels: centred line": 2,
        "novels: heading in capitals": 2,
        "novels: illustration or other note in brackets": 1,
        "novels: table of contents, notes or colophon": 3,
        "novels: footnote": 1,
    }


@pytest.mark.parametrize(
    ("encoding", "codec", "message"),
    [("UTF-8", "latin-1", "not in UTF-8"), ("klingon", "utf-8", "unknown encoding 'klingon'")],
)
def test_a_novel_in_another_encoding_than_declared_is_refused(
    tmp_path: Path, encoding: str, codec: str, message: str
) -> None:
    path = tmp_path / "huis.txt"
    path.write_bytes(NOVEL.format(encoding=encoding).encode(codec))
    with pytest.raises(UserError, match=message) as error:
        list(novels.read_novel(path, Counter()))
    assert str(path) in str(error.value)


def test_a_long_chapter_becomes_several_documents(tmp_path: Path) -> None:
    story = "\n\n".join("Dit is een zin van acht gewone woorden." for _ in range(1000))
    path = tmp_path / "huis.txt"
    path.write_text(NOVEL.format(encoding="UTF-8").replace("--Wie is daar? riep hij.", story))
    chapters = list(novels.read_novel(path, Counter()))
    assert sum(map(len, chapters)) == 1002
    assert max(len(chapter) * 8 for chapter in chapters) <= novels.CHAPTER_WORDS + 8


def test_a_manifesto_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "partij.txt"
    path.write_text(MANIFESTO, encoding="utf-8")
    dropped: Counter[str] = Counter()
    (document,) = manifestos.read_manifesto(path, dropped)
    text = " ".join(document)
    assert "betaalbare woningen, ook" in text
    assert "Zorg- en welzijnsinstellingen" in text
    assert "mogen vertrouwen op" in text
    assert "wil behoort te kunnen" in text
    assert "huis te hebben en dat blijft zo in de komende jaren. Dat is ons doel." in document[-2]
    assert document[-1] == "Er komen meer huizen."
    assert dropped == {
        "manifestos: running head (lines)": 5,
        "manifestos: page number (lines)": 1,
        "manifestos: table of contents (lines)": 1,
        "manifestos: heading in capitals (lines)": 1,
        "manifestos: scanning noise (lines)": 1,
    }


def test_sentences_keep_abbreviations_and_speech_together() -> None:
    assert split_sentences(
        "„Kom hier!” zeide hij. De heer Mr. J. van Dam, o.a. lid van de raad, kwam. 't Was laat."
    ) == [
        "„Kom hier!” zeide hij.",
        "De heer Mr. J. van Dam, o.a. lid van de raad, kwam.",
        "'t Was laat.",
    ]
    speech = '"' + "Hij kwam weer te laat op school. " * 20 + '"'
    assert split_sentences(speech) == ["Hij kwam weer te laat op school."] * 20


@pytest.mark.parametrize(
    ("sentence", "scanned", "fault"),
    [
        ("De overheid zorgt voor betaalbare woningen.", True, None),
        ("—Wie is daar? riep hij.", False, None),
        ("Een groene economie voor iedereen", True, "no closing punctuation"),
        ("en dat blijft zo in de komende jaren.", True, "no capital at the start"),
        ("De c;amenleving waarvoor wij ons inzetten.", True, "scanning errors"),
        ("De rnensen van het land willen dat.", True, "scanning errors"),
        ("Zo wordt het Verkiezingsprogramma 2002-2006 dat wij willen.", True, "running head or page number within"),
        ("Zeker is dat dit 11 heeft de overheid.", True, "running head or page number within"),
        ("Kijk op www.partij.nl voor ons hele plan.", True, "signs that no sentence has"),
        ("Voici la lune qui paraît, quand irons-nous dehors?", False, "hardly any Dutch function words"),
        ("EERSTE HOOFDSTUK VAN HET BOEK.", False, "in capitals"),
        ("Ga weg.", False, "fewer than 3 words"),
    ],
)
def test_what_reads_as_a_sentence(sentence: str, scanned: bool, fault: str | None) -> None:
    assert sentence_fault(sentence, scanned) == fault


OWN = ("Eerste zin. Tweede zin.\nTweede alinea.\n\n\nEen ander stuk.\n", [("1", 2), ("2", 1)])


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_own_text_plain_or_compressed(tmp_path: Path, suffix: str) -> None:
    text, expected = OWN
    pack = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[suffix]
    (tmp_path / "onder").mkdir()
    (tmp_path / f"a.txt{suffix}").write_bytes(pack(text.encode("utf-8-sig")))
    (tmp_path / "onder" / f"a.txt{suffix}").write_bytes(pack(text.encode()))
    (tmp_path / "onder" / f"b.jsonl{suffix}").write_bytes(pack(b'{"id": 7, "text": "Hallo.\\n\\nDag."}\n'))
    (tmp_path / "leesmij.md").write_text("niet lezen")
    dropped: Counter[str] = Counter()
    documents = [
        document
        for path in readers.source_files(str(tmp_path), dropped)
        for document in readers.read_file(str(tmp_path), path, dropped)
    ]
    assert dropped == {"own text: neither .txt nor .jsonl (files)": 1}
    wanted = [
        f"a.txt{suffix}#1",
        f"a.txt{suffix}#2",
        f"onder/a.txt{suffix}#1",
        f"onder/a.txt{suffix}#2",
        f"onder/b.jsonl{suffix}#7",
    ]
    assert [document.id for document in documents] == wanted
    assert [len(document.paragraphs) for document in documents] == [n for _, n in expected] * 2 + [2]
    assert documents[0].paragraphs[0] == "Eerste zin. Tweede zin."
    assert [document.file for document in documents] == [document.id.partition("#")[0] for document in documents]
    by_itself = readers.read_file(str(tmp_path / f"a.txt{suffix}"), tmp_path / f"a.txt{suffix}", dropped)
    assert all(document.file == document.id for document in by_itself)


def test_zst_is_read_or_says_what_it_takes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd\x24\x07\x39\x00\x00Hallo.\n")  # a frame of seven bytes, stored as they are
    try:
        documents = list(readers.read_file(str(path), path, Counter()))
    except UserError as error:
        assert "backports.zstd" in str(error) or "cannot be read" in str(error)
    else:
        assert documents[0].paragraphs == ("Hallo.",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"id": "1", "text": "Goed."}\n{"id": "2"}\n', "line 2: expected"),
        ("a.jsonl", b"[1, 2]\n", "line 1: expected"),
        ("a.jsonl", b'{"id": "1", "text": 3}\n', "line 1: expected"),
        ("a.jsonl", b"[" * 100_000, "line 1: expected"),
        ("a.jsonl", b'{"id": 1, "text": "A."}\n{"id": "1", "text": "B."}\n', "line 2: the id '1' occurs twice"),
        ("a.txt", b"Goed.\n\xff\xfe\n", "line 2: expected UTF-8"),
        ("a.txt.gz", b"geen gzip", "cannot be read"),
        ("a.txt.gz", gzip.compress(b"Lange tekst. " * 500, mtime=0)[:-20], "cannot be read"),
        ("a.txt.xz", lzma.compress(b"Lange tekst. " * 500)[:-20], "cannot be read"),
        ("a.txt.bz2", b"BZh9 geen bzip2", "cannot be read"),
    ],
)
def test_malformed_text_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(readers.read_file(str(path), path, Counter()))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_sources_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'novels'"):
        readers.source_files("novel", Counter())
    with pytest.raises(UserError, match=r"holds no .txt"):
        readers.source_files(str(tmp_path), Counter())
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"is not .txt or .jsonl"):
        readers.source_files(str(archive), Counter())


def test_empty_documents_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "text": " \\n "}\n{"id": "2", "text": "Dag."}\n')
    dropped: Counter[str] = Counter()
    assert [d.id for d in readers.read_file(str(path), path, dropped)] == ["a.jsonl#2"]
    assert dropped == {"own text: empty (documents)": 1}


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(content=st.binary(max_size=400), name=st.sampled_from(["a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.xz"]))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    try:
        documents = list(readers.read_file(str(path), path, Counter()))
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert all(d.paragraphs and all(p.strip() for p in d.paragraphs) for d in documents)


@FUZZ
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60), max_size=8)
)
def test_jsonl_keeps_every_word(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts)), encoding="utf-8")
    documents = list(readers.read_file(str(path), path, Counter()))
    assert [w for d in documents for p in d.paragraphs for w in p.split()] == [w for t in texts for w in t.split()]


@FUZZ
@given(story=st.text(st.sampled_from("aeé Z.,!?-_[]1|+~\n\n\u00ad•"), max_size=400))
def test_any_story_is_read(tmp_path: Path, story: str) -> None:
    path = tmp_path / "boek.txt"
    path.write_text(NOVEL.format(encoding="UTF-8").replace("--Wie is daar? riep hij.", story), encoding="utf-8")
    for read in (novels.read_novel, manifestos.read_manifesto):
        for paragraphs in read(path, Counter()):
            assert all(p.strip() and "\n" not in p for p in paragraphs)
            for paragraph in paragraphs:
                for sentence in split_sentences(paragraph):
                    sentence_fault(sentence, scanned=True)


def test_real_books_and_manifestos_leave_no_furniture(mirror: Path) -> None:
    for name, wanted in (("novels", 40), ("manifestos", 203)):
        dropped: Counter[str] = Counter()
        files = readers.source_files(name, dropped)
        assert len(files) == wanted and not dropped
        # Every fifth novel and every twentieth manifesto: all kinds of file, in a few seconds.
        documents = [d for path in files[:: wanted // 8] for d in readers.read_file(name, path, dropped)]
        assert len({d.id for d in documents}) == len(documents) > 100
        paragraphs = [p for d in documents for p in d.paragraphs]
        assert sum(map(len, paragraphs)) > 0.8 * sum(path.stat().st_size for path in files[:: wanted // 8])
        assert not [p for p in paragraphs if "\ufffd" in p or "\u00ad" in p or "Project Gutenberg" in p]
        assert sum(dropped.values()) > 100
        if name == "novels":
            assert not [p for p in paragraphs if "_" in p and p.count("_") % 2 == 0 and "_ " in p][5:]
