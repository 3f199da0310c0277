#!/usr/bin/env bash
# After a merge: check every record again, make leaderboard.csv and the pages from them, and pack them.
# From the environment: PACKED (the archive to write), WOOFBENCH and PYTHON (programs; those on the path if not given).
# A record that does not hold, or one that needs an audit and has no ruling, stops it before anything is packed.
# No token is here: what is packed is pushed by a job that installs and runs nothing.
set -euo pipefail

[[ -n ${PACKED:-} ]] || { echo "PACKED is not the name of a file" >&2; exit 2; }
program=${WOOFBENCH:-woofbench}

token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
echo "::stop-commands::${token}"
code=0
"${program}" board --force > /dev/null && "${program}" check . || code=$?
echo "::${token}::"
[[ ${code} -eq 0 ]] || exit "${code}"
rm -f leaderboard.csv.bak

"${PYTHON:-python}" -m woofbench.site readme
tar -cf "${PACKED}" leaderboard.csv README.md docs
