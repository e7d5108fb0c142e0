"""The sentence patterns of known-answer Dutch, and a reader of their notation.

They stand in `data/known_answer/patterns.yaml`, which explains the notation.
"""

import re
from collections.abc import Collection, Mapping

from robbertje_lib.known_answer.grammar import Alternatives, Node, Seq, choice
from robbertje_lib.known_answer.lexicon import ARTICLES, Lexicon, read_data
from robbertje_lib.known_answer.slots import DE_SHARE, Slots

ITEM_SHARE = 0.4  # of the things of one group, where the document's own item is of it, that are the item
PART = re.compile(r"\{.*?\}|\(.*?\)|\S+")


class Patterns:
    """The patterns in the words of a lexicon. Within them, `k` is a group of things, and `article` is `de` or `het`."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._data = read_data("patterns")
        self._upos = {word: upos for upos, words in self._data["words"].items() for word in words}
        self.slots = Slots(lexicon, self._data["slots"])

    def sentences(self, kind: str, register: str = "story", names: Collection[str] | None = None) -> Alternatives:
        """One choice among the patterns of `opening` or `continuing`, weighted as `register` has it.

        `names` keeps only some of them (for tests); None keeps all.
        """
        factors, patterns = self._data["registers"][register], self._data[kind]
        kept = [name for name in patterns if names is None or name in names]
        weights = {name: patterns[name][0] * factors.get(name, 1.0) for name in kept}
        return choice(*((weights[name], self._node(patterns[name][1])) for name in kept))

    def _node(self, text: str | Mapping[str, float], k: int | None = None, article: str | None = None) -> Node:
        if not isinstance(text, str):
            return choice(*((share, self._node(option, k, article)) for option, share in text.items()))
        nodes: list[Node] = []
        for part in reversed(PART.findall(text)):
            node = self._part(part.removesuffix("?"), k, article)
            if part.endswith("?"):
                then = nodes.pop()
                node = choice((0.5, Seq((node, then))), (0.5, then))
            nodes.append(node)
        return Seq(tuple(reversed(nodes)))

    def _part(self, part: str, k: int | None, article: str | None) -> Node:
        if part.startswith("{"):
            # The document's item draws its own group.
            shares = [0.25 + 0.5 * is_group for is_group in self.slots.is_item_group]
            if "POSTURE" in part:
                shares = self.slots.has_posture
            return choice(*((share, self._node(part[1:-1], group)) for group, share in enumerate(shares)))
        if part.startswith("("):
            options = zip((DE_SHARE, 1 - DE_SHARE), ARTICLES, strict=True)
            return choice(*((share, self._node(part[1:-1], k, either)) for share, either in options))
        if part == "THING" and k is not None:
            item = ITEM_SHARE * self.slots.is_item_group[k]
            return choice((item, self._node("THE_ITEM")), (1 - item, self._node("(NOUN_PHRASE)", k)))
        if part in self._data["phrases"]:
            return self._node(self._data["phrases"][part], k, article)
        if part.isupper():
            return self.slots.get(part, k, article)
        word, _, upos = part.partition("/")
        return self.slots.word(word, upos or self._upos[word])
