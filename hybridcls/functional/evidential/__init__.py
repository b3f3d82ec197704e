"""Evidential classification: evidence, Dirichlet distributions and their uncertainties."""

from .dirichlet_uncertainty import DirichletUncertainty, dirichlet_entropy, dirichlet_uncertainty
from .evidence import EVIDENCE_KINDS, evidence_from_logits
from .evidential_losses import EVIDENTIAL_FORMS, dirichlet_kl_to_uniform, evidential_data_loss, misleading_evidence
from .mixture_uncertainty import MixtureUncertainty, mixture_uncertainty

__all__ = [
    'DirichletUncertainty',
    'EVIDENCE_KINDS',
    'EVIDENTIAL_FORMS',
    'MixtureUncertainty',
    'dirichlet_entropy',
    'dirichlet_kl_to_uniform',
    'dirichlet_uncertainty',
    'evidence_from_logits',
    'evidential_data_loss',
    'misleading_evidence',
    'mixture_uncertainty',
]
