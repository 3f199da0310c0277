#!/usr/bin/env bash
# Does a row of a pull request name authors? Then the check fails: this board is anonymous.
# From the environment: PULL (its number), BASE (a commit). It comes after check-pull-request.sh, which fetched the pull request.
set -euo pipefail

[[ ${PULL:-} =~ ^[1-9][0-9]{0,9}$ ]] || { echo "PULL is not the number of a pull request" >&2; exit 2; }
[[ ${BASE:-} =~ ^[0-9a-f]{40}$ ]] || { echo "BASE is not a commit" >&2; exit 2; }
head="refs/pull/${PULL}/head"
code=0
# --no-pager and -z: a path or a file that a stranger wrote gets into no command and not into the log
while IFS= read -r -d '' path; do
  if ! git --no-pager show "${head}:${path}" | grep -aF '"authors": ""' > /dev/null; then code=1; fi
done < <(git --no-pager diff -z --no-renames --no-ext-diff --name-only --diff-filter=d "${BASE}...${head}" -- records)
if [[ ${code} -ne 0 ]]; then echo "A row names authors, and this board is anonymous: hand it in without --authors" >&2; fi
exit "${code}"
