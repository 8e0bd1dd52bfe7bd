#!/usr/bin/env bash
# A rustc that instruments this project's own crates alone: for a fuzzer they are what counts, and their
# dependencies, which take most of a build, can be those of the library's own tests. Used by run.sh.
set -euo pipefail
compiler=$1
shift
case " $* " in
  *" --crate-name latentblend "* | *" --crate-name calls "* | *" --crate-name models "*)
    RUSTC_BOOTSTRAP=1 exec "$compiler" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=1 --cfg fuzzing
    ;;
esac
exec "$compiler" "$@"
