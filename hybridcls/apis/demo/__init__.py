"""A page in the browser that asks a trained model: what it says of an image, whether it may, and what is like it."""
