"""What the results say: comparisons, the claims of the paper with their verdicts, instruments, published numbers."""
