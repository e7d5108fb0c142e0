"""The task readers: what they read, what they refuse, and what they must not give away."""

import gzip
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from robbertje_lib import tasks
from robbertje_lib.experiment import paths, sources
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TaskSettings
from robbertje_lib.experiment.run import open_run
from robbertje_lib.tasks import TaskData, TaskSource, dbrd, die_dat, ner, pos, sick_nl
from robbertje_lib.tasks.reading import split_by_document, stratified_split

SICK_HEADER = "pair_ID\tsentence_A\tsentence_B\tentailment_label\tSemEval_set\n"
SICK_ROW = "7\tEen kat slaapt\tEen dier rust\tENTAILMENT\tTRAIN\n"


def word(number: str, form: str, tag: str) -> str:
    return f"{number}\t{form}\t_\t{tag}\t_\t_\t0\troot\t_\t_\n"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "data.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def archive(folder: Path, **members: str) -> Path:
    path = folder / "data.zip"
    with zipfile.ZipFile(path, "w") as opened:
        for name in ("train", "testa", "testb"):
            if members.get(name) != "absent":
                opened.writestr(f"conll2002/ned.{name}", members.get(name, "Jan N B-PER\n\n"))
    return path


def rows(n: int) -> list[dict[str, Any]]:
    return [{"example_id": str(i), "text": f"regel {i}", "label": "die" if i % 3 else "dat"} for i in range(n)]


# --- malformed input ---------------------------------------------------------------------------------

BOL = dbrd.parse_bol
SICK = sick_nl.parse_pairs


def POS(path: Path) -> Any:
    return pos.parse_conllu(path, "test")


MALFORMED: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Path], str]] = {
    "bol: third field": (BOL, lambda f: write(f, '"1","goed","?"\n'), "line 1: .*expected two fields"),
    "bol: one field": (BOL, lambda f: write(f, '"1","goed"\n"slecht"\n'), "line 2: .*expected two fields"),
    "bol: unknown label": (BOL, lambda f: write(f, '"0","gaat wel"\n'), "line 1: .*expected two fields"),
    "bol: empty review": (BOL, lambda f: write(f, '"1","goed"\n"1","  "\n'), "line 2: an empty review"),
    "bol: open quote": (BOL, lambda f: write(f, '"1","goed"\n"1","niet dicht\n'), "expected quoted"),
    "bol: text after quote": (BOL, lambda f: write(f, '"1","goed" maar\n'), "line 1: .*expected quoted"),
    "bol: empty file": (BOL, lambda f: write(f, ""), "the file is empty"),
    "bol: other encoding": (BOL, lambda f: write(f, '"1","goed"\n"1","één"\n'.encode("latin-1")), "line 2: not utf-8"),
    "bol: missing file": (BOL, lambda f: f / "absent.csv", "cannot be read"),
    "sick: column missing": (SICK, lambda f: write(f, "pair_ID\tsentence_A\n"), "line 1: no column sentence_B"),
    "sick: too few fields": (SICK, lambda f: write(f, SICK_HEADER + "7\tEen kat\n"), "line 2: 2 fields; expected 5"),
    "sick: too many fields": (SICK, lambda f: write(f, SICK_HEADER + SICK_ROW.strip() + "\tx\n"), "line 2: 6 fields"),
    "sick: unknown label": (
        SICK,
        lambda f: write(f, SICK_HEADER + SICK_ROW + SICK_ROW.replace("ENTAILMENT", "MAYBE")),
        "line 3: label 'MAYBE'; expected CONTRADICTION or ENTAILMENT or NEUTRAL",
    ),
    "sick: unknown split": (
        SICK,
        lambda f: write(f, SICK_HEADER + SICK_ROW.replace("TRAIN", "DEV")),
        "SemEval_set 'DEV'",
    ),
    "sick: empty sentence": (
        SICK,
        lambda f: write(f, SICK_HEADER + SICK_ROW.replace("Een dier rust", "")),
        "an empty sentence",
    ),
    "sick: empty file": (SICK, lambda f: write(f, ""), "line 1: no column pair_ID"),
    "ner: no zip": (ner.parse_archive, lambda f: write(f, "Jan N B-PER\n"), "not a readable zip"),
    "ner: member missing": (ner.parse_archive, lambda f: archive(f, testb="absent"), "no member conll2002/ned.testb"),
    "ner: two fields": (ner.parse_archive, lambda f: archive(f, testa="Jan B-PER\n"), "ned.testa, line 1: 'Jan B-PER'"),
    "ner: unknown label": (ner.parse_archive, lambda f: archive(f, train="Jan N B-NAAM\n"), "line 1: label 'B-NAAM'"),
    "ner: inside first": (
        ner.parse_archive,
        lambda f: archive(f, train="Jan N B-PER\n\nPiet N I-PER\n"),
        "line 3: 'I-PER' after 'nothing'; expected IOB2",
    ),
    "ner: inside another type": (
        ner.parse_archive,
        lambda f: archive(f, train="Jan N B-PER\nGent N I-LOC\n"),
        "line 2: 'I-LOC' after 'B-PER'",
    ),
    "ner: empty member": (ner.parse_archive, lambda f: archive(f, testb=""), "ned.testb, line 1: no sentence"),
    "pos: nine columns": (
        POS,
        lambda f: write(f, word("1", "Kijk", "VERB").replace("\t_\t_\n", "\t_\n")),
        "line 1: 9 columns",
    ),
    "pos: unknown tag": (POS, lambda f: write(f, "# zin\n" + word("1", "Kijk", "WERK")), "line 2: tag 'WERK'"),
    "pos: word left out": (
        POS,
        lambda f: write(f, word("1", "Kijk", "VERB") + word("3", "!", "PUNCT")),
        "line 2: word 3",
    ),
    "pos: bad number": (POS, lambda f: write(f, word("een", "Kijk", "VERB")), "line 1: .*expected a CoNLL-U word"),
    "pos: empty file": (POS, lambda f: write(f, "\n\n"), "no sentence"),
    "pos: second sentence": (
        POS,
        lambda f: write(f, word("1", "Kijk", "VERB") + "\n" + "# twee\n" + word("1", "Nee", "_")),
        "line 4: tag '_'",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_are_refused_with_file_line_and_what_was_expected(case: str, tmp_path: Path) -> None:
    reader, make, message = MALFORMED[case]
    path = make(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- readers -----------------------------------------------------------------------------------------


def test_bol_reviews_are_unescaped_and_duplicates_counted(tmp_path: Path) -> None:
    lines = [f'"{1 if i % 2 else -1}","Boek {i} &amp; ""meer"""' for i in range(40)]
    read = dbrd.parse_bol(write(tmp_path, "\n".join([*lines, lines[0]])))
    assert read[1] == {"example_id": "bol-2", "text": 'Boek 1 & "meer"', "label": "positive"}
    examples = dbrd.split_bol(read, seed=1)
    assert examples.dropped == {"duplicate": 1}
    assert {split: len(part) for split, part in examples.splits.items()} == {"train": 28, "validation": 4, "test": 8}
    assert all(Counter(r["label"] for r in part)["positive"] * 2 == len(part) for part in examples.splits.values())


def test_dbrd_keeps_its_test_split_and_takes_validation_out_of_train() -> None:
    def reviews(split: str, n: int) -> list[dict[str, str]]:
        return [{"example_id": f"{split}-{i}", "text": f"{split} {i}", "label": dbrd.LABELS[i % 2]} for i in range(n)]

    train, test = reviews("train", 400), reviews("test", 20)
    examples = dbrd.split_hub([*train, {**test[3], "example_id": "train-400"}], test, seed=5)
    assert examples.splits["test"] == test
    assert examples.dropped == {"duplicate": 1}
    ids = {split: {row["example_id"] for row in part} for split, part in examples.splits.items()}
    assert not ids["train"] & ids["validation"]
    assert len(ids["validation"]) == 10
    assert len(ids["train"] | ids["validation"]) == 400


def test_dbrd_says_what_to_do_when_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="go online, or set `data: bol_reviews`"):
        dbrd.load_hub()


def test_sick_pairs_go_to_the_file_s_own_splits(tmp_path: Path) -> None:
    content = SICK_HEADER + SICK_ROW + SICK_ROW.replace("7\t", '8\t"').replace("TRAIN", "TEST")
    read = sick_nl.parse_pairs(write(tmp_path, content))
    assert [row["example_id"] for row in read["train"]] == ["sick-7"]
    assert read["test"][0]["text"] == '"Een kat slaapt'
    assert read["validation"] == []


def test_ner_reads_sentences_and_counts_article_boundaries(tmp_path: Path) -> None:
    article = "-DOCSTART- -DOCSTART- O\nJan N B-PER\nPraet N I-PER\n\n\nin Prep O\nRoeselare N B-LOC\n\n"
    examples = ner.parse_archive(archive(tmp_path, train=article * 2))
    assert examples.splits["train"][:2] == [
        {
            "example_id": "train-1",
            "tokens": ["Jan", "Praet"],
            "labels": ["B-PER", "I-PER"],
            "cluster": "train-article-1",
        },
        {
            "example_id": "train-2",
            "tokens": ["in", "Roeselare"],
            "labels": ["O", "B-LOC"],
            "cluster": "train-article-1",
        },
    ]
    assert [row["cluster"] for row in examples.splits["train"][2:]] == ["train-article-2"] * 2
    assert [row["cluster"] for row in examples.splits["test"]] == ["test-1"]  # no article is marked
    assert examples.dropped == {"article_boundary_line": 2}


def test_pos_takes_syntactic_words_and_counts_the_rest(tmp_path: Path) -> None:
    lines = [
        "# een\n",
        word("1-2", "m'n", "_"),
        word("1", "me", "PRON"),
        word("2", "een", "DET"),
        word("2.1", "x", "NOUN"),
    ]
    read, dropped = pos.parse_conllu(write(tmp_path, "".join([*lines, word("3", "en", "CONJ")]) + "\n"), "test")
    assert (read[0]["tokens"], read[0]["labels"]) == (["me", "een", "en"], ["PRON", "DET", "CCONJ"])
    assert dropped == {"contracted_token": 1, "empty_node": 1}


def test_pos_sentences_of_a_document_are_a_cluster(tmp_path: Path) -> None:
    names = [
        "# krant-7.p.2.s.1.xml\n",
        "# source = krant-9.p.1.s.1.xml\n# sent_id = krant-7.p.12.s.3_1\n# text = Kijk\n",
        "# sent_id = WR-X-0000000031\\WR-X-0000000031.p.5.s.4\n",
        "# text = krant-7.p.2.s.1\n",
    ]
    read, _ = pos.parse_conllu(write(tmp_path, "\n".join(name + word("1", "Kijk", "VERB") for name in names)), "test")
    assert [row["cluster"] for row in read] == ["krant-7", "krant-7", "WR-X-0000000031", "test-4"]


def test_pos_tests_on_newer_releases_without_what_training_saw(mirror: Path) -> None:
    data = load("pos", TaskSettings(data="lassysmall-r1.4"))
    assert {name: len(rows) for name, rows in data.further_tests.items()} == {
        "lassysmall-r2.16": 1855,
        "alpino-r2.16": 1314,
    }
    assert data.counts.dropped["lassysmall-r2.16_in_train_or_validation"] == 1448
    assert data.counts.dropped["alpino-r2.16_in_train_or_validation"] == 0
    assert {name: len(set(rows["cluster"])) for name, rows in data.sets.items()} == {
        "train": 111, "validation": 81, "test": 86, "lassysmall-r2.16": 35, "alpino-r2.16": 74,
    }  # fmt: skip
    said = {name: {"".join(tokens).lower() for tokens in rows["tokens"]} for name, rows in data.sets.items()}
    trained = said.pop("train")
    assert not any(trained & of_set for of_set in said.values())


def test_releases_tag_the_same_sentences_differently(mirror: Path) -> None:
    """What the docstring says of the two tag sets, on the sentences that both hold."""
    old, new = (
        [row for path in sources.fetch(f"lassysmall-{release}") for row in pos.parse_conllu(path, path.stem)[0]]
        for release in ("r1.4", "r2.16")
    )
    known = {tuple(row["tokens"]): row["labels"] for row in old}
    both = [(known[tuple(row["tokens"])], row["labels"]) for row in new if tuple(row["tokens"]) in known]
    pairs = Counter(pair for before, after in both for pair in zip(before, after, strict=True))
    differ = sum(n for (before, after), n in pairs.items() if before != after)
    assert (len(both), pairs.total()) == (1537, 22600)
    assert differ / pairs.total() == pytest.approx(0.065, abs=0.001)
    assert not any("PART" in row["labels"] for row in new)


def test_real_data_has_the_published_sizes(mirror: Path) -> None:
    def sizes(splits: dict[str, list[Any]]) -> dict[str, int]:
        return {split: len(part) for split, part in splits.items()}

    sick = sick_nl.parse_pairs(sources.fetch("sick_nl")[0])
    assert sizes(sick) == {"train": 4439, "validation": 495, "test": 4906}
    assert Counter(r["label"] for r in sick["test"]) == {"NEUTRAL": 2790, "ENTAILMENT": 1404, "CONTRADICTION": 712}
    entities = ner.parse_archive(sources.fetch("conll2002")[0])
    assert sizes(entities.splits) == {"train": 15806, "validation": 2895, "test": 5195}
    begins = Counter(label for row in entities.splits["test"] for label in row["labels"] if label[0] == "B")
    assert begins == {"B-LOC": 774, "B-MISC": 1187, "B-ORG": 882, "B-PER": 1098}
    articles = {split: Counter(row["cluster"] for row in part) for split, part in entities.splits.items()}
    assert {split: len(part) for split, part in articles.items()} == {"train": 287, "validation": 74, "test": 119}
    assert (max(articles["train"].values()), max(articles["test"].values())) == (412, 108)
    assert "Italië" in entities.splits["test"][0]["tokens"]
    reviews = dbrd.parse_bol(sources.fetch("bol_reviews")[0])
    assert Counter(row["label"] for row in reviews) == {"negative": 1500, "positive": 1500}
    assert not any("&amp;" in row["text"] for row in reviews)
    tagged = pos.read_tags(TaskSettings(data="lassysmall-r1.4"), source())
    assert sizes(tagged.splits) == {"train": 6641 - 203, "validation": 350, "test": 350}
    assert tagged.dropped["train_in_validation_or_test"] == 203
    r2_5 = next(file for file in sources.fetch("lassysmall-r2.5") if file.name.endswith("test.conllu"))
    sentences, dropped = pos.parse_conllu(r2_5, "test")
    assert (len(sentences), sum(len(row["tokens"]) for row in sentences)) == (875, 11556)
    assert dropped["empty_node"] == 25


# --- splits ------------------------------------------------------------------------------------------


def test_stratified_split_depends_on_rows_and_seed_alone() -> None:
    shares = {"train": 0.7, "validation": 0.1, "test": 0.2}
    first, again, other = (stratified_split(rows(90), shares, seed) for seed in (3, 3, 4))
    assert first == again != other
    assert sorted(r["example_id"] for part in first.values() for r in part) == sorted(r["example_id"] for r in rows(90))
    assert Counter(r["label"] for r in first["test"]) == {"die": 12, "dat": 6}


def test_documents_are_never_in_two_splits() -> None:
    documents = [f"boek-{number // 7}" for number in range(300)]
    splits = split_by_document(rows(300), documents, die_dat.SHARES, seed=2)
    homes = {split: {int(row["example_id"]) // 7 for row in part} for split, part in splits.items()}
    assert not homes["train"] & homes["validation"] and not homes["train"] & homes["test"]
    assert not homes["validation"] & homes["test"]
    assert sum(map(len, splits.values())) == 300
    assert abs(len(splits["test"]) - 60) <= 10
    three = split_by_document(rows(3), ["a", "b", "c"], die_dat.SHARES, seed=2)
    assert {len(part) for part in three.values()} == {1}
    with pytest.raises(UserError, match="2 document"):
        split_by_document(rows(2), ["a", "b"], die_dat.SHARES, seed=2)


# --- die or dat --------------------------------------------------------------------------------------


def test_only_whole_words_become_examples_and_the_rest_is_counted() -> None:
    texts = [
        "Het huis dat hij ziet, de datum en die-hard.",
        "Die man dIe zingt.",
        "DAT WAS DIE DAG.",
        "die knip is verdacht en ook dit dat",
        "een <mask> die stoort",
    ]
    lines = list(zip(texts, "abcde", strict=True))
    found, numbers, dropped = die_dat.occurrences(lines)
    assert [(row["text"], row["pronoun"], row["label"]) for row in found] == [
        ("Het huis <mask> hij ziet, de datum en die-hard.", "dat", "dat"),
        ("<mask> man dIe zingt.", "Die", "die"),
        ("<mask> WAS DIE DAG.", "DAT", "dat"),
        ("DAT WAS <mask> DAG.", "DIE", "die"),
    ]
    assert (numbers, [row["cluster"] for row in found]) == ([0, 1, 2, 2], ["a", "b", "c", "c"])
    assert dropped == {"odd_capitals": 1, "cut_by_line_end": 2, "line_holds_mask": 1}
    whole, numbers, dropped = die_dat.occurrences(lines, whole=True, most=5)
    assert (whole[-1]["text"], numbers, dropped["cut_by_line_end"]) == (
        "<mask> knip is verdacht en ook dit dat",
        [0, 1, 2, 2, 3],
        0,
    )


def found_in(texts: list[str]) -> list[dict[str, Any]]:
    return die_dat.occurrences((text, "x") for text in texts)[0]


def test_the_masked_form_is_the_same_whatever_pronoun_was_there() -> None:
    """Swapping die and dat, or their capitals, changes labels but not a character of the input."""
    lines = ["De {} fiets.", "{} mag, zei ze.", "Wat een {}!", '"{}," zei hij.', "Ik zie\t{} , ja."]
    texts = {w: [line.format(w) for line in lines] for w in ("die", "dat", "Die", "Dat", "DIE", "DAT")}
    inputs = {w: [row["text"] for row in found_in(made[:1] + made[2:])] for w, made in texts.items()}
    assert all(made == inputs["die"] for made in inputs.values())
    assert len(inputs["die"]) == 4


def shape(text: str) -> str:
    """Capitals, small letters, digits and spacing of a text, without its words."""
    kinds = {True: "X", False: "x"}
    return "".join(
        kinds[c.isupper()] if c.isalpha() else "9" if c.isdigit() else "_" if c.isspace() else "." for c in text
    )


def test_a_classifier_that_sees_only_casing_and_spacing_is_at_chance(mirror: Path) -> None:
    """On pairs from real novels: the RobBERT code's pairs, made here too, give themselves away to the same classifier."""
    text = sources.fetch("novels")[1].read_bytes().decode("latin-1")
    lines = [" ".join(part.split()) for part in text.replace("\r", "").split("\n\n")]
    found = found_in(lines)
    ours = die_dat.as_pairs(found, seed=4)[:1600]
    accuracy, margin = shape_accuracy(ours)
    assert abs(accuracy - 0.5) < margin
    leaky = [leak(row) for row in ours]
    assert shape_accuracy(leaky)[0] > 0.5 + margin


def leak(row: dict[str, Any]) -> dict[str, Any]:
    """The pair as the RobBERT code makes it: the changed sentence loses its pronoun's capital and is re-spaced."""
    changed = "text" if row["label"] == "second" else "text_pair"
    other = die_dat.OTHER[row["pronoun"].lower()]
    return {**row, changed: row["masked"].replace(tasks.MASK, other).replace(",", " ,")}


def shape_accuracy(pairs: list[dict[str, Any]]) -> tuple[float, float]:
    """Test accuracy of a logistic classifier on differences of shape n-grams, and 3 standard errors of chance."""
    vectors = CountVectorizer(analyzer="char", lowercase=False, ngram_range=(1, 3), max_features=500)
    vectors.fit(shape(row["text"]) for row in pairs)
    first, second = (vectors.transform([shape(row[key]) for row in pairs]) for key in ("text", "text_pair"))
    labels = np.array([row["label"] == "second" for row in pairs])
    half = len(pairs) // 2
    model = LogisticRegression(max_iter=200).fit((first - second)[:half], labels[:half])
    accuracy = float((model.predict((first - second)[half:]) == labels[half:]).mean())
    return accuracy, 3 * 0.5 / np.sqrt(len(pairs) - half)


def test_pairs_differ_in_the_pronoun_alone() -> None:
    found = found_in(["Dat is 't ,  zei DIE man die liep."] * 40)
    pairs = die_dat.as_pairs(found, seed=1)
    for row in pairs:
        original = row["text_pair"] if row["label"] == "second" else row["text"]
        assert original == "Dat is 't ,  zei DIE man die liep."
        assert shape(row["text"]) == shape(row["text_pair"])
    assert 40 <= sum(row["label"] == "second" for row in pairs) <= 80


# --- Europarl ----------------------------------------------------------------------------------------

SPEECH = [
    "Hervatting van de zitting",
    "",
    "Dat is precies het punt, mijnheer de Voorzitter, die dit al eerder heeft genoemd.",
    "De boeren die hier vandaag zijn, weten dat.",
    "dat de Raad zwijgt, is een keuze.",
]


def europarl(folder: Path, times: int = 400) -> Path:
    """A file of our own in the format of Europarl's Dutch side."""
    path = folder / "europarl-v7.nl-en.nl"
    lines = [line.replace("punt", f"punt van {number}") for number in range(times) for line in SPEECH]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def europarl_settings(file: Path, **more: Any) -> TaskSettings:
    options = {"file": str(file), **more.pop("options", {})}
    return TaskSettings(data="europarl", options=options, **more)


def test_europarl_is_split_in_its_order_by_blocks_of_lines(tmp_path: Path) -> None:
    data = load("die_dat", europarl_settings(europarl(tmp_path)))
    assert data.counts.examples == {"train": 1400, "validation": 200, "test": 400}
    lines = {split: [int(name.split("-")[0]) for name in part["example_id"]] for split, part in data.splits.items()}
    assert [*lines["train"], *lines["validation"], *lines["test"]] == sorted(
        number for part in lines.values() for number in part
    )
    clusters = {split: set(part["cluster"]) for split, part in data.splits.items()}
    assert sum(map(len, clusters.values())) == len(set.union(*clusters.values())) == 2000 / die_dat.BLOCK
    assert all(name == f"block-{n // 50}" for n, name in zip(lines["test"], data.test["cluster"], strict=True))
    assert not any(data.counts.dropped.values())  # its lines are whole: a pronoun may begin or end one


def test_europarl_gives_the_first_ten_thousand_or_what_the_profile_asks_for(tmp_path: Path) -> None:
    file = europarl(tmp_path, times=2100)
    counts = load("die_dat", europarl_settings(file)).counts.examples
    assert sum(counts.values()) == die_dat.EUROPARL_EXAMPLES
    # Splits end where a block ends.
    assert all(abs(counts[split] - 10_000 * share) <= 50 for split, share in die_dat.SHARES.items())
    asked = load("die_dat", europarl_settings(file, train=[100, 300], validation=100, test=100))
    assert sum((asked.counts.examples | asked.counts.not_sampled).values()) <= 500
    assert asked.counts.examples["train"] == 300


def test_europarl_pairs_are_two_sentences_that_differ_in_the_pronoun_alone(tmp_path: Path) -> None:
    data = load("die_dat", europarl_settings(europarl(tmp_path), options={"form": "pair"}))
    assert data.kind == "pair_classification"
    for row in data.test:
        shown = [row["text"], row["text_pair"]]
        original = shown[die_dat.PAIR_LABELS.index(row["label"])]
        assert original == row["masked"].replace(tasks.MASK, row["pronoun"])
        assert shape(shown[0]) == shape(shown[1])
    accuracy, margin = shape_accuracy([*data.train, *data.test])
    assert abs(accuracy - 0.5) < margin
    assert 0.4 < data.counts.labels["train"]["first"] / 1400 < 0.6


def test_a_europarl_file_that_is_not_right_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="options.file is missing; give the path of europarl-v7.nl-en.nl, unpacked from"
    ):
        load("die_dat", TaskSettings(data="europarl"))
    with pytest.raises(UserError, match="options.file is for europarl alone; drop it"):
        load("die_dat", TaskSettings(data="held_out", options={"file": str(europarl(tmp_path))}))
    archive = gzip.compress("Dat is één punt, toch.\n".encode())
    for content, line in ((archive, 1), ("Ja.\nDat is één punt, toch.\n".encode("latin-1"), 2)):
        file = write(tmp_path, content)
        with pytest.raises(UserError, match=f"data.txt, line {line}: not UTF-8 text; expected europarl-v7") as caught:
            load("die_dat", europarl_settings(file))
        assert "\n" not in str(caught.value)


# --- the shared interface ----------------------------------------------------------------------------


def source(held_out: Path = Path("held_out")) -> TaskSource:
    return TaskSource(held_out, seed=1, planted_strength=1.0)


def load(name: str, settings: TaskSettings, held_out: Path = Path("held_out")) -> TaskData:
    return tasks.load_task(name, {name: settings}, source(held_out))


def add_task(monkeypatch: pytest.MonkeyPatch, task: tasks.Task) -> None:
    known = {**tasks.all_tasks(), task.name: task}
    monkeypatch.setattr(tasks, "all_tasks", lambda: known)


@pytest.mark.parametrize("task", ["dbrd", "die_dat", "ner", "pos", "sick_nl"])
def test_every_task_takes_known_answer_dutch(task: str) -> None:
    settings = TaskSettings(data="known_answer", train=30, validation=10, test=20)
    data = load(task, settings)
    assert data.counts.examples == {"train": 30, "validation": 10, "test": 20}
    assert set(data.test.column_names) >= {"example_id", *tasks.COLUMNS[data.kind]}


def test_clusters_and_further_tests_are_kept_and_held_to_the_same_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {split: [{**r, "example_id": f"{split}{r['example_id']}"} for r in rows(20)] for split in tasks.SPLITS}
    made["test"] = [{**row, "cluster": f"c{number // 5}"} for number, row in enumerate(made["test"])]
    further = {"elders": [{**row, "example_id": f"elders-{row['example_id']}"} for row in rows(12)]}

    def loaded() -> TaskData:
        examples = tasks.Examples(("dat", "die"), made, further_tests=further)
        add_task(monkeypatch, tasks.Task("proef", "text_classification", "accuracy", lambda *_: examples))
        return load("proef", TaskSettings(data="x", train=[5, 10], test=8))

    data = loaded()
    assert data.train.num_rows == 10 and data.train["cluster"] == data.train["example_id"]
    assert set(data.test["cluster"]) <= {f"c{number}" for number in range(4)}
    assert list(data.further_tests) == ["elders"] and set(data.splits) == set(tasks.SPLITS)
    assert (data.counts.examples["elders"], data.counts.not_sampled["elders"]) == (8, 4)
    assert sum(data.counts.labels["elders"].values()) == 8
    further["elders"][0]["example_id"] = "test0"
    with pytest.raises(UserError, match="elders: two examples are called 'test0'"):
        loaded()
    further["elders"][0]["cluster"] = 7
    with pytest.raises(UserError, match="elders: 'cluster' must be str, not 7"):
        loaded()
    further["test"] = further.pop("elders")
    with pytest.raises(UserError, match="and other names for further tests"):
        loaded()


def test_sizes_are_drawn_with_the_seed_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {split: [{**r, "example_id": f"{split}{r['example_id']}"} for r in rows(50)] for split in tasks.SPLITS}
    task = tasks.Task("proef", "text_classification", "accuracy", lambda *_: tasks.Examples(("dat", "die"), made))
    add_task(monkeypatch, task)
    data, again = (load("proef", TaskSettings(data="x", train=20, test=5)) for _ in range(2))
    assert data.train["example_id"] == again.train["example_id"]
    assert data.counts.not_sampled == {"train": 30, "validation": 0, "test": 45}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nre", TaskSettings(data="conll2002"), "no task 'nre': did you mean 'ner'"),
        ("ner", TaskSettings(data="conll2003"), "'conll2003' is unknown; did you mean 'conll2002'"),
        ("dbrd", TaskSettings(data="hub", options={"kep": "tail"}), "unknown option 'kep'; did you mean 'keep'"),
        ("dbrd", TaskSettings(data="hub", options={"keep": "middle"}), "'middle' is not a choice; choose from: both"),
        ("pos", TaskSettings(data="known_answer", train=5), "pos.validation: known_answer needs a size"),
        ("pos", TaskSettings(data="lassysmall-r2.5"), r"no file \*-ud-train.conllu"),
        ("die_dat", TaskSettings(data="held_out"), "held_out is missing; run the notebook 10_corpus"),
    ],
)
def test_bad_settings_are_one_clear_line(
    name: str, settings: TaskSettings, message: str, request: pytest.FixtureRequest
) -> None:
    if settings.data.startswith("lassysmall"):
        request.getfixturevalue("mirror")
    with pytest.raises(UserError, match=message):
        load(name, settings)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a", "label": "dat"}, "'example_id' must be str"),
        ({"example_id": "1", "text": None, "label": "dat"}, "'text' must be str"),
        ({"example_id": "1", "text": "a", "label": "dta"}, "unknown label 'dta'; did you mean 'dat'"),
        ({"example_id": "test0", "text": "a", "label": "dat"}, "two examples are called 'test0'"),
    ],
)
def test_mistakes_in_a_user_s_task_are_named(
    monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], message: str
) -> None:
    made = {split: [{**r, "example_id": f"{split}{r['example_id']}"} for r in rows(3)] for split in tasks.SPLITS}
    made["test"].append(row)
    task = tasks.Task("proef", "text_classification", "accuracy", lambda *_: tasks.Examples(("dat", "die"), made))
    add_task(monkeypatch, task)
    with pytest.raises(UserError, match=message):
        load("proef", TaskSettings(data="x"))


def test_a_task_that_the_profile_lacks_is_named() -> None:
    with pytest.raises(UserError, match="profile has no task 'ner'; choose from: pos"):
        tasks.load_task("ner", {"pos": TaskSettings(data="x")}, source())


def test_a_run_gives_a_reader_what_it_may_draw_on() -> None:
    run = open_run("smoke")
    strength = run.profile.gender_bias.planted_strength
    assert TaskSource.of(run) == TaskSource(run.paths.held_out, run.profile.seed, strength)


def test_die_dat_comes_from_the_held_out_store(tmp_path: Path) -> None:
    texts = [f"De man die {word} zag, en het kind dat zweeg." for word in ("niets", "alles", "iets")] * 10
    columns = {"document_id": [f"d{i // 2}" for i in range(30)], "file": [f"boek{i // 3}" for i in range(30)]}
    store = Dataset.from_dict({"text": texts, **columns})
    store.save_to_disk(str(tmp_path / "held_out"))
    data = load("die_dat", TaskSettings(data="held_out"), tmp_path / "held_out")
    assert sum(data.counts.examples.values()) == 60
    homes = [{int(i.split("-")[0]) // 3 for i in part["example_id"]} for part in data.splits.values()]
    assert sum(map(len, homes)) == len(set.union(*homes)) == 10  # books
    for row in data.train:
        assert row["cluster"] == f"d{int(row['example_id'].split('-')[0]) // 2}"
    both = {"die": data.test.num_rows // 2, "dat": data.test.num_rows // 2}
    assert data.counts.labels["test"] == both


def test_no_path_of_the_project_is_spelt_in_a_task() -> None:
    assert not any(
        "papermill_runs" in file.read_text() for file in (paths.PROJECT / "robbertje_lib/tasks").glob("*.py")
    )


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nre", {"data": "conll2002"}, "finetuning.tasks: no task 'nre': did you mean 'ner'?"),
        ("ner", {"data": "conll2003"}, "finetuning.tasks.ner.data: 'conll2003' is unknown; did you mean 'conll2002'?"),
    ],
)
def test_a_profile_with_a_task_that_there_is_not_ends_in_one_line(
    name: str, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        tasks.check_tasks({name: TaskSettings(**settings)})
