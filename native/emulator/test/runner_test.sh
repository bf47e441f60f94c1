#!/bin/sh
# runner_test.sh RUNNER IMAGE: every way a run can end.
set -u
runner=$1 image=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# expect CODE TEXT ARGUMENTS...
expect() {
  code=$1 text=$2
  shift 2
  found=$("$runner" "$image" "$@" 2>&1)
  got=$?
  case $found in *"$text"*) matches=1 ;; *) matches=0 ;; esac
  if [ $got -ne "$code" ] || [ $matches -eq 0 ]; then
    echo "FAIL: $*: exit $got (expected $code), \"$found\" (expected \"$text\")"
    failed=1
  fi
}

# Three floats, their doubles, and a value that is nearly the last: 1 2 3, 2 4 6, 2 4 6.00000048.
printf '\000\000\200\077\000\000\000\100\000\000\100\100' >"$work/x"
printf '\000\000\000\100\000\000\200\100\000\000\300\100' >"$work/y"
printf '\000\000\000\100\000\000\200\100\001\000\300\100' >"$work/near"

cd "$work" || exit 1
expect 0 "" twice --blocks 1 --dims 3,0 in:x expect:y
expect 0 "" twice --blocks 1 --dims 3,0 --seeds 1-5 in:x expect:near:f32:1e-6
expect 3 "byte 8 is 0, expected 1" twice --blocks 1 --dims 3,0 in:x expect:near
expect 3 "expected 6.000000" twice --blocks 1 --dims 2,0 in:x expect:y:f32:1e-6
expect 0 "" twice --blocks 1 --dims 3,0 in:x out:12:z
cmp -s y z || { echo "FAIL: out:12:z differs"; failed=1; }
expect 5 "buffer 1: written 0 bytes behind its end" twice --blocks 1 --dims 4,0 in:x expect:y
expect 2 "invalid access" twice --blocks 1 --dims 5,0 in:x expect:y
expect 5 "buffer 1: written 1 bytes before its start" twice --blocks 1 --dims 3,-1 in:x expect:y
expect 5 "an input was written" twice --blocks 1 --dims 3,0 in:x in:x
expect 4 "error 1 of operand 2, value 7" error_word --blocks 1 zero:4
expect 6 "the time was up" endless --blocks 1 --timeout 1 zero:4
expect 2 "divergent barrier" trap_exited --blocks 1 zero:4
expect 1 "no kernel missing" missing --blocks 1
expect 1 "--blocks is missing" twice in:x expect:y
exit $failed
