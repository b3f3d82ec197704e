"""A small version of the reference pair for a laptop's CPU: 1.5 million parameters at 32 pixels."""

img_size = 32
model = dict(
    type='HybridClassifier',
    backbone=dict(
        type='HybridBackbone',
        cnn=dict(model_name='convnextv2_atto', depths=(1, 1, 2, 1), dims=(24, 48, 96, 192)),
        vit=dict(
            model_name='swinv2_tiny_window8_256',
            window_size=4,
            embed_dim=24,
            depths=(1, 1, 2, 1),
            num_heads=(1, 2, 4, 8),
            drop_path_rate=0.1,
        ),
    ),
    neck=dict(type='DHAFusion', fusion_dim=128),
)
