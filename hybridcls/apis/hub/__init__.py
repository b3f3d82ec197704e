"""Trained models travel: pushed to the Hugging Face Hub or a folder, without pickles, and pulled from there."""
