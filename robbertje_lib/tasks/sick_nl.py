"""SICK-NL: does one sentence entail another, contradict it, or neither (Wijnholds & Moortgat 2021)?

A tab-separated file with its own split: 4,439 training, 495 trial (validation) and 4,906 test pairs.

Pairs share sentences. Those of a split that are joined by what they share are one cluster: 860 in the test split, the
largest of 364 pairs (7.4 %). Over them the scores of logistic regression on words vary 1.4 to 1.5 times as much as over
as many single pairs, so that resampling pairs would make standard errors a fifth too small.
"""

import csv
import io
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from robbertje_lib.experiment import sources
from robbertje_lib.experiment.profile import TaskSettings
from robbertje_lib.tasks import SPLITS, Examples, Row, Task, TaskSource
from robbertje_lib.tasks.reading import known_answer_examples, malformed, read_text

LABELS = ("CONTRADICTION", "ENTAILMENT", "NEUTRAL")
SEMEVAL_SETS = {"TRAIN": "train", "TRIAL": "validation", "TEST": "test"}
NEEDED = ("pair_ID", "sentence_A", "sentence_B", "entailment_label", "SemEval_set")


def read_entailment(settings: TaskSettings, source: TaskSource) -> Examples:
    """The sentence pairs that the profile asks for."""
    if settings.data == "known_answer":
        return known_answer_examples("sick_nl", LABELS, settings, source)
    splits = parse_pairs(sources.fetch("sick_nl")[0])
    return Examples(LABELS, {split: with_clusters(rows) for split, rows in splits.items()})


def with_clusters(rows: list[Row]) -> list[Row]:
    """The rows with their `cluster`: that of all rows which are joined by sentences, directly or through others."""
    numbers: dict[str, int] = {}
    ends = [[numbers.setdefault(row[side], len(numbers)) for row in rows] for side in ("text", "text_pair")]
    joined = coo_array((np.ones(len(rows)), ends), shape=(len(numbers), len(numbers)))
    component = connected_components(joined, directed=False)[1]
    return [{**row, "cluster": f"sick-{component[end]}"} for row, end in zip(rows, ends[0], strict=True)]


def parse_pairs(path: Path) -> dict[str, list[Row]]:
    """Pairs by split. Raises `UserError` with file and line for a malformed file."""
    # The file has no quoting: a double quote is a character of the sentence.
    lines = csv.reader(io.StringIO(read_text(path), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    header = next(lines, [])
    absent = [column for column in NEEDED if column not in header]
    if absent:
        raise malformed(path, 1, f"no column {', '.join(absent)}", f"a header with {', '.join(NEEDED)}")
    splits: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for number, fields in enumerate(lines, 2):
        if len(fields) != len(header):
            raise malformed(path, number, f"{len(fields)} fields", f"{len(header)}, separated by tabs")
        pair = dict(zip(header, fields, strict=True))
        if pair["entailment_label"] not in LABELS:
            raise malformed(path, number, f"label '{pair['entailment_label']}'", " or ".join(LABELS))
        if pair["SemEval_set"] not in SEMEVAL_SETS:
            raise malformed(path, number, f"SemEval_set '{pair['SemEval_set']}'", " or ".join(SEMEVAL_SETS))
        if not pair["sentence_A"].strip() or not pair["sentence_B"].strip():
            raise malformed(path, number, "an empty sentence", "two sentences")
        splits[SEMEVAL_SETS[pair["SemEval_set"]]].append(
            {
                "example_id": f"sick-{pair['pair_ID']}",
                "text": pair["sentence_A"],
                "text_pair": pair["sentence_B"],
                "label": pair["entailment_label"],
            }
        )
    return splits


TASK = Task(
    name="sick_nl",
    kind="pair_classification",
    metric="accuracy",
    read=read_entailment,
    data=("sick_nl", "known_answer"),
)
