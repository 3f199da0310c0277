#!/usr/bin/env bash
# Is the tag that a release is made from the version of the package? From the environment: GITHUB_REF_NAME
set -euo pipefail

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' woofbench/__init__.py)
if [[ ${GITHUB_REF_NAME:-} != "v${version}" ]]; then
  echo "The tag is ${GITHUB_REF_NAME:-missing}, and the version of the package is ${version}: they must agree" >&2
  exit 1
fi
echo "Version ${version}"
