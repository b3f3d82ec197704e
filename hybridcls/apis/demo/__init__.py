"""A browser page for a trained model: its answer for an image, how sure it is, and similar images."""
