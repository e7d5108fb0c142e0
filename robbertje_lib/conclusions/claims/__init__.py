"""The paper's claims, a file a family; `decide` judges them all."""
