"""Every token known-answer Dutch can write."""

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
            tokens |= set(map(arc.written, words))
    return sorted(tokens)
