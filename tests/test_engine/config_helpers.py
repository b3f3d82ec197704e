"""Configs for tests, written as files so that their values have layers."""

from hybridcls.engine.config import apply
from hybridcls.engine.config.loading import load_config


def write(folder, name, text):
    """Write a config file, and return its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def loaded(folder, child='', base='', options=None):
    """Load ``child`` on ``base``, both texts."""
    write(folder, 'base.py', base)
    return load_config(write(folder, 'child.py', f"_base_ = 'base.py'\n{child}"), options)


def applied(cfg, step, *args):
    """Apply one step, and return the config."""
    apply(cfg, step, *args)
    return cfg
