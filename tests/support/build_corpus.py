"""Everything of `10_corpus` in one call."""

from robbertje_lib.corpus.arms import make_arms
from robbertje_lib.corpus.pool import read_pool, split_pool
from robbertje_lib.corpus.preparation import write_arms, write_documents
from robbertje_lib.corpus.tokenization import write_tokenizer
from robbertje_lib.experiment.results.corpus import ArmResult, DocumentsResult
from robbertje_lib.experiment.run import Run


def build_corpus(run: Run) -> tuple[DocumentsResult, list[ArmResult]]:
    pool = read_pool(run)
    split = split_pool(pool, run.profile.corpus.held_out_fraction, run.profile.seed)
    arms = make_arms(split.training, run.profile.corpus, run.profile.seed)
    tokenizer = write_tokenizer(run, split.training)
    return write_documents(run, pool, split, tokenizer), write_arms(run, arms, tokenizer)
