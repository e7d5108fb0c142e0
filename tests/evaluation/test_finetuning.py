"""Fine-tuning end to end on tiny models: results, resuming, the search, and a task of the user's own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from robbertje_lib import tasks
from robbertje_lib.corpus.tokenization import train_tokenizer
from robbertje_lib.evaluation import finetuning, finetuning_trainer
from robbertje_lib.evaluation.finetuning_trainer import EncodedTask, Outcome
from robbertje_lib.experiment import profile
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.finetuning import HyperParameters, Predictions, TaskScores
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.known_answer import labels
from robbertje_lib.models import shapes
from robbertje_lib.tasks.metrics import majority_baseline, task_score

SIZES = {"train": 48, "validation": 16, "test": 24}


def bpe(maximum_length: int) -> PreTrainedTokenizerFast:
    lines = [row["text"] for row in labels.task_examples("dbrd", SIZES, 1)["train"]]
    return train_tokenizer(lines, profile.Tokenizer(vocabulary=400, maximum_length=maximum_length))


def tiny_run(students: int = 1, **finetuning: Any) -> Run:
    """A run of the smoke profile with random models, small enough to fine-tune in a second."""
    base = open_run("smoke")
    task = {n: profile.TaskSettings(data="known_answer", **SIZES) for n in ("dbrd", "ner", "sick_nl", "die_dat", "pos")}
    settings = {"tasks": task, "seeds": [1, 2], "epochs": 1.0, "batch_size": 8, **finetuning}
    chosen = dict(list(base.profile.students.items())[:students])
    changed = base.profile.finetuning.model_copy(update=settings)
    run = Run(base.profile.model_copy(update={"finetuning": changed, "students": chosen}), base.paths)
    tokenizer = bpe(48)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=50, pad_token_id=1, type_vocab_size=1,
    )  # fmt: skip
    for number, name in enumerate(run.profile.models):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            shapes.save_model(RobertaForMaskedLM(config), tokenizer, run.paths.model(name))
    return run


def strip_seconds(scores: TaskScores) -> TaskScores:
    return scores.model_copy(update={"runs": [entry.model_copy(update={"seconds": 0.0}) for entry in scores.runs]})


def settings(**changed: Any) -> HyperParameters:
    """One epoch of the smallest run, scored once."""
    given = {"learning_rate": 1e-3, "weight_decay": 0.0, "accumulation": 1, "epochs": 1.0, "batch_size": 8}
    return HyperParameters(**given | {"evaluations": 1, "early_stopping": 0} | changed)


def load(run: Run, task: str) -> tasks.TaskData:
    return tasks.load_task(task, run.profile.finetuning.tasks, tasks.TaskSource.of(run))


@pytest.mark.parametrize("task", ["dbrd", "ner", "sick_nl"])
def test_every_kind_of_task_gives_predictions_and_scores(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run()
    scores = finetuning.finetune_task(run, task)
    printed = capsys.readouterr()
    assert TaskScores.read(run, task=task) == scores
    table = Predictions.read(run, task=task).to_pandas()
    assert table.columns.tolist() == ["model", "seed", "example_id", "gold", "prediction", "n_tokens"]
    assert len(table) == len(run.profile.models) * 2 * SIZES["test"]
    assert table.groupby(["model", "seed"])["example_id"].nunique().eq(SIZES["test"]).all()
    data = load(run, task)
    for entry in scores.runs:
        rows = table[(table["model"] == entry.model) & (table["seed"] == entry.seed)]
        assert rows["example_id"].tolist() == data.test["example_id"]
        again = task_score(scores.metric, rows["gold"].tolist(), rows["prediction"].tolist())
        assert entry.metrics[scores.metric] == again
    assert (scores.lexicon_baseline is None) == (task != "ner")
    assert not run.paths.checkpoints(f"finetuning-{task}").exists()
    assert printed.out.count("\n") == 4 and "4/4" in printed.out and "left" in printed.out
    assert "LOAD REPORT" not in printed.err + printed.out


def test_an_interrupted_grid_goes_on_and_equals_an_uninterrupted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run()
    whole = finetuning.finetune_task(run, "dbrd")
    real, calls = finetuning.fine_tune, []

    def stop_after(limit: int) -> None:
        calls.clear()

        def counted(*arguments: Any) -> Any:
            calls.append(arguments)
            if len(calls) > limit:
                raise KeyboardInterrupt
            return real(*arguments)

        monkeypatch.setattr(finetuning, "fine_tune", counted)

    stop_after(3)
    with pytest.raises(KeyboardInterrupt):
        finetuning.finetune_task(run, "dbrd")
    stop_after(100)
    resumed = finetuning.finetune_task(run, "dbrd")
    assert len(calls) == 1
    assert strip_seconds(resumed) == strip_seconds(whole)


def test_stored_runs_are_not_reused_for_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(seeds=[1])
    real, calls = finetuning.fine_tune, []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(finetuning, "fine_tune", counted)
    monkeypatch.setattr(finetuning.artefacts, "remove", lambda path: None)
    finetuning.finetune_task(run, "dbrd")
    student = run.paths.model(run.profile.models[1])
    model = RobertaForMaskedLM.from_pretrained(student)
    model.roberta.embeddings.word_embeddings.weight.data[7] += 1
    model.save_pretrained(student)
    finetuning.finetune_task(run, "dbrd")
    assert [call[0].source for call in calls[2:]] == [str(student)]


def test_the_search_judges_on_validation_and_reads_test_for_the_best_only(monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(trials=3, learning_rate=(1e-5, 1e-2), weight_decay=(0.0, 0.1), accumulation=[1, 2], seeds=[4, 5])
    real, calls = finetuning.fine_tune, []

    def recorded(pretrained: Any, task: Any, hyper: HyperParameters, seed: int, test: bool) -> Any:
        outcome = real(pretrained, task, hyper, seed, test)
        calls.append((pretrained.source, hyper, seed, test, outcome))
        return outcome

    monkeypatch.setattr(finetuning, "fine_tune", recorded)
    scores = finetuning.finetune_task(run, "dbrd", models=["teacher"])
    trials = [call for call in calls if not call[3]]
    assert len(trials) == 3 and all(call[4].test is None for call in trials)
    assert len({call[1].learning_rate for call in trials}) == 3
    assert all(1e-5 <= call[1].learning_rate <= 1e-2 for call in trials)
    best = max(trials, key=lambda call: call[4].validation)[1]
    assert [(call[1], call[2]) for call in calls[3:]] == [(best, 4), (best, 5)]
    assert scores.runs[0].hyper_parameters == best


def test_a_run_that_stands_still_is_stopped_and_its_best_state_tested() -> None:
    run = tiny_run()
    task, pretrained = encoded(run, "dbrd")
    still = settings(learning_rate=1e-12, epochs=6.0, evaluations=12, early_stopping=2)
    outcome = finetuning_trainer.fine_tune(pretrained, task, still, 1, True)
    assert outcome.updates == 9  # the first of 12 evaluations is best; two more, three updates apart, change nothing
    assert len(outcome.test or []) == SIZES["test"]


def test_a_model_learns() -> None:
    """Most words of known-answer Dutch have one tag, which a tiny model finds without any pre-training."""
    run = tiny_run(tasks={"pos": profile.TaskSettings(data="known_answer", train=200, validation=20, test=50)})
    task, pretrained = encoded(run, "pos")
    outcome = finetuning_trainer.fine_tune(
        pretrained, task, settings(learning_rate=1e-2, epochs=3.0, batch_size=16), 1, True
    )
    baseline = majority_baseline("accuracy", task.gold["train"], task.gold["test"])
    assert task_score("accuracy", task.gold["test"], outcome.test or []) > baseline + 0.2


def encoded(run: Run, name: str) -> tuple[EncodedTask, finetuning.PretrainedModel]:
    contender = finetuning.contenders_of(run, load(run, name), ["teacher"])[0]
    return contender.task, contender.pretrained


def test_zero_shot_scores_count_misses_and_skipped_pronouns() -> None:
    run = tiny_run()
    scores = finetuning.finetune_task(run, "die_dat", models=["teacher"], seeds=[1])
    zero_shot = scores.extra_metrics["teacher"]
    assert zero_shot["zero_shot_n"] + zero_shot["zero_shot_skipped"] == SIZES["test"]
    # The vocabulary is smaller than the rank that counts as a miss.
    assert zero_shot["zero_shot_misses"] == 0
    assert zero_shot["zero_shot_accuracy"] == zero_shot["zero_shot_accuracy_robbert"]


def test_a_task_of_one_file_and_one_profile_line_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weer.py").write_text(
        "from robbertje_lib.tasks import Examples, Task\n"
        "def read(settings, source):\n"
        "    def rows(split, n):\n"
        "        return [{'example_id': f'{split}{i}', 'text': f'Het is {\"nat\" if i % 2 else \"droog\"} op dag {i}.',\n"
        "                 'label': 'regen' if i % 2 else 'zon'} for i in range(n)]\n"
        "    return Examples(('regen', 'zon'), {s: rows(s, 20) for s in ('train', 'validation', 'test')})\n"
        "TASK = Task('weer', 'text_classification', 'accuracy', read)\n"
    )
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    run = tiny_run(tasks={"weer": profile.TaskSettings(data="zelf")}, seeds=[1])
    scores = finetuning.finetune_task(run, "weer")
    assert scores.counts.examples == {"train": 20, "validation": 20, "test": 20}
    assert scores.majority_baseline == 0.5


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UserError, match="no model 'teachr' in this run: did you mean 'teacher'"):
        finetuning.finetune_task(tiny_run(), "dbrd", models=["teachr"])


def test_predictions_come_back_in_the_order_of_the_examples() -> None:
    """Batches are sorted by length; a model that only knows a text's first word must still answer each in its place."""
    run = tiny_run()
    task, pretrained = encoded(run, "pos")
    first = finetuning_trainer.fine_tune(pretrained, task, settings(), 3, True)
    assert [len(labels) for labels in first.test or []] == [len(labels) for labels in task.gold["test"]]
    again = finetuning_trainer.fine_tune(pretrained, task, settings(), 3, True)
    assert first.test == again.test and first.validation == again.validation


def test_the_state_that_is_tested_is_the_best_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(tasks={"pos": profile.TaskSettings(data="known_answer", train=200, validation=20, test=50)})
    task, pretrained = encoded(run, "pos")

    def scored_as(*scores: float, early_stopping: int = 0) -> Outcome:
        told = iter(scores)
        monkeypatch.setattr(finetuning_trainer, "task_score", lambda *_: next(told))
        hyper = settings(learning_rate=1e-2, epochs=2.0, evaluations=4, early_stopping=early_stopping)
        return finetuning_trainer.fine_tune(pretrained, task, hyper, 1, True)

    second, stopped, last = (
        scored_as(0.1, 0.9, 0.3, 0.2),
        scored_as(0.1, 0.9, 0.3, early_stopping=1),
        scored_as(0.1, 0.2, 0.3, 0.4),
    )
    assert [outcome.validation for outcome in (second, stopped, last)] == [0.9, 0.9, 0.4]
    assert second.test == stopped.test != last.test
    assert stopped.updates < second.updates == last.updates


def test_a_kept_run_that_is_damaged_is_told() -> None:
    run = tiny_run()
    outcome = Outcome(validation=0.5, test=["a", "b"], seconds=1.0, updates=3)
    outcome.write(run, task="dbrd", key="teacher-1")
    assert Outcome.read(run, task="dbrd", key="teacher-1") == outcome
    path = Outcome.path(run, task="dbrd", key="teacher-1")
    path.write_text(path.read_text().replace('"updates": 3', '"updates": "three"'))
    with pytest.raises(UserError, match=r"is damaged \(updates: .*; delete it"):
        Outcome.read(run, task="dbrd", key="teacher-1")
