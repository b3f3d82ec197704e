"""The reference pair: ConvNeXt-V2 base and Swin-V2 base at 192 pixels, 176 million parameters."""

img_size = 192  # fills the pipelines and both streams
pretrained = False  # True: both streams start from timm's weights (needs the network once; README has their licences)
model = dict(
    type='HybridClassifier',
    backbone=dict(
        type='HybridBackbone',
        cnn=dict(model_name='convnextv2_base', drop_path_rate=0.0),
        vit=dict(model_name='swinv2_base_window12_192', drop_path_rate=0.2),
    ),
    neck=dict(type='DHAFusion', fusion_dim=1024),
)
