#!/usr/bin/env bash
# Runs a fuzz target with a stable compiler: coverage by LLVM's passes, AddressSanitizer by the runtime that
# comes with the toolchain. fuzz/run.sh TARGET [libFuzzer's options], or fuzz/run.sh TARGET --keep.
set -euo pipefail
cd "$(dirname "$0")"

target=${1:?usage: fuzz/run.sh calls|models [libFuzzer options | --keep]}
shift
triple=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=1 --cfg fuzzing"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../target/fuzz}
cargo build --locked --target "$triple" --bin "$target"
binary=$CARGO_TARGET_DIR/$triple/debug/$target

# Proved by symbol: without it a run would say little.
nm "$binary" | grep -q __asan_init || { echo "AddressSanitizer is not in $binary" >&2; exit 1; }

grown=$CARGO_TARGET_DIR/corpus/$target
mkdir -p "$grown" "corpus/$target" "$CARGO_TARGET_DIR/findings"
if [ "${1:-}" = --keep ]; then
  kept=$(mktemp -d)
  "$binary" -merge=1 -max_len=10000 -rss_limit_mb=4096 "$kept" "corpus/$target" "$grown"
  rm -rf "corpus/$target" && mv "$kept" "corpus/$target" && chmod 755 "corpus/$target"
  du -sh "corpus/$target"
  exit
fi
exec "$binary" -artifact_prefix="$CARGO_TARGET_DIR/findings/" -max_len=10000 -rss_limit_mb=4096 -timeout=60 \
  -print_final_stats=1 "$@" "$grown" "corpus/$target"
