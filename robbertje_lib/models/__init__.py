"""The models themselves: shapes, loading, log-probabilities of masked tokens, precision."""
