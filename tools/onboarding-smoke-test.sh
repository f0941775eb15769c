#!/usr/bin/env bash
# A new machine, from install to a room, against a temporary HOME and broker root.
# Usage: onboarding-smoke-test.sh [relay-url]; the token, if there is one, in C2C_RELAY_TOKEN.
# PASS or FAIL for each step; what needs a relay that does not answer is a WARN. Exits with 1 when a
# required step fails.
set -u
url="${1:-${C2C_RELAY_URL:-http://127.0.0.1:7331}}"
c2c="${C2C:-c2c}"
work="$(mktemp -d)" || exit 1
trap 'rm -rf "$work"' EXIT
export HOME="$work/home" C2C_MCP_BROKER_ROOT="$work/broker" C2C_MCP_SESSION_ID=smoke-session
export C2C_RELAY_URL="$url" C2C_RELAY_NODE_ID="smoke-$$"
unset XDG_CONFIG_HOME XDG_STATE_HOME C2C_RELAY_CONFIG C2C_RELAY_IDENTITY_PATH C2C_MCP_AUTO_REGISTER_ALIAS
mkdir -p "$HOME" && cd "$work" || exit 1
failed=0
answers=1

# step NAME COMMAND...: required
step() {
  local name="$1"
  shift
  if output="$("$@" 2>&1)"; then
    echo "PASS $name"
  else
    echo "FAIL $name: $(head -n 1 <<<"$output")"
    failed=1
  fi
}

# relay_step NAME COMMAND...: required if the relay answers
relay_step() {
  if [ "$answers" = 1 ]; then
    step "$@"
  else
    echo "WARN $1: the relay at $url does not answer"
  fi
}

alias_name="smoke-$$"
step "install" "$c2c" install self
step "installed program runs" "$HOME/.local/bin/c2c" --version
[ -x "$HOME/.local/bin/c2c" ] && c2c="$HOME/.local/bin/c2c"
step "identity" "$c2c" relay identity init
step "setup" "$c2c" relay setup --url "$url"
step "local alias" "$c2c" register --alias "$alias_name"
if ! "$c2c" relay status >/dev/null 2>&1; then
  answers=0
fi
relay_step "status" "$c2c" relay status
relay_step "register" "$c2c" relay register --alias "$alias_name-cli"
relay_step "connector" "$c2c" relay connect --once

loopback() {
  "$c2c" send "$alias_name-cli@$C2C_RELAY_NODE_ID" "loopback $$" &&
    "$c2c" relay connect --once &&
    "$c2c" relay dm poll --alias "$alias_name-cli" | grep -q "loopback $$"
}
relay_step "loopback DM" loopback
relay_step "rooms list" "$c2c" relay rooms list
[ "$failed" = 0 ] && echo "OK" || echo "FAILED"
exit "$failed"
