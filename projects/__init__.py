"""Plugins that live outside the package; each folder is one."""
