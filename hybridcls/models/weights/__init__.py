"""Weights of a checkpoint and the model that they are for: resized where timm knows how, compared after loading."""
