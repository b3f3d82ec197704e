"""What leaves the laboratory: a folder with the model, what it needs to answer, and what proves that it does."""
