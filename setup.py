"""Install hybridcls, with its configs and tools inside the package as OpenMMLab packages keep them (``.mim``)."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
EXTRAS = ('demo', 'export', 'lora', 'ood', 'openvino', 'parquet', 'search', 'serve', 'trackers', 'tests', 'docs')


def requirements(name: str) -> list[str]:
    """Return the requirement lines of ``requirements/<name>.txt``."""
    lines = (HERE / 'requirements' / f'{name}.txt').read_text(encoding='utf8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith('#')]


def version() -> str:
    """Return ``__version__`` without importing the package."""
    scope: dict = {}
    exec((HERE / 'hybridcls' / 'version.py').read_text(encoding='utf8'), scope)
    return scope['__version__']


class BuildWithConfigs(build_py):
    """Also copy configs, tools and the model index to ``hybridcls/.mim/``, where ``hybridcls::`` config paths look."""

    def run(self) -> None:
        """Build, then copy or link."""
        super().run()
        package = HERE / 'hybridcls' if self.editable_mode else Path(self.build_lib) / 'hybridcls'
        for name in ('configs', 'tools', 'model-index.yml'):
            source, target = HERE / name, package / '.mim' / name
            if target.is_symlink() or target.is_file():
                target.unlink()
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.editable_mode:  # a link, so that an edited config is the config that runs
                target.symlink_to(Path('..', '..', name), target_is_directory=source.is_dir())
            elif source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(source, target)


setup(
    name='hybridcls',
    version=version(),
    description='Plugins for image classification and representation learning in the OpenMMLab style: '
    'CNN + ViT hybrids, SupCon, AdaFace, SAM.',
    long_description=(HERE / 'README.md').read_text(encoding='utf8') if (HERE / 'README.md').is_file() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['hybridcls', 'hybridcls.*']),
    package_data={
        'hybridcls.apis.fidelity': ['official_numbers.npz'],
        'hybridcls.apis.report': ['page.html'],
        'hybridcls.datasets': ['digits.npz'],
    },
    entry_points={'console_scripts': ['hybridcls=hybridcls.cli.main:main']},
    install_requires=requirements('runtime'),
    extras_require={name: requirements(name) for name in EXTRAS},
    cmdclass={'build_py': BuildWithConfigs},
    zip_safe=False,
)
