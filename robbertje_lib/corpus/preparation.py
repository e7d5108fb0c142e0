"""The corpus, whole: from the sources to token stores and `results/corpus/` (RobBERTje, section on pre-training data).

The paper compares OSCAR with its lines shuffled, the same documents in order, and those with the next line of a
document merged into the current one with probability 0.5. Those are three of the `arms`.
"""

from transformers import PreTrainedTokenizerFast

from robbertje_lib.corpus.arms import get_arm
from robbertje_lib.corpus.lines import SAMPLE, TEACHER, Line, document_lines, join_lines, random_stream
from robbertje_lib.corpus.pool import Pool, Split
from robbertje_lib.corpus.tokenization import write_store
from robbertje_lib.experiment.profile import TeacherTraining
from robbertje_lib.experiment.results.corpus import ArmResult, DocumentsResult, StoreFigures
from robbertje_lib.experiment.run import Run


def write_documents(run: Run, pool: Pool, split: Split, tokenizer: PreTrainedTokenizerFast) -> DocumentsResult:
    """Store the held-out part and the text of a teacher that is trained here; write `results/corpus/documents.json`.

    The teacher's text is every training document once, whatever arms there are: no arm is nearer to the teacher than
    the others, and an arm's settings change no teacher.
    """
    held_out = list(document_lines(split.held_out))
    result = DocumentsResult(
        sources=pool.read,
        dropped=dict(pool.dropped),
        held_out=write_store(run.paths.held_out, held_out, tokenizer, split.held_out),
        teacher=_write_teacher_text(run, split, tokenizer),
    )
    result.write(run)
    return result


def _write_teacher_text(run: Run, split: Split, tokenizer: PreTrainedTokenizerFast) -> StoreFigures | None:
    settings = run.profile.teacher
    if not isinstance(settings, TeacherTraining):
        return None
    lines = join_lines(split.training, settings.join_probability, random_stream(run.profile.seed, TEACHER))
    return write_store(run.paths.teacher_text, list(lines), tokenizer)


def write_arms(
    run: Run, arms: dict[tuple[str, str], list[Line]], tokenizer: PreTrainedTokenizerFast
) -> list[ArmResult]:
    """Store every (selection, arm); write `results/corpus/<arm>.json` for each arm."""
    settings, results = run.profile.corpus, []
    for name in settings.arms:
        chosen = {selection: arms[selection, name] for selection in settings.selections}
        result = ArmResult(
            arm=name,
            asked_bytes=int(settings.arm_megabytes * 1e6),
            merge_probability=settings.merge_probability if get_arm(name).merges else None,
            selections={s: write_store(run.paths.corpus(s, name), lines, tokenizer) for s, lines in chosen.items()},
            sample_lines=_sample(chosen[settings.selections[0]], settings.sample_lines, run.profile.seed),
        )
        result.write(run, arm=name)
        results.append(result)
    return results


def _sample(lines: list[Line], count: int, seed: int) -> list[str]:
    """`count` random lines (all, if fewer), in their order."""
    chosen = random_stream(seed, SAMPLE).choice(len(lines), min(count, len(lines)), replace=False)
    return [lines[i].text for i in sorted(chosen)]
