#!/usr/bin/env bash
# Does c2c work here, and does it reach the relay?
#
#   onboarding-smoke-test.sh [relay-url]
#
# Without an argument it asks C2C_RELAY_URL, else http://127.0.0.1:7331. C2C_RELAY_TOKEN is the
# operator's token, if there is one; C2C names the program, else it is the `c2c` of the PATH.
#
# Everything happens in a temporary HOME and broker root, which are removed at the end. The relay
# keeps three aliases, smoke-<id>-a to smoke-<id>-c, whose leases expire.
#
# WARN stands where PASS or FAIL cannot be said because the relay does not answer. The status is 1
# if a step failed, else 0.

set -u

case "${1-}" in
  -h | --help)
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac

url=${1:-${C2C_RELAY_URL:-http://127.0.0.1:7331}}
token=${C2C_RELAY_TOKEN-}
program=$(command -v -- "${C2C:-c2c}")
# A path that was given relative to here.
case "$program" in */*) program=$(cd "$(dirname "$program")" && pwd)/$(basename "$program") ;; esac

work=$(mktemp -d "${TMPDIR:-/tmp}/c2c-smoke.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Nothing of the caller's settings and sessions counts from here on.
for name in $(compgen -v C2C_) XDG_CONFIG_HOME XDG_STATE_HOME XDG_DATA_HOME XDG_CACHE_HOME; do
  unset "$name"
done
id=$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
here=smoke-$id-a
there=smoke-$id-b
beside=smoke-$id-c
export HOME=$work/home
export C2C_MCP_BROKER_ROOT=$work/broker
export C2C_MCP_SESSION_ID=s-$here
export C2C_RELAY_NODE_ID=$here
mkdir -p "$HOME" "$C2C_MCP_BROKER_ROOT" && cd "$work" || exit 1

passed=0 warned=0 failed=0
reached=yes
output=

say() {
  printf '%-4s  %-12s  %s\n' "$1" "$2" "$3"
  case "$1" in
    PASS) passed=$((passed + 1)) ;;
    WARN) warned=$((warned + 1)) ;;
    FAIL)
      failed=$((failed + 1))
      [ -z "$output" ] || printf '%s\n' "$output" | sed 's/^/      | /'
      ;;
  esac
}

# Runs a command and keeps what it prints, both streams.
run() {
  if command -v timeout > /dev/null; then
    output=$(timeout 60 "$@" 2>&1 < /dev/null)
  else
    output=$("$@" 2>&1 < /dev/null)
  fi
  local status=$?
  case "$status" in
    0) ;;
    124) output="no end after 60 s: $*" ;;
    *) [ -n "$output" ] || output="status $status and no output: $*" ;;
  esac
  return "$status"
}

# The same, and the output must hold a text.
run_for() {
  local text=$1
  shift
  run "$@" || return 1
  case "$output" in *"$text"*) return 0 ;; esac
  output="expected '$text' of: $* - but there was: $output"
  return 1
}

# step NAME WHAT FUNCTION: what must work on any machine.
step() {
  if "$3"; then say PASS "$1" "$2"; else say FAIL "$1" "$2"; fi
}

# The same for what needs the relay.
relay_step() {
  if [ "$reached" = no ]; then
    say WARN "$1" "$2: not tried"
  elif "$3"; then
    say PASS "$1" "$2"
  else
    case "$output" in
      *remote_unavailable*)
        reached=no
        say WARN "$1" "$(printf '%s\n' "$output" | sed -n '/remote_unavailable/{p;q;}')"
        ;;
      *) say FAIL "$1" "$2" ;;
    esac
  fi
}

finish() {
  echo "$passed passed, $warned warned, $failed failed"
  [ "$failed" = 0 ]
  exit
}

install_self() {
  run "$program" install self || return 1
  c2c=$HOME/.local/bin/c2c
  run_for c2c "$c2c" --version
}

make_identity() {
  run "$c2c" relay identity init || return 1
  run_for SHA256: "$c2c" relay identity fingerprint || return 1
  output="the key is not a private file of this user"
  [ -n "$(find "$HOME/.config/c2c/identity.json" -perm 600)" ]
}

save_setup() {
  if [ -n "$token" ]; then
    # By a file: other users see the command line.
    (umask 077 && printf '%s\n' "$token" > "$work/token")
    run "$c2c" relay setup --url "$url" --token-file "$work/token" || return 1
  else
    run "$c2c" relay setup --url "$url" || return 1
  fi
  run_for "${url%/}" "$c2c" relay setup --show
}

register_here() {
  run "$c2c" register --alias "$here" && run_for "$here" "$c2c" whoami
}

ask_relay() {
  run_for "status: OK" "$c2c" relay status
}

check_token() {
  run "$c2c" relay list --dead
}

register_there() {
  run "$c2c" relay register --alias "$there" --node-id "$there"
}

connect() {
  run "$c2c" relay connect --once --ttl 60 || return 1
  run_for "$here" "$c2c" relay list --alias "$here"
}

dm_here() {
  run env C2C_MCP_SESSION_ID="s-$beside" "$c2c" register --alias "$beside" || return 1
  run "$c2c" send "$beside" "ping $id" || return 1
  run_for "ping $id" env C2C_MCP_SESSION_ID="s-$beside" "$c2c" poll-inbox
}

dm_through_relay() {
  run "$c2c" send "$there@$there" "ping $id" || return 1
  run "$c2c" relay connect --once --ttl 60 || return 1
  run_for "ping $id" "$c2c" relay dm poll --alias "$there" --node-id "$there" || return 1
  run "$c2c" relay dm send "$here@$here" "pong $id" --alias "$there" || return 1
  run "$c2c" relay connect --once --ttl 60 || return 1
  run_for "pong $id" "$c2c" poll-inbox
}

rooms_here() {
  run "$c2c" rooms create "smoke-$id" && run_for "smoke-$id" "$c2c" rooms list
}

rooms_there() {
  run "$c2c" relay rooms list
}

output=
if [ -z "$program" ]; then
  output="there is no such program on the PATH"
  say FAIL install "${C2C:-c2c}"
  finish
fi
step install "c2c install self" install_self
# All else is done with what was installed.
[ "$failed" = 0 ] || finish
step identity "c2c relay identity init" make_identity
step setup "c2c relay setup --url $url" save_setup
[ "$failed" = 0 ] || reached=no
step register "an alias on this machine" register_here
relay_step relay "c2c relay status" ask_relay
[ -z "$token" ] || relay_step token "the relay takes it" check_token
relay_step register "an alias on the relay" register_there
relay_step connector "c2c relay connect --once" connect
step "loopback DM" "on this machine" dm_here
relay_step "loopback DM" "through the relay, there and back" dm_through_relay
step "rooms list" "on this machine" rooms_here
relay_step "rooms list" "on the relay" rooms_there
finish
