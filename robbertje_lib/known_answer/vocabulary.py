"""Every token known-answer Dutch can write."""

from robbertje_lib.known_answer.grammar import capitalised
from robbertje_lib.known_answer.model import Model, default_model


def vocabulary(model: Model | None = None) -> list[str]:
    """All tokens of documents and task examples, sorted (`<mask>` is not among them)."""
    model = model or default_model()
    tokens = set()
    for arcs in model.automaton.arcs:
        for arc in arcs:
            if arc.slot.table is not None:
                words = list(arc.slot.table.words)
            else:
                words = [value[arc.slot.part] for value in model.values[str(arc.slot.mention)]]
            tokens |= {capitalised(word) if arc.capital else word for word in words}
    return sorted(tokens)
