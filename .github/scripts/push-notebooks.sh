#!/usr/bin/env bash
# Write the rows' notebooks to a branch of their own, from which Colab opens them: one commit without a parent, which replaces the one before.
# From the environment: BRANCH (where to push), FOLDER (the notebooks), TOKEN (used for this one push, in no argument and no file).
# Nothing is installed or run here but git; it does not see the token before it is time to push.
set -euo pipefail

[[ ${BRANCH:-} =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$ && ${BRANCH} != main ]] || { echo "BRANCH is not the name of a branch for notebooks" >&2; exit 2; }
[[ -d ${FOLDER:-} && ! -L ${FOLDER} ]] || { echo "FOLDER is not a folder" >&2; exit 2; }
secret=${TOKEN:-}
unset TOKEN

odd=$(find "${FOLDER}" -mindepth 1 \( ! -type f -o ! -regex '.*/[0-9a-f]+\.ipynb' \) | wc -l)
[[ ${odd} -eq 0 ]] || { echo "The folder has what is not the notebook of a row" >&2; exit 1; }
[[ -n $(find "${FOLDER}" -type f) ]] || { echo "There are no notebooks"; exit 0; }

fresh=$(mktemp -d)
trap 'rm -rf "${fresh}"' EXIT
mkdir "${fresh}/tree"
cp -R "${FOLDER}" "${fresh}/tree/rows"
safe=(-c core.hooksPath=/dev/null -c core.fsmonitor=false)
tree=$(GIT_INDEX_FILE="${fresh}/index" git "${safe[@]}" --work-tree "${fresh}/tree" add --all -- "${fresh}/tree/rows" &&
  GIT_INDEX_FILE="${fresh}/index" git "${safe[@]}" write-tree)
commit=$(git "${safe[@]}" -c user.name='github-actions[bot]' -c user.email='41898282+github-actions[bot]@users.noreply.github.com' \
  commit-tree "${tree}" -m 'A notebook for each row, made from the records')
GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="http.${GITHUB_SERVER_URL:-https://github.com}/.extraheader" \
GIT_CONFIG_VALUE_0="Authorization: Basic $(printf 'x-access-token:%s' "${secret}" | base64 | tr -d '\n')" \
  git "${safe[@]}" push --quiet --force origin "${commit}:refs/heads/${BRANCH}"
