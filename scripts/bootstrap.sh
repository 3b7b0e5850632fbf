#!/bin/sh
# Installs what package-lock.json names when node_modules is missing or older than it. Runs before every npm script that
# needs more than npm itself, with whatever Node the machine has: from here on node_modules/.bin/node is Node 24.
set -eu
cd "$(dirname "$0")/.."
mark=node_modules/.package-lock.json
if [ -x node_modules/.bin/node ] && [ -f "$mark" ] && [ ! package-lock.json -nt "$mark" ]; then exit 0; fi
echo 'installing packages (npm ci)' >&2
npm ci --no-progress >&2
touch "$mark"
