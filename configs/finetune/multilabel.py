"""Several labels an image, or none, on a pretrained timm model.

    hybridcls train finetune/multilabel --data TABLE --model NAME --checkpoint FILE
TABLE is a CSV file: path and label (`a|b`, or empty), or one column of 0 and 1 a class; docs/data.md.
"""

_base_ = './full.py'
model = dict(head=dict(_delete_=True, type='MultiLabelHead', thresholds='f1'))
train_dataloader = dict(dataset=dict(multi_label=True))
val_dataloader = dict(dataset=dict(multi_label=True))
test_dataloader = dict(dataset=dict(multi_label=True))
val_evaluator = [dict(type='AveragePrecision'), dict(type='MultiLabelMetric'), dict(type='ValLoss')]
test_evaluator = [dict(type='AveragePrecision'), dict(type='MultiLabelMetric')]
default_hooks = dict(
    head_first=dict(dataloader=dict(dataset=dict(multi_label=True))),
    early_stopping=dict(monitor='multi-label/mAP'),
    checkpoint=dict(save_best='multi-label/mAP', best_tolerance=0.0),
)
