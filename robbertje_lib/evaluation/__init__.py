"""What a model can do: pseudo-perplexity, fine-tuning, gender bias, efficiency."""
