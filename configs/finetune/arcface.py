"""Embeddings for search and for classes to come: an ArcFace head on a pretrained timm model.

hybridcls train finetune/arcface --data FOLDER --model NAME --checkpoint FILE
"""

_base_ = './full.py'
model = dict(head=dict(_delete_=True, type='ArcFaceHead', margin=0.3, scale=16.0))  # 64 is for thousands of classes
val_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='KNNAccuracy', k=5), dict(type='ValLoss')]
test_evaluator = [dict(type='Accuracy', topk=(1,), confidence=0.95), dict(type='KNNAccuracy', k=5, confidence=0.95)]
default_hooks = dict(bank=dict(type='EmbeddingBankHook', dataloader={{_base_.bank_dataloader}}))
