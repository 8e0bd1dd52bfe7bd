#!/usr/bin/env bash
# Runs a fuzz target with a stable compiler: coverage by LLVM's passes, AddressSanitizer by the runtime that
# comes with the toolchain. fuzz/run.sh TARGET [libFuzzer's options], or fuzz/run.sh TARGET --keep.
set -euo pipefail
cd "$(dirname "$0")"

target=${1:?usage: fuzz/run.sh calls|models [libFuzzer options | --keep]}
shift
# What is grown and found is kept apart from the corpus that is checked in.
home=$PWD/../target/fuzz
mkdir -p "$home/corpus/$target" "$home/findings" "corpus/$target"

RUSTC_WRAPPER=$PWD/instrument.sh CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$home/build} \
  cargo build --locked --bin "$target"
binary=${CARGO_TARGET_DIR:-$home/build}/debug/$target

# Proved by symbol: without them a run would say little.
for symbol in __asan_init __sanitizer_cov_8bit_counters_init; do
  # The whole list is read: a `grep -q` that stops early would end nm by a signal, and with it this script.
  nm "$binary" | grep -c "$symbol" > /dev/null || { echo "$symbol is not in $binary" >&2; exit 1; }
done

limits=(-max_len=10000 -rss_limit_mb=4096 -timeout=120)
if [ "${1:-}" = --keep ]; then
  kept=$(mktemp -d)
  "$binary" -merge=1 "${limits[@]}" "$kept" "corpus/$target" "$home/corpus/$target"
  rm -rf "corpus/$target"
  mv "$kept" "corpus/$target"
  chmod 755 "corpus/$target"
  du -sh "corpus/$target"
  exit
fi
exec "$binary" -artifact_prefix="$home/findings/" "${limits[@]}" -print_final_stats=1 "$@" \
  "$home/corpus/$target" "corpus/$target"
