"""An arm of the user's own, one new file and one line of a profile, goes through to a student and into the plan.

It runs in a copy of the project, as a user's checkout would be.
"""

import json
import re
from pathlib import Path

import pytest

from tests.support.own_checkout import call, copy_project

BACKWARDS = '''"""The arm `backwards`: each document from its last line to its first, in random order."""

from robbertje_lib.corpus.arms import Arm
from robbertje_lib.corpus.lines import Line


def lines(documents, settings, generator):
    for index in generator.permutation(len(documents)):
        document = documents[index]
        yield from (Line(text, document.id) for text in reversed(document.lines))


ARM = Arm(name="backwards", description="documents in random order, each from its last line to its first", lines=lines)
'''
LINE = "  arms: [merged, backwards]\n"
STUDENT = "  own: {arm: backwards, selection: same_lines, shape: bort, recipe: fast}\n"
STAGES = """
import json, sys
from transformers import AutoTokenizer
from tests.support.build_corpus import build_corpus
from robbertje_lib.distillation.student import distil
from robbertje_lib.experiment.run import open_run
from robbertje_lib.models.shapes import build_teacher, save_model
from robbertje_lib.show.tables import corpus as corpus_tables

run = open_run(sys.argv[1])
_, arms = build_corpus(run)
tokenizer = AutoTokenizer.from_pretrained(run.paths.tokenizer)
save_model(build_teacher(run.profile.teacher, tokenizer, 1), tokenizer, run.paths.model("teacher"))
distil(run, "own")
print(json.dumps({
    "text": corpus_tables.arms_table(run.profile.corpus).loc["backwards", "text"],
    "stores": [list(pair) for pair in corpus_tables.length_table(arms)],
    "lines": [arm.selections["same_lines"].lines for arm in arms],
    "student": json.loads(run.paths.result("distillation", "own.json").read_text())["arm"],
}))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the new arm, and `mine.yaml`: the smoke profile with two arms, and less of it."""
    root = tmp_path_factory.mktemp("checkout")
    mine = copy_project(root, STAGES).replace("students:\n", f"students:\n{STUDENT}")
    (root / "robbertje_lib" / "corpus" / "arms" / "backwards.py").write_text(BACKWARDS, encoding="utf-8")
    mine = re.sub(r"(?m)^  arms: .*\n", f"{LINE}  selections: [head, same_lines]\n", mine)
    (root / "mine.yaml").write_text(mine, encoding="utf-8")
    return root


def test_an_arm_of_ones_own_is_built_described_and_read_by_a_student(checkout: Path) -> None:
    told = json.loads(call(checkout, "stages.py", "./mine.yaml").splitlines()[-1])
    assert told["text"].startswith("documents in random order")
    assert told["stores"] == [[s, arm] for s in ("head", "same_lines") for arm in ("merged", "backwards")]
    merged, backwards = told["lines"]
    assert merged < backwards
    assert told["student"] == "backwards"


def test_its_student_is_planned(checkout: Path) -> None:
    planned = call(checkout, "-m", "robbertje_lib", "plan", "--profile", "./mine.yaml")
    assert set(re.findall(r"30_distillation-\w+", planned)) == {"30_distillation-own", "30_distillation-merged"}
