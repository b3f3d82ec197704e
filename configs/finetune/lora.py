"""Low-rank adapters (LoRA) on the linear layers of a pretrained timm model: for large models and little memory.

hybridcls train finetune/lora --data FOLDER --model NAME --checkpoint FILE
Needs PEFT: pip install hybridcls[lora].
"""

_base_ = './full.py'
model = dict(backbone=dict(lora_rank=8))
lr = 1e-3
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
