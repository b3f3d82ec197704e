"""Pass the number of training images of each class to a margin head."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from hybridcls.compat.mmengine import bare_model
from hybridcls.datasets.samplers.dataset_labels import class_counts
from hybridcls.models.margins import ClassWiseMargin
from hybridcls.registry import HOOKS


@HOOKS.register_module()
class ClassMarginsHook(Hook):
    """Count the labels of the training data and give the counts to every class-wise margin (``before_train``).

    For ``head=dict(type='MarginHead', margin=dict(type='ClassWise', base=dict(type='ArcFace')))``; the rule and its
    numbers stand there. No image is loaded. The margins are in the checkpoint, so a test needs no hook; a run that is
    resumed counts its own data again.

    Raises:
        TypeError: If the model has no class-wise margin, or the data no labels.
        ValueError: If a label is none of the head's classes.
    """

    def before_train(self, runner: Runner) -> None:
        """Count the labels, and set the margins."""
        model = bare_model(runner.model)
        margins = [module for module in model.modules() if isinstance(module, ClassWiseMargin)]
        if not margins:
            raise TypeError(
                "ClassMarginsHook: the model has no class-wise margin. Use head=dict(type='MarginHead', "
                "margin=dict(type='ClassWise', base=dict(type='ArcFace'))), or drop this hook from "
                'custom_hooks.'
            )
        for margin in margins:
            margin.set_counts(
                class_counts('ClassMarginsHook', runner.train_dataloader.dataset, len(margin.class_margins))
            )
