"""Hooks, which act at fixed moments of the training loop."""

from hybridcls.old_modules import answer_old_names

from .batch_check_hook import BatchCheckHook
from .calibration_hook import CalibrationHook
from .checkpoint_hook import CheckpointHook
from .checkpoint_match_hook import CheckpointMatchHook
from .class_counts_hook import ClassCountsHook
from .class_margins_hook import ClassMarginsHook
from .class_names_hook import ClassNamesHook
from .console_hook import ConsoleHook
from .data_report_hook import DataReportHook
from .early_stopping_hook import EarlyStoppingHook
from .embedding_bank_hook import EmbeddingBankHook, GalleryHook
from .head_first_hook import HeadFirstHook
from .learning_curves_hook import LearningCurvesHook
from .logger_hook import LoggerHook
from .param_scheduler_hook import ParamSchedulerHook
from .preemption_hook import PreemptionHook
from .preprocessing_version_hook import PreprocessingVersionHook
from .provenance_hook import ProvenanceHook
from .random_state_hook import RandomStateHook, seed_worker
from .resume_hook import ResumeHook
from .sample_record_hook import SampleRecordHook
from .sharded_rows_hook import ShardedRowsHook
from .slow_weights_hook import SlowWeightsHook
from .step_cost_hook import StepCostHook
from .subcenter_cleanup_hook import SubcenterCleanupHook
from .switch_recipe_hook import SwitchRecipeHook
from .thresholds_hook import ThresholdsHook
from .token_merging_hook import TokenMergingHook
from .transfer_hook import TransferHook
from .visualization_hook import VisualizationHook

__all__ = [
    'BatchCheckHook', 'CalibrationHook', 'CheckpointHook', 'CheckpointMatchHook', 'ClassCountsHook', 'ClassMarginsHook',
    'ClassNamesHook', 'ConsoleHook', 'DataReportHook', 'EarlyStoppingHook', 'EmbeddingBankHook', 'GalleryHook',
    'HeadFirstHook', 'LearningCurvesHook', 'LoggerHook', 'ParamSchedulerHook', 'PreemptionHook',
    'PreprocessingVersionHook', 'ProvenanceHook', 'RandomStateHook', 'ResumeHook', 'seed_worker', 'SampleRecordHook',
    'ShardedRowsHook', 'SlowWeightsHook', 'StepCostHook', 'SubcenterCleanupHook', 'SwitchRecipeHook', 'ThresholdsHook',
    'TokenMergingHook', 'TransferHook', 'VisualizationHook',
]  # fmt: skip

answer_old_names(globals())
