#!/usr/bin/env bash
# Puts mistakes into the losses on purpose, one at a time, and demands that a test fails for each. usage: run.sh
exec python3 "$(dirname "$0")/run.py" "$@"
