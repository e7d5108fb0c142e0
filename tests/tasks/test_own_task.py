"""A task of the user's own, one new file and one line of a profile, goes through to figures and into the plan.

It runs in a copy of the project, as a user's checkout would be.
"""

import json
import re
from pathlib import Path

import pytest

from robbertje_lib import tasks
from robbertje_lib.experiment.errors import UserError
from tests.support.own_checkout import call, copy_project

TENSE = '''"""Tense: is a sentence of known-answer Dutch in the present or in the past?"""

from robbertje_lib.known_answer import documents
from robbertje_lib.tasks import Examples, Task


def read(settings, source):
    made = sentences(source.seed)
    rows = {split: [next(made) for _ in range(size)] for split, size in settings.sizes.items()}
    return Examples(("past", "present"), rows)


def sentences(seed):
    """Each sentence with one tense, once."""
    seen = set()
    for document in documents.generate([seed, 6]):
        for sentence in document.sentences:
            tenses = {slot[5:] for slot in sentence.slots if slot in ("verb_past", "verb_present")}
            if len(tenses) == 1 and sentence.text not in seen:
                seen.add(sentence.text)
                yield {"example_id": f"tense-{len(seen)}", "text": sentence.text, "label": tenses.pop()}


TASK = Task(name="tense", kind="text_classification", metric="accuracy", read=read)
'''
LINE = "    tense: {data: known_answer, train: 200, validation: 40, test: 60}\n"
STAGES = """
import json, sys
from tests.evaluation.test_evaluation_stages import untrained_run
from robbertje_lib.conclusions import comparisons
from robbertje_lib.show import figures
from robbertje_lib.evaluation import finetuning, pseudo_perplexity

run = untrained_run(sys.argv[1], 1.0)
pseudo_perplexity.score_models(run)
scores = finetuning.finetune_task(run, "tense")
comparisons.compare_models(run)
panels = [axes.get_title(loc="left") for axes in figures.plot(run, "task_scores").axes]
saved = figures.draw(run, "task_scores")
print(json.dumps({"panels": panels, "scores": scores.model_dump(), "figures": str(run.paths.figures)}))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the new task, and `mine.yaml`: the smoke profile with one more line, and less of it."""
    root = tmp_path_factory.mktemp("checkout")
    mine = re.sub(r"(?m)^    (dbrd|die_dat|ner|pos|sick_nl): .*\n", "", copy_project(root, STAGES))
    (root / "robbertje_lib" / "tasks" / "tense.py").write_text(TENSE, encoding="utf-8")
    (root / "mine.yaml").write_text(mine.replace("  tasks:\n", f"  tasks:\n{LINE}"), encoding="utf-8")
    return root


def test_a_task_of_ones_own_is_trained_tested_compared_and_drawn(checkout: Path) -> None:
    told = json.loads(call(checkout, "stages.py", "./mine.yaml").splitlines()[-1])
    assert told["panels"][0] == "tense (n = 60)"
    assert told["scores"]["labels"] == ["past", "present"]
    assert {run["model"] for run in told["scores"]["runs"]} == {
        *("teacher", "merged", "random_teacher", "random_distilbert"),
    }
    results = checkout / "papermill_runs" / "mine" / "results"
    significance = json.loads((results / "significance.json").read_text(encoding="utf-8"))
    compared = [row for row in significance["comparisons"] if row["task"] == "tense"]
    assert [(row["a"], row["b"], row["n"]) for row in compared] == [("merged", "teacher", 60)]
    assert "tense (n = 60)" in (Path(told["figures"]) / "task_scores.svg").read_text(encoding="utf-8")


def test_it_becomes_a_stage_that_reruns_with_its_file(checkout: Path) -> None:
    planned = call(checkout, "-m", "robbertje_lib", "plan", "--profile", "./mine.yaml")
    assert re.findall(r"50_finetuning-\w+", planned) == ["50_finetuning-tense"]
    told = call(
        checkout,
        "-c",
        "from pathlib import Path; from robbertje_lib.workflow.dependencies import modules_of; "
        "print(*modules_of(Path('notebooks/50_finetuning.ipynb'), (), ['tasks.tense']), sep='\\n')",
    )
    assert str(checkout / "robbertje_lib" / "tasks" / "tense.py") in told.splitlines()


def test_file_and_task_have_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tijd.py").write_text(TENSE, encoding="utf-8")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    with pytest.raises(UserError, match=r"tasks/tijd.py: its task is called 'tense'; give both one name"):
        tasks.all_tasks()
