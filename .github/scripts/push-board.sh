#!/usr/bin/env bash
# Push what rebuild-board.sh has packed: the table, the front page and docs/, regular files and nothing else.
# From the environment: BRANCH (where to push), PACKED (the archive), TOKEN (used for this one push, in no argument and no file).
# Nothing is installed or run here but git and tar.
set -euo pipefail

[[ ${BRANCH:-} =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$ ]] || { echo "BRANCH is not the name of a branch" >&2; exit 2; }
[[ -f ${PACKED:-} ]] || { echo "PACKED is not a file" >&2; exit 2; }

if tar -tvf "${PACKED}" | grep -qv '^[-d]'; then echo "The archive has what is neither a file nor a folder" >&2; exit 1; fi
if tar -tf "${PACKED}" | grep -Eqv '^(leaderboard\.csv|README\.md|docs/([A-Za-z0-9_][A-Za-z0-9._-]*/?)*)$'; then echo "The archive has other files than the board's" >&2; exit 1; fi
rm -rf docs
tar -xf "${PACKED}" --no-same-owner --no-same-permissions leaderboard.csv README.md docs

git -c core.hooksPath=/dev/null add -- leaderboard.csv README.md docs
if git diff --cached --quiet; then echo "The board is in step"; exit 0; fi
git -c core.hooksPath=/dev/null -c user.name='github-actions[bot]' -c user.email='41898282+github-actions[bot]@users.noreply.github.com' \
  commit --quiet --message 'The board and its pages, from the records'
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="http.${GITHUB_SERVER_URL:-https://github.com}/.extraheader"
GIT_CONFIG_VALUE_0="Authorization: Basic $(printf 'x-access-token:%s' "${TOKEN:-}" | base64 | tr -d '\n')" \
  git -c core.hooksPath=/dev/null push --quiet origin "HEAD:refs/heads/${BRANCH}"
