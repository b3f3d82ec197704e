"""Load weights into the models they belong to: resized where timm can, compared after loading."""
