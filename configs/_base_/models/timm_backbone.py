"""One timm model and a linear head: `--model NAME`, with weights of timm or of a file (`--checkpoint FILE`)."""

img_size = None  # the size that the model was pretrained with
pretrained = True  # weights of timm, from its cache or the network; checkpoint_path = FILE takes those of a file
model = dict(
    type='HybridClassifier',
    backbone=dict(type='HybridBackbone', norm_eval=None),  # None: by the number of images
    head=dict(type='LinearHead', label_smoothing=0.1),
)
