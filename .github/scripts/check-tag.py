#!/usr/bin/env python3
"Is the tag that a release is made from the version of the package? From the environment: GITHUB_REF_NAME"
import os, re, sys
from pathlib import Path

tag = os.environ.get('GITHUB_REF_NAME', '')
version = re.search(r'^__version__ = "(.+)"', Path('woofbench/__init__.py').read_text(encoding='utf-8'), re.M)[1]
if tag!=f'v{version}': sys.exit(f'the tag is {tag!r}, and the version of the package is {version}: they must agree')
print(f'version {version}')
