#!/usr/bin/env bash
# The name by which the smoke test is known; it lives in tools/.
exec bash "$(dirname "$0")/../tools/onboarding-smoke-test.sh" "$@"
