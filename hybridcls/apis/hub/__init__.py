"""Push trained models to the Hugging Face Hub or a folder, without pickles, and pull them."""
