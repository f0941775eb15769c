#!/usr/bin/env bash
# The same under the path that the relay's page names.
exec "$(dirname "$0")/../tools/onboarding-smoke-test.sh" "$@"
