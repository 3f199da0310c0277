#!/usr/bin/env bash
# Push what rebuild-board.sh has packed: the table, the front page and docs/, regular files and nothing else.
# From the environment: BRANCH (where to push), PACKED (the archive), TOKEN (used for this one push, in no argument and no file).
# Nothing is installed or run here but git and tar; they do not see the token before it is time to push.
set -euo pipefail

[[ ${BRANCH:-} =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$ ]] || { echo "BRANCH is not the name of a branch" >&2; exit 2; }
[[ -f ${PACKED:-} ]] || { echo "PACKED is not a file" >&2; exit 2; }
secret=${TOKEN:-}
unset TOKEN

# All of the listing is read: a filter that leaves at its first hit would make tar fail, and that look like no hit
kinds=$(tar -tvf "${PACKED}" | cut -c1 | sort -u | tr -d '\n')
[[ ${kinds} =~ ^-?d?$ ]] || { echo "The archive has what is neither a file nor a folder" >&2; exit 1; }
odd=$(tar -tf "${PACKED}" | { grep -Ev '^(leaderboard\.csv|README\.md|docs/([A-Za-z0-9_][A-Za-z0-9._-]*/?)*)$' || true; } | wc -l)
[[ ${odd} -eq 0 ]] || { echo "The archive has other files than the board's" >&2; exit 1; }

fresh=$(mktemp -d)
tar -xf "${PACKED}" -C "${fresh}" --no-same-owner --no-same-permissions leaderboard.csv README.md docs
[[ -z $(find "${fresh}" ! -type f ! -type d) ]] || { echo "The archive has what is neither a file nor a folder" >&2; exit 1; }
rm -rf docs
cp -R "${fresh}/docs" "${fresh}/leaderboard.csv" "${fresh}/README.md" ./
rm -rf "${fresh}"

safe=(-c core.hooksPath=/dev/null -c core.fsmonitor=false)
git "${safe[@]}" add -- leaderboard.csv README.md docs
if git "${safe[@]}" diff --cached --quiet --no-ext-diff; then echo "The board is in step"; exit 0; fi
git "${safe[@]}" -c user.name='github-actions[bot]' -c user.email='41898282+github-actions[bot]@users.noreply.github.com' \
  commit --quiet --message 'The board and its pages, from the records'
GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="http.${GITHUB_SERVER_URL:-https://github.com}/.extraheader" \
GIT_CONFIG_VALUE_0="Authorization: Basic $(printf 'x-access-token:%s' "${secret}" | base64 | tr -d '\n')" \
  git "${safe[@]}" push --quiet origin "HEAD:refs/heads/${BRANCH}"
