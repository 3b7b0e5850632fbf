#!/bin/sh
# Installs what package-lock.json names when node_modules is missing or older than it. Runs before every npm script that
# needs more than npm itself, with whatever Node the machine has: from here on node_modules/.bin/node is Node 24.
set -eu
cd "$(dirname "$0")/.."
installed=node_modules/.installed-lock.json

# npm ci takes the packages from under everything that runs, so it must not run without need: neither after `npm install`,
# which leaves its own record newer than the lock, nor when a checkout only touched the lock.
if [ -x node_modules/.bin/node ]; then
  if cmp -s package-lock.json "$installed"; then exit 0; fi
  if [ -f node_modules/.package-lock.json ] && [ ! package-lock.json -nt node_modules/.package-lock.json ]; then
    cp package-lock.json "$installed"
    exit 0
  fi
fi
echo 'installing packages (npm ci)' >&2
npm ci --no-progress >&2
cp package-lock.json "$installed"
