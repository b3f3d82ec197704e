"""Models: modules, losses, backbones, necks, heads, and the classifier that joins them."""

from hybridcls.old_modules import answer_old_names

from .backbones import *  # noqa: F403
from .classifiers import *  # noqa: F403
from .data_preprocessors import *  # noqa: F403
from .heads import *  # noqa: F403
from .losses import *  # noqa: F403
from .margins import *  # noqa: F403
from .modules import *  # noqa: F403
from .necks import *  # noqa: F403

answer_old_names(globals())
