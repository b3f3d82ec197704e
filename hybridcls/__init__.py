"""hybridcls: a laboratory of plugins for image classification and representation learning, in the OpenMMLab style."""

from mmengine.config.utils import MODULE2PACKAGE

from .version import __version__

# So that `_base_ = 'hybridcls::digits/...'` finds the configs of this package.
MODULE2PACKAGE['hybridcls'] = 'hybridcls'

__all__ = ['__version__']
