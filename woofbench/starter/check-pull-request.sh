#!/usr/bin/env bash
# The verdict on a pull request's rows, by the program of the base, which is what is checked out here.
# From the environment: PULL (its number), BASE (a commit); and GitHub's own GITHUB_STEP_SUMMARY, if any.
# Nothing of the pull request is checked out, imported, installed or run: git fetches its objects, and they are read as blobs.
set -euo pipefail

[[ ${PULL:-} =~ ^[1-9][0-9]{0,9}$ ]] || { echo "PULL is not the number of a pull request" >&2; exit 2; }
[[ ${BASE:-} =~ ^[0-9a-f]{40}$ ]] || { echo "BASE is not a commit" >&2; exit 2; }
export GIT_NO_REPLACE_OBJECTS=1 GIT_TERMINAL_PROMPT=0
program=${WOOFBENCH:-woofbench}

git -c core.hooksPath=/dev/null -c protocol.ext.allow=never fetch --quiet --no-tags --no-recurse-submodules --no-write-fetch-head \
  origin "+refs/pull/${PULL}/head:refs/pull/${PULL}/head"

# What a stranger wrote may be in the text: until the token comes again, the log takes nothing for a command
token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
echo "::stop-commands::${token}"
code=0
report=$("${program}" check --base "${BASE}" --head "refs/pull/${PULL}/head" --as md) || code=$?
printf '%s\n' "${report}"
echo "::${token}::"

if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then printf '%s\n' "${report}" >> "${GITHUB_STEP_SUMMARY}"; fi
exit "${code}"
