"""Fine-tuning end to end on tiny models: results, sizes, controls, resuming, the search, a task of the user's own."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from robbertje_lib import tasks
from robbertje_lib.corpus.tokenization import train_tokenizer
from robbertje_lib.evaluation import contenders, finetuning, finetuning_trainer
from robbertje_lib.evaluation.finetuning_trainer import EncodedTask, Outcome, PretrainedModel
from robbertje_lib.experiment import profile
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.finetuning import TEST, ZERO_SHOT, HyperParameters, Predictions, TaskScores
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.known_answer import labels
from robbertje_lib.models import shapes
from robbertje_lib.tasks.metrics import task_score

BASELINES = {"dbrd": "tf_idf", "ner": "word_list", "sick_nl": "shared_ngrams"}
SIZES = {"train": 48, "validation": 16, "test": 24}


def bpe(maximum_length: int) -> PreTrainedTokenizerFast:
    lines = [row["text"] for row in labels.task_examples("dbrd", SIZES, 1)["train"]]
    return train_tokenizer(lines, profile.Tokenizer(vocabulary=400, maximum_length=maximum_length))


def tiny_run(students: int = 1, replicates: int = 1, **finetuning: Any) -> Run:
    """A run of the smoke profile with random models, small enough to fine-tune in a second."""
    base = open_run("smoke")
    task = {n: task_settings() for n in ("dbrd", "ner", "sick_nl", "die_dat", "pos")}
    settings = {"tasks": task, "seeds": [1, 2], "epochs": 1.0, "batch_size": 8, "restarts": 0, **finetuning}
    chosen = dict(list(base.profile.students.items())[:students])
    changed = base.profile.finetuning.model_copy(update=settings)
    update = {"finetuning": changed, "students": chosen, "replicates": replicates}
    run = Run(base.profile.model_copy(update=update), base.paths)
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


def task_settings(**changed: Any) -> profile.TaskSettings:
    return profile.TaskSettings.model_validate({"data": "known_answer", **SIZES, **changed})


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
    run = tiny_run(tasks={task: task_settings(train=[24, 48])})
    scores = finetuning.finetune_task(run, task)
    printed = capsys.readouterr()
    assert TaskScores.read(run, task=task) == scores
    table = Predictions.read(run, task=task).to_pandas()
    own = [*run.profile.models, *run.profile.controls]
    assert [baseline.name for baseline in scores.baselines[:2]] == ["majority", BASELINES[task]]
    assert list(dict.fromkeys(table["model"])) == [*own, "majority", BASELINES[task]]
    assert len(table) == (len(own) * 2 + 2) * 2 * SIZES["test"]
    one = table.groupby(["model", "seed", "train"])["example_id"]
    assert one.nunique().eq(SIZES["test"]).all()
    data = load(run, task)
    assert table["cluster"].tolist() == list(data.test["cluster"]) * one.ngroups
    rows = dict(list(table.groupby(["model", "seed", "train"])))
    told = [(r.model, r.seed, r.train, r.metrics[scores.metric]) for r in scores.runs]
    told += [(b.name, 0, b.train, b.score) for b in scores.baselines]
    assert len(told) == one.ngroups and scores.sizes == [24, 48]
    for *run_of, score in told:
        own_rows = rows[tuple(run_of)]
        assert own_rows["example_id"].tolist() == list(data.test["example_id"])
        assert score == task_score(scores.metric, own_rows["gold"].tolist(), own_rows["prediction"].tolist())
    assert not run.paths.checkpoints(f"finetuning-{task}").exists()
    assert "16/16" in printed.out and "left" in printed.out and printed.out.count("baseline") == 4
    assert "LOAD REPORT" not in printed.err + printed.out


def test_a_control_differs_from_its_model_in_its_weights_alone() -> None:
    run = tiny_run()
    teacher, _, control, _ = contenders.contenders_of(run, load(run, "dbrd"))
    assert (control.name, control.group) == ("random_teacher", "random_teacher")
    assert control.task is teacher.task and control.digest != teacher.digest and control.pretrained.random
    built = [
        finetuning_trainer.build_model(pretrained, False, ("a", "b"), seed)
        for pretrained, seed in (
            (teacher.pretrained, 1),
            (control.pretrained, 1),
            (control.pretrained, 1),
            (control.pretrained, 2),
        )
    ]
    model, random, again, other = (dict(one.named_parameters()) for one in built)
    assert built[0].config.to_diff_dict().keys() - {"_name_or_path"} == built[1].config.to_diff_dict().keys() - {
        "_name_or_path"
    }
    assert {n: p.shape for n, p in model.items()} == {n: p.shape for n, p in random.items()}
    matrices = [name for name, parameter in random.items() if parameter.dim() > 1 and "token_type" not in name]
    assert all(torch.equal(random[name], again[name]) for name in random)
    assert not any(
        torch.equal(random[name], other[name]) or torch.equal(random[name], model[name]) for name in matrices
    )
    pretrained = RobertaForMaskedLM.from_pretrained(teacher.pretrained.source)
    name = "roberta.embeddings.word_embeddings.weight"
    assert torch.equal(model[name], dict(pretrained.named_parameters())[name])


def test_a_model_that_knows_the_task_is_above_its_control() -> None:
    """A teacher whose encoder was fine-tuned on much of the task, and its control, on little of it."""
    small = task_settings(train=[60, 400], validation=40, test=100)
    run = tiny_run(tasks={"pos": small}, learning_rate=(5e-3, 5e-3), epochs=2.0)
    teacher = contenders.contenders_of(run, load(run, "pos"), ["teacher"])[0]
    large = settings(learning_rate=5e-3, epochs=4.0)
    knowing = finetuning_trainer.build_model(teacher.pretrained, True, load(run, "pos").labels, 1)
    _train(knowing, teacher.task, large)
    masked_lm = RobertaForMaskedLM.from_pretrained(teacher.pretrained.source)
    masked_lm.roberta.load_state_dict(knowing.roberta.state_dict())
    masked_lm.save_pretrained(teacher.pretrained.source)
    scores = finetuning.finetune_task(run, "pos", models=["teacher", "random_teacher"], seeds=[1, 2])
    at = {(r.model, r.train, r.seed): r.metrics["accuracy"] for r in scores.runs}
    assert all(at["teacher", 60, seed] > at["random_teacher", 60, seed] + 0.1 for seed in (1, 2))


def _train(model: torch.nn.Module, task: EncodedTask, hyper: HyperParameters) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), hyper.learning_rate)
    for _ in range(int(hyper.epochs)):
        for feature in task.training(range(len(task.data.train))):
            loss = model(**{name: torch.tensor([ids]) for name, ids in feature.items()}).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def test_smaller_sizes_lie_within_larger_ones_and_hold_every_label(capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run(tasks={"ner": task_settings(train=300)})
    data = load(run, "ner")
    subsets = finetuning.nested_subsets(data, [4, 20, 100, 5000], 1)
    assert list(subsets) == [4, 20, 100, 300] and [len(rows) for rows in subsets.values()] == [4, 20, 100, 300]
    small, middle, large, whole = map(set, subsets.values())
    assert small < middle < large < whole == set(range(300))
    there = {label for row in data.train["labels"] for label in row}
    assert {label for row in data.train.select(subsets[20])["labels"] for label in row} == there
    assert "ner: 4 training examples hold no" in capsys.readouterr().out
    assert finetuning.nested_subsets(data, [20], 1)[20] == subsets[20] != finetuning.nested_subsets(data, [20], 2)[20]
    assert finetuning.nested_subsets(data, [None], 1) == {300: list(range(300))}
    assert finetuning.nested_subsets(data, [20, None], 1) == {20: subsets[20], 300: list(range(300))}


def test_a_run_learns_from_its_own_rows_alone() -> None:
    run = tiny_run()
    task, pretrained = encoded(run, "dbrd")
    chosen = [3, 5, 8, 13, 21, 34]
    outcome = finetuning_trainer.fine_tune(pretrained, task, settings(batch_size=2), 1, chosen, [])
    assert outcome.updates == 3 and outcome.answers == {}
    assert task.training(chosen) == [task.sets["train"].features[row] for row in chosen]


def test_replicates_have_seeds_of_their_own_and_share_the_search_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    small = task_settings(train=[16, 32])
    run = tiny_run(replicates=2, seeds=[1], trials=2, learning_rate=(1e-5, 1e-2), tasks={"dbrd": small})
    real, calls = finetuning.fine_tune, []

    def recorded(pretrained: PretrainedModel, *arguments: Any) -> Any:
        calls.append((Path(pretrained.source).name, pretrained.random, len(arguments[3]), len(arguments[4])))
        return real(pretrained, *arguments)

    monkeypatch.setattr(finetuning, "fine_tune", recorded)
    scores = finetuning.finetune_task(run, "dbrd")
    student = next(iter(run.profile.students))
    trials = [call for call in calls if not call[3]]
    searched = [("teacher", False), (student, False), ("teacher", True), (student, True)]
    assert trials == [(*group, 32, 0) for group in searched for _ in range(2)]
    seeds = {
        model: sorted({r.seed for r in scores.runs if r.model == model})
        for model in [*run.profile.models, *run.profile.controls]
    }
    assert seeds == {model: sorted(run.profile.finetuning_seeds(model)) for model in seeds}
    assert len(seeds["teacher"]) == len(seeds["random_teacher"]) == 2 and len(seeds[f"{student}.2"]) == 1
    used = {r.model: r.hyper_parameters for r in scores.runs}
    assert used[student] == used[f"{student}.2"]


def test_only_the_largest_size_answers_further_test_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    further = "further_tests={'elders': rows('elders', 7)}"
    run = own_task("weer_van_toen", tmp_path, monkeypatch, further, train=[10, 20])
    scores = finetuning.finetune_task(run, "weer_van_toen")
    assert scores.further_tests == {"elders": 7}
    assert {(r.train, *r.further) for r in scores.runs} == {(10,), (20, "elders")}
    assert {(b.train, *b.further) for b in scores.baselines} == {(10,), (20, "elders")}
    table = Predictions.read(run, task="weer_van_toen").to_pandas()
    elders = table[table["test_set"] == "elders"]
    assert set(elders["train"]) == {20} and set(elders.groupby(["model", "seed"]).size()) == {7}
    assert set(table[table["test_set"] == TEST]["train"]) == {10, 20}


def test_dropout_is_the_models_own_unless_the_profile_says_otherwise() -> None:
    run = tiny_run()
    path = run.paths.model("teacher")
    config = RobertaConfig.from_pretrained(path, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2)
    config.save_pretrained(path)
    for given, rates in ((None, (0.3, 0.2)), (0.0, (0.0, 0.0)), (0.05, (0.05, 0.05))):
        changed = run.profile.finetuning.model_copy(update={"dropout": given})
        asked = Run(run.profile.model_copy(update={"finetuning": changed}), run.paths)
        for contender in contenders.contenders_of(asked, load(run, "dbrd"), ["teacher", "random_teacher"]):
            built = finetuning_trainer.build_model(contender.pretrained, False, ("a", "b"), 1).config
            assert (built.hidden_dropout_prob, built.attention_probs_dropout_prob) == rates


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
    assert len(calls) == 5
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
    first = len(calls)
    student = run.paths.model(run.profile.models[1])
    model = RobertaForMaskedLM.from_pretrained(student)
    model.roberta.embeddings.word_embeddings.weight.data[7] += 1
    model.save_pretrained(student)
    finetuning.finetune_task(run, "dbrd")
    anew = [(call[0].source, call[0].random) for call in calls[first:]]
    assert set(anew) == {(str(student), False), (str(student), True)}  # the control of its shape, too


def test_the_search_judges_on_validation_and_reads_test_for_the_best_only(monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(trials=3, learning_rate=(1e-5, 1e-2), weight_decay=(0.0, 0.1), accumulation=[1, 2], seeds=[4, 5])
    real, calls = finetuning.fine_tune, []

    def recorded(pretrained: Any, task: Any, hyper: HyperParameters, seed: int, *more: Any) -> Any:
        outcome, tests = real(pretrained, task, hyper, seed, *more), more[1]
        calls.append((pretrained.source, hyper, seed, tests, outcome))
        return outcome

    monkeypatch.setattr(finetuning, "fine_tune", recorded)
    scores = finetuning.finetune_task(run, "dbrd", models=["teacher"])
    trials = [call for call in calls if not call[3]]
    assert len(trials) == 3 and all(call[4].answers == {} for call in trials)
    assert len({call[1].learning_rate for call in trials}) == 3
    assert all(1e-5 <= call[1].learning_rate <= 1e-2 for call in trials)
    best = max(trials, key=lambda call: call[4].validation)[1]
    assert [(call[1], call[2]) for call in calls[3:]] == [
        (best, seed) for seed in run.profile.finetuning_seeds("teacher")
    ]
    assert scores.runs[0].hyper_parameters == best


def test_a_run_that_stands_still_is_stopped_and_its_best_state_tested() -> None:
    run = tiny_run()
    task, pretrained = encoded(run, "dbrd")
    still = settings(learning_rate=1e-12, epochs=6.0, evaluations=12, early_stopping=2)
    outcome = finetuning_trainer.fine_tune(pretrained, task, still, 1, range(48), [TEST])
    assert outcome.updates == 9  # the first of 12 evaluations is best; two more, three updates apart, change nothing
    assert len(outcome.answers[TEST]) == SIZES["test"]


def test_a_model_learns_and_is_not_started_again() -> None:
    """Most words of known-answer Dutch have one tag, which a tiny model finds without any pre-training."""
    run = tiny_run(tasks={"pos": task_settings(train=200, validation=20, test=50)})
    task, pretrained = encoded(run, "pos")
    outcome = finetuning_trainer.fine_tune(
        pretrained, task, settings(learning_rate=1e-2, epochs=3.0, batch_size=16), 1, range(200), [TEST], restarts=2
    )
    assert (outcome.restarts, outcome.at_chance) == (0, False)
    most = max(Counter(label for row in task.gold[TEST] for label in row).values())
    share = most / sum(map(len, task.gold[TEST]))
    assert task_score("accuracy", task.gold[TEST], outcome.answers[TEST]) > share + 0.2


def encoded(run: Run, name: str) -> tuple[EncodedTask, PretrainedModel]:
    contender = contenders.contenders_of(run, load(run, name), ["teacher"])[0]
    return contender.task, contender.pretrained


def test_answers_without_fine_tuning_are_kept() -> None:
    run = tiny_run()
    scores = finetuning.finetune_task(run, "die_dat", models=["teacher", "random_teacher"], seeds=[1])
    zero_shot = scores.extra_metrics["teacher"]
    assert zero_shot["zero_shot_n"] + zero_shot["zero_shot_skipped"] == SIZES["test"]
    table = Predictions.read(run, task="die_dat").to_pandas()
    rows = table[table["model"].str.startswith(ZERO_SHOT)]
    assert set(rows["model"]) == {f"{ZERO_SHOT}teacher"} and set(rows["seed"]) == set(rows["train"]) == {0}
    assert len(rows) == SIZES["test"] and rows["prediction"].notna().sum() == zero_shot["zero_shot_n"]
    asked = rows.dropna(subset="prediction")
    assert (asked["prediction"] == asked["gold"]).mean() == zero_shot["zero_shot_accuracy"]
    # The vocabulary is smaller than the rank that counts as a miss.
    assert zero_shot["zero_shot_misses"] == 0


TOLD = """Het is {"nat" if i % 2 else "droog"} op dag {i}."""


def own_task(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, further: str = "", text: str = TOLD, **sizes: Any
) -> Run:
    """A run with one task, whose reader lies in `folder`."""
    (folder / f"{name}.py").write_text(
        "from robbertje_lib.tasks import Examples, Task\n"
        "def read(settings, source):\n"
        "    def rows(split, n):\n"
        f"        return [{{'example_id': f'{{split}}{{i}}', 'text': f'{text}',\n"
        "                 'label': 'regen' if i % 2 else 'zon'} for i in range(n)]\n"
        "    splits = {s: rows(s, 20) for s in ('train', 'validation', 'test')}\n"
        f"    return Examples(('regen', 'zon'), splits, {further})\n"
        f"TASK = Task('{name}', 'text_classification', 'accuracy', read)\n"
    )
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(folder)])
    own = profile.TaskSettings.model_validate({"data": "zelf", **sizes})
    return tiny_run(tasks={name: own}, seeds=[1])


def test_a_task_of_one_file_and_one_profile_line_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = finetuning.finetune_task(own_task("weer", tmp_path, monkeypatch), "weer")
    assert scores.counts.examples == {"train": 20, "validation": 20, "test": 20}
    assert [(b.name, b.train, b.score) for b in scores.baselines] == [("majority", 20, 0.5), ("tf_idf", 20, 1.0)]


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UserError, match="no model 'teachr' in this run: did you mean 'teacher'"):
        finetuning.finetune_task(tiny_run(), "dbrd", models=["teachr"])


def test_predictions_come_back_in_the_order_of_the_examples() -> None:
    """Batches are sorted by length; a model that only knows a text's first word must still answer each in its place."""
    run = tiny_run()
    task, pretrained = encoded(run, "pos")
    first = finetuning_trainer.fine_tune(pretrained, task, settings(), 3, range(48), [TEST])
    assert [len(labels) for labels in first.answers[TEST]] == [len(labels) for labels in task.gold["test"]]
    again = finetuning_trainer.fine_tune(pretrained, task, settings(), 3, range(48), [TEST])
    assert first.answers == again.answers and first.validation == again.validation


def test_the_state_that_is_tested_is_the_best_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(tasks={"pos": task_settings(train=200, validation=20, test=50)})
    task, pretrained = encoded(run, "pos")

    def scored_as(*scores: float, early_stopping: int = 0) -> Outcome:
        told = iter(scores)
        monkeypatch.setattr(finetuning_trainer, "task_score", lambda *_: next(told))
        hyper = settings(learning_rate=1e-2, epochs=2.0, evaluations=4, early_stopping=early_stopping)
        return finetuning_trainer.fine_tune(pretrained, task, hyper, 1, range(200), [TEST])

    second, stopped, last = (
        scored_as(0.1, 0.9, 0.3, 0.2),
        scored_as(0.1, 0.9, 0.3, early_stopping=1),
        scored_as(0.1, 0.2, 0.3, 0.4),
    )
    assert [outcome.validation for outcome in (second, stopped, last)] == [0.9, 0.9, 0.4]
    assert second.answers == stopped.answers != last.answers
    assert stopped.updates < second.updates == last.updates


def test_a_kept_run_that_is_damaged_is_told() -> None:
    run = tiny_run()
    outcome = Outcome(validation=0.5, answers={TEST: ["a", "b"]}, seconds=1.0, updates=3, restarts=0, at_chance=False)
    outcome.write(run, task="dbrd", key="teacher-1")
    assert Outcome.read(run, task="dbrd", key="teacher-1") == outcome
    path = Outcome.path(run, task="dbrd", key="teacher-1")
    path.write_text(path.read_text().replace('"updates": 3', '"updates": "three"'))
    with pytest.raises(UserError, match=r"is damaged \(updates: .*; delete it"):
        Outcome.read(run, task="dbrd", key="teacher-1")


def test_a_run_that_cannot_leave_chance_is_started_again_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same text throughout: one label for everything is all that one can give."""
    run = own_task("weer_verzwegen", tmp_path, monkeypatch, text="Het is weer.", train=[10, 20])
    run = with_settings(run, restarts=2, seeds=[1, 2, 3])
    scores = finetuning.finetune_task(run, "weer_verzwegen")
    assert all(entry.at_chance for entry in scores.runs)
    # By size, and within it by seed: what restarts did not help once, they are not tried on again.
    counted = {
        m: [r.restarts for r in scores.runs if r.model == m] for m in [*run.profile.models, *run.profile.controls]
    }
    assert counted == {model: [2, 0, 0, 2, 0, 0] for model in counted}
    assert "started again 2 times, at chance" in capsys.readouterr().out
    again = finetuning.finetune_task(run, "weer_verzwegen")
    assert strip_seconds(again) == strip_seconds(scores)


def with_settings(run: Run, **changed: Any) -> Run:
    changed_settings = run.profile.finetuning.model_copy(update=changed)
    return Run(run.profile.model_copy(update={"finetuning": changed_settings}), run.paths)


def test_a_grid_that_was_interrupted_restarts_the_same_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = own_task("weer_gestopt", tmp_path, monkeypatch, text="Het is weer.")
    run = with_settings(run, restarts=1, seeds=[1, 2])
    whole = finetuning.finetune_task(run, "weer_gestopt", models=["teacher"])
    real, calls = finetuning.fine_tune, []

    def once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(finetuning, "fine_tune", once)
    with pytest.raises(KeyboardInterrupt):
        finetuning.finetune_task(run, "weer_gestopt", models=["teacher"])
    resumed = finetuning.finetune_task(run, "weer_gestopt", models=["teacher"])
    assert [call[-1] for call in calls] == [1, 0, 0]  # the restarts that each may have
    assert strip_seconds(resumed) == strip_seconds(whole)


def test_a_restart_is_a_run_of_another_seed_and_reads_no_test_set_before_it_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tiny_run()
    task, pretrained = encoded(run, "dbrd")
    second = fine_tuned(pretrained, task, profile.derived_seed(7, "restart", 1))
    asked: list[str] = []
    ordered = EncodedTask.ordered
    monkeypatch.setattr(EncodedTask, "ordered", lambda self, name: asked.append(name) or ordered(self, name))
    judged = iter([False, True])  # the first attempt, and the second
    monkeypatch.setattr(finetuning_trainer, "above_chance", lambda *_: next(judged))
    restarted = fine_tuned(pretrained, task, 7, restarts=3)
    assert (restarted.restarts, restarted.at_chance) == (1, False)
    assert (restarted.validation, restarted.answers) == (second.validation, second.answers)
    assert asked == ["validation", "validation", TEST]


def test_the_best_by_validation_is_kept_where_no_attempt_leaves_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run()
    task, pretrained = encoded(run, "dbrd")
    seeds = [7, *(profile.derived_seed(7, "restart", number) for number in (1, 2))]
    alone = [fine_tuned(pretrained, task, seed) for seed in seeds]
    for scores, best in (((0.4, 0.6, 0.5), 1), ((0.6, 0.6, 0.5), 0)):
        told = iter(scores)
        monkeypatch.setattr(finetuning_trainer, "task_score", lambda *_, told=told: next(told))
        monkeypatch.setattr(finetuning_trainer, "above_chance", lambda *_: False)
        kept = fine_tuned(pretrained, task, 7, restarts=2)
        assert (kept.restarts, kept.at_chance, kept.validation) == (2, True, scores[best])
        assert kept.answers == alone[best].answers


def fine_tuned(pretrained: PretrainedModel, task: EncodedTask, seed: int, restarts: int = 0) -> Outcome:
    rows = range(len(task.data.train))
    return finetuning_trainer.fine_tune(pretrained, task, settings(learning_rate=1e-2), seed, rows, [TEST], restarts)


def test_the_garbage_collector_looks_through_all_again_after_a_run() -> None:
    import gc

    run = tiny_run()
    fine_tuned(*reversed(encoded(run, "dbrd")), 1)
    assert gc.get_freeze_count() == 0
