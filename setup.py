"The package metadata that is not static in pyproject.toml, read from settings.ini and woofbench/__init__.py"
import re
from configparser import ConfigParser
from pathlib import Path
from shutil import copytree

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

root = Path(__file__).parent
cfg = ConfigParser(delimiters=['='])
cfg.read(root/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']


def lines(key): return cfg[key].split('\n')[1:]


def readme():
    "README.md with links that also work on a package index, where there are no files beside it"
    if not (root/'README.md').exists(): return ''
    repo = re.search(r'^Repository = "(.+)"', (root/'pyproject.toml').read_text(encoding='utf-8'), re.M)[1]
    def absolute(m): return f"{m[1]}{repo}/{'raw' if m[1][0] == '!' else 'blob'}/main/"
    return re.sub(r'(!?\[[^\]]*\]\()(?!https?:|#)', absolute, (root/'README.md').read_text(encoding='utf-8'))


class with_records(build_py):
    "A wheel has the project's records, for the lessons that read them"
    def run(self):
        super().run()
        if not self.editable_mode and (root/'records').is_dir():
            copytree(root/'records', Path(self.build_lib)/'woofbench/records', dirs_exist_ok=True)


extras = {k: lines(f'{k}_requirements') for k in 'browser docs submit log export tune distributed cluster'.split()}

setup(
    version=re.search(r'^__version__ = "(.+)"', (root/'woofbench/__init__.py').read_text(encoding='utf-8'), re.M)[1],
    author=cfg['author'],
    license=cfg['license'],
    keywords=cfg['keywords'].split(),
    classifiers=['Programming Language :: Python :: 3', 'Framework :: Jupyter', 'Typing :: Typed',
                 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    long_description=readme(),
    long_description_content_type='text/markdown',
    cmdclass=dict(build_py=with_records),
    packages=find_packages(include=['woofbench', 'woofbench.*']),
    package_data={'woofbench': ['py.typed', 'cards.json', 'starter/*'],
                  'woofbench.web': ['static/*', 'editions/*', 'prices.json']},
    install_requires=lines('requirements'),
    extras_require=extras | {'dev': [o for v in (*extras.values(), lines('dev_requirements')) for o in v]},
    entry_points={'console_scripts': lines('console_scripts'), 'nbdev': ['woofbench = woofbench._modidx:d']},
)
