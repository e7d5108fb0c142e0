"""The true probability of every token of known-answer Dutch, given all other tokens of the scored line.

What is conditioned on, precisely: the other tokens of the line and their number; that the line holds k whole
consecutive sentences of one document; and how such lines come about (`merge_probability`, or a whole document).
Everything the line does not show is summed out: topic, stance, the person, the item, where in the document the
line stands, and the derivation. It is exact, by a forward-backward pass per sentence and latent configuration:

    P(w_t | rest) = sum_L P(L) P(line | L) / sum_L P(L) P(line with any word at t | L)

The values of a mention (a name, ...) that occur nowhere in the line are lumped into one, which loses nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.known_answer.grammar import MENTIONS, Arc, Floats, Slot, capitalised
from robbertje_lib.known_answer.lexicon import STANCES
from robbertje_lib.known_answer.model import Model, default_model

STOPS = (".", "!")  # end a sentence, and stand nowhere else
_LUMP = -1


def true_log_probs(
    lines: Sequence[str],
    bias_strength: float = 1.0,
    merge_probability: float = 0.0,
    whole_documents: bool = False,
    model: Model | None = None,
) -> list[Floats]:
    """log P(token | all other tokens of its line) for each line: arrays of (n_tokens,) float64, natural log.

    A line is one sentence or several consecutive ones of a document, joined by a space. `merge_probability` is
    that of the arm the lines come from (0: every sentence is a line of its own); it tells how likely a line of
    k sentences is to open its document. With `whole_documents` every line does.
    Raises `UserError` for a line that the generator cannot have written.
    """
    truth = truth_of(model or default_model(bias_strength))
    return [truth.log_probs(line, merge_probability, whole_documents) for line in lines]


def floor(
    lines: Sequence[str],
    bias_strength: float = 1.0,
    merge_probability: float = 0.0,
    whole_documents: bool = False,
) -> dict[str, float]:
    """Pseudo-perplexity of the generator itself: no model can expect to score lower.

    corpus: exp(- sum of log-probabilities / tokens), as Salazar et al. (2020); per_line_mean: exp of the mean
    over lines of a line's mean negative log-probability. Arguments and errors as `true_log_probs`.
    """
    scores = true_log_probs(lines, bias_strength, merge_probability, whole_documents)
    return {
        "corpus": float(np.exp(-np.concatenate(scores).mean())),
        "per_line_mean": float(np.exp(-np.mean([score.mean() for score in scores]))),
    }


@dataclass(frozen=True)
class Configurations:
    """Every combination of latent values that a line can tell apart; C of them."""

    prior: Floats  # (C,)
    cell: np.ndarray  # (C,) index into the flattened AXES
    stance: np.ndarray  # (C,)
    chosen: dict[str, np.ndarray]  # mention -> (C,) index into `candidates`, or _LUMP
    candidates: dict[str, list[tuple[str, ...]]]  # mention -> the values of which the line shows a token


class Truth:
    """Exact probabilities under one model; what depends on the model alone is computed once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._matches: dict[tuple[int, str], list[tuple[Arc, Floats]]] = {}
        self._totals: dict[int, dict[int, Floats]] = {}
        self._holders: dict[str, dict[str, list[int]]] = {}  # mention -> token -> indices of the values with it
        for mention in MENTIONS:
            holders = self._holders[mention] = {}
            for index, value in enumerate(model.values[mention]):
                for token in {form for part in value for form in (part, capitalised(part))}:
                    holders.setdefault(token, []).append(index)

    def log_probs(self, line: str, merge_probability: float = 0.0, whole_document: bool = False) -> Floats:
        """As `true_log_probs`, for one line."""
        configurations, passes = self.passes(line, merge_probability, whole_document)
        result = []
        for j, sentence in enumerate(passes):
            others = configurations.prior * _product([other.total for i, other in enumerate(passes) if i != j])
            seen = others @ sentence.total
            result += [np.log(seen / (others @ sentence.with_any(t))) for t in range(len(sentence.tokens))]
        return np.array(result)

    def possible(self, line: str) -> bool:
        """Whether the generator can write `line`."""
        try:
            self.passes(line, 0.0, False)
        except UserError:
            return False
        return True

    def stance_posterior(self, line: str) -> dict[str, float]:
        """P(stance | the line, a whole document), for each stance."""
        configurations, passes = self.passes(line, 0.0, True)
        joint = configurations.prior * _product([sentence.total for sentence in passes])
        shares = [float(joint[configurations.stance == s].sum() / joint.sum()) for s in range(len(STANCES))]
        return dict(zip(STANCES, shares, strict=True))

    def configurations(self, tokens: Sequence[str]) -> Configurations:
        """The latent configurations that `tokens` can tell apart, with their prior probabilities."""
        model, words = self.model, set(tokens)
        present = {  # indices of the values of which the line shows a token
            mention: sorted({index for word in words for index in self._holders[mention].get(word, [])})
            for mention in MENTIONS
        }
        name, city, organisation = (
            _with_lump(model.priors[mention], present[mention]) for mention in ("name", "city", "organisation")
        )
        occupation = np.stack(  # (topics, genders, 1 + candidates)
            [
                _with_lump(model.priors["occupation"] * given, present["occupation"])
                for given in model.gender_given_occupation
            ],
            1,
        )
        kind, item = self._items(present["item"])
        _, n_stances, n_genders, n_groups, n_articles = model.sizes
        kinds = n_groups * n_articles
        prior = (
            model.topic_prior[:, None, None, None, None, None, None, None]
            * np.full((1, n_stances, 1, 1, 1, 1, 1, 1), 1 / n_stances)
            * item[:, None, None, :, None, None, None, None]
            * occupation[:, None, :, None, :, None, None, None]
            * name[None, None, :, None, None, :, None, None]
            * city[0][None, None, None, None, None, None, :, None]
            * organisation[:, None, None, None, None, None, None, :]
        )
        topic, stance, gender, i, *rest = np.nonzero(prior)
        chosen = dict(zip(("occupation", "name", "city", "organisation"), (axis + _LUMP for axis in rest), strict=True))
        chosen["item"] = np.where(i < kinds, _LUMP, i - kinds)
        return Configurations(
            prior=prior[prior != 0],
            cell=((topic * n_stances + stance) * n_genders + gender) * kinds + kind[topic, i],
            stance=stance,
            chosen=chosen,
            candidates={mention: [model.values[mention][index] for index in present[mention]] for mention in MENTIONS},
        )

    def _items(self, present: Sequence[int]) -> tuple[np.ndarray, Floats]:
        """Kind (group and article) and prior probability, (topics, kinds + present) each.

        First come the items not in the line, lumped by kind, on which other words depend; then each that is present.
        """
        model = self.model
        n_topics, _, _, n_groups, n_articles = model.sizes
        kinds = n_groups * n_articles
        kind = np.tile(np.arange(kinds + len(present)), (n_topics, 1))
        item = np.zeros(kind.shape)
        for t, of_topic in enumerate(model.item_kind):
            for index, (noun,) in enumerate(model.values["item"]):
                if noun in of_topic:
                    group, article = of_topic[noun]
                    item[t, group * n_articles + article] += model.priors["item"][t, index]
        for column, index in enumerate(present, start=kinds):
            noun = model.values["item"][index][0]
            for t in range(n_topics):
                group, article = model.item_kind[t].get(noun, (0, 0))
                kind[t, column] = group * n_articles + article
                item[t, column] = model.priors["item"][t, index]
                item[t, kind[t, column]] -= item[t, column]
        return kind, np.clip(item, 0, 1)

    def passes(
        self, line: str, merge_probability: float, whole_document: bool
    ) -> tuple[Configurations, "list[Passes]"]:
        tokens = line.split(" ")
        ends = [t + 1 for t, token in enumerate(tokens) if token in STOPS]
        if not ends or ends[-1] != len(tokens):
            raise UserError(f"not known-answer Dutch: '{line}' does not end a sentence; check its source")
        configurations = self.configurations(tokens)
        share = 1.0 if whole_document else opening_share(self.model, len(ends), merge_probability)
        automaton = self.model.automaton
        passes = []
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            begin = {automaton.first: share, automaton.later: 1 - share} if number == 0 else {automaton.later: 1.0}
            passes.append(Passes(self, configurations, tokens[start:end], begin))
        possible = np.any(configurations.prior * _product([sentence.total for sentence in passes]))
        if not possible:
            raise UserError(f"not known-answer Dutch: the generator cannot write '{line}'; check its source")
        return configurations, passes

    def steps(self, configurations: Configurations, state: int, word: str) -> list[tuple[int, Slot, Floats]]:
        """Arcs of `state` that can write `word`: target, slot, and (C,) the probability of taking it and writing it."""
        result = []
        for arc, factor in self._matching(state, word):
            vector = factor[configurations.cell]
            if arc.slot.mention is not None:
                values = configurations.candidates[arc.slot.mention]
                fits = [word == arc.written(value[arc.slot.part]) for value in values]
                # The lump is looked up at -1: it writes none of the line's words.
                vector = vector * np.array([*fits, False])[configurations.chosen[arc.slot.mention]]
            if np.any(vector):
                result.append((arc.target, arc.slot, vector))
        return result

    def any_steps(self, state: int) -> dict[int, Floats]:
        """Targets of `state`, and the probability of each over the flattened AXES, whatever the word."""
        if state not in self._totals:
            totals = self._totals[state] = {}
            for arc in self.model.automaton.arcs[state]:
                totals[arc.target] = totals.get(arc.target, 0.0) + self._flat(arc.weight)
        return self._totals[state]

    def _matching(self, state: int, word: str) -> list[tuple[Arc, Floats]]:
        """Arcs of `state` that may write `word`, with their probability over the flattened AXES.

        Of a mention it is the arc's alone: what the document mentions is in the configuration.
        """
        if (state, word) not in self._matches:
            matches = self._matches[state, word] = []
            for arc in self.model.automaton.arcs[state]:
                if arc.slot.mention is not None:
                    if word in self._holders[arc.slot.mention]:
                        matches.append((arc, self._flat(arc.weight)))
                    continue
                assert arc.slot.table is not None
                for written, row in zip(arc.slot.table.words, arc.slot.table.probabilities, strict=True):
                    if arc.written(written) == word:
                        matches.append((arc, self._flat(arc.weight) * self._flat(row)))
        return self._matches[state, word]

    def _flat(self, values: Floats) -> Floats:
        return np.broadcast_to(values, self.model.sizes).reshape(-1)


@lru_cache(maxsize=8)
def truth_of(model: Model) -> Truth:
    """The `Truth` of a model, kept for the next call."""
    return Truth(model)


class Passes:
    """Forward and backward probabilities of one sentence, (C,) per state; backward ones only where they are needed."""

    def __init__(
        self, truth: Truth, configurations: Configurations, tokens: Sequence[str], start: dict[int, float]
    ) -> None:
        self.truth, self.configurations, self.tokens = truth, configurations, tokens
        ones = np.ones(len(configurations.prior))
        self._ends, self._dead = ones, np.zeros_like(ones)
        self._backward: dict[tuple[int, int], Floats] = {}
        self.forward: list[dict[int, Floats]] = [{state: share * ones for state, share in start.items() if share}]
        for token in tokens:
            reached: dict[int, Floats] = {}
            for state, mass in self.forward[-1].items():
                for target, _, factor in truth.steps(configurations, state, token):
                    reached[target] = reached.get(target, 0.0) + mass * factor
            self.forward.append(reached)

    def backward(self, t: int, state: int) -> Floats:
        """(C,) P(tokens from t on | state before t)."""
        if t == len(self.tokens):
            return self._ends if state == 0 else self._dead
        if (t, state) not in self._backward:
            total = self._dead
            for target, _, factor in self.truth.steps(self.configurations, state, self.tokens[t]):
                total = total + factor * self.backward(t + 1, target)
            self._backward[t, state] = total
        return self._backward[t, state]

    @property
    def total(self) -> Floats:
        """(C,) P(sentence | configuration)."""
        return self.forward[-1].get(0, self._dead)

    def with_any(self, t: int) -> Floats:
        """(C,) P(sentence with any word at position t | configuration)."""
        total = self._dead
        for state, mass in self.forward[t].items():
            for target, weight in self.truth.any_steps(state).items():
                rest = self.backward(t + 1, target)
                if rest is not self._dead:
                    total = total + mass * weight[self.configurations.cell] * rest
        return total


def opening_share(model: Model, sentences: int, merge_probability: float) -> float:
    """P(a line opens its document | it holds so many sentences), among all lines of a merged arm.

    In one pass over a document, each sentence joins the current line with `merge_probability`. A line of k
    sentences at the opening ends by chance unless the document does; one that stands later must also have begun
    by chance. The factor of its k - 1 joins is common to all and cancels.
    """
    stop = 1 - merge_probability
    opening = later = 0.0
    for n, probability in enumerate(model.length_prior):
        if n < sentences:
            continue
        opening += probability * (1.0 if n == sentences else stop)
        later += probability * (max(n - sentences - 1, 0) * stop * stop + (stop if n > sentences else 0.0))
    if opening + later == 0:
        raise UserError(f"not known-answer Dutch: a line of {sentences} sentences is longer than any document")
    return opening / (opening + later)


def _with_lump(prior: Floats, present: Sequence[int]) -> Floats:
    """(rows, 1 + present): the probability of all that is not in the line first, then that of each value that is."""
    own = prior[:, present]
    lump = prior.sum(axis=1, keepdims=True) - own.sum(axis=1, keepdims=True)
    return np.concatenate([np.clip(lump, 0, 1), own], axis=1)


def _product(factors: Sequence[Floats]) -> Floats | float:
    """Elementwise product up to a constant: rescaled at each step, so that it does not underflow."""
    product: Floats | float = 1.0
    for factor in factors:
        product = product * factor
        product = product / max(float(np.max(product)), np.finfo(float).tiny)
    return product
