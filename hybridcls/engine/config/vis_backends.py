"""Check that the packages of visualization backends are installed, before anything is built."""

from importlib.util import find_spec

from mmengine import visualization
from mmengine.config import Config

from .layers import ConfigError
from .tree import is_a

__all__ = ['check_vis_backends']

# What each backend of mmengine imports when the run has begun; of what others register we do not know it.
_PACKAGES = {
    visualization.AimVisBackend: ('aim',),
    visualization.ClearMLVisBackend: ('clearml',),
    visualization.DVCLiveVisBackend: ('dvclive', 'pygit2'),
    visualization.MLflowVisBackend: ('mlflow',),
    visualization.NeptuneVisBackend: ('neptune',),
    visualization.TensorboardVisBackend: ('tensorboard',),
    visualization.WandbVisBackend: ('wandb',),
}


def check_vis_backends(cfg: Config) -> None:
    """Raise a ConfigError that says what to install if a backend of the visualizer cannot work."""
    visualizer = cfg.get('visualizer')
    backends = visualizer.get('vis_backends') if isinstance(visualizer, dict) else None
    for backend in backends or ():
        for kind, packages in _PACKAGES.items():
            missing = [package for package in packages if find_spec(package) is None]
            if missing and is_a('VISBACKENDS', backend, kind):
                raise ConfigError(
                    f'visualizer.vis_backends: {kind.__name__} needs {" and ".join(missing)}, which is not installed. '
                    f'Type: pip install {" ".join(missing)}; or take it out of visualizer.vis_backends.'
                )
