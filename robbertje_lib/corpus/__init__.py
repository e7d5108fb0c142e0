"""Text on its way to tokens: sources, sentences, arms, tokenizer, token store."""
