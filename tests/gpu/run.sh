#!/bin/bash
# All that has to be seen on a machine with a GPU; its parts may take 8 minutes together. Writes gpu.md into OUT (by default docs/gpu).
#
#     tests/gpu/run.sh pack              here: builds the program and lays what travels into out/gpu
#     tests/gpu/run.sh [quick]           there: runs it from out/gpu; quick: without full-size weights
#
# GPU=PROGRAM runs a program that is built already (cargo's examples/gpu) in place of the packed one.
#
# The machine with the GPU needs a driver for CUDA 13 and, for full-size weights and the peer, a python3 with torch,
# transformers and safetensors; diffusers comes along as a wheel. No compiler and no CUDA toolkit. What travels is the working
# tree and out/gpu: out is ignored by git, so it has to be named where a copy of the tree is made.
#
# Status 0: all was run, and passed. 1: something failed. 2: something is missing; it is named, and what needs it
# was not run. Without a program or a device nothing is run, and no report is written.
set -u
cd "$(dirname "$0")/../.."
out=${OUT:-docs/gpu}
own=out/gpu

if [ "${1:-}" = pack ]; then
    set -e
    mkdir -p $own
    # Without the embedded models, which the tree has as files; without symbols.
    cargo build --release --locked --no-default-features --features clip-vocabulary -p latentblend --example gpu
    strip -o $own/gpu target/release/examples/gpu
    gzip -9 -f $own/gpu
    python3 -m pip download -q --no-deps --only-binary=:all: -d $own diffusers==0.42.1
    du -sh $own
    exit
fi

none() {
    echo "tests/gpu/run.sh: $1; nothing was run" >&2
    exit 2
}
gpu=${GPU:-}
if [ -z "$gpu" ]; then
    [ -f $own/gpu.gz ] || none "the program is missing: no $own/gpu.gz here; 'tests/gpu/run.sh pack' makes it on any x86-64 Linux"
    gpu=$(mktemp /tmp/latentblend-gpu.XXXXXX)
    gunzip -c $own/gpu.gz >"$gpu" && chmod +x "$gpu"
fi
found=$("$gpu" devices 2>&1) || none "no CUDA device that can be used: $found"

mkdir -p "$out"
report=$out/gpu.md
failed=0
missing=()
section() { printf '\n## %s\n\n' "$1" >>"$report"; }
# What cannot be run here, and why.
lacks() {
    missing+=("$2")
    section "$1"
    printf '**Not run**: %s\n' "$2" >>"$report"
}
# Runs a command for some seconds at most; what it prints goes into the report, and a failure is told there.
try() {
    local seconds=$1 start=$SECONDS
    shift
    timeout "$seconds" "$@" >>"$report" 2>>"$out/gpu.log"
    local status=$?
    printf '\n`%s`: status %d, %d s\n' "${*##*/out/}" $status $((SECONDS - start)) >>"$report"
    [ $status = 0 ] || failed=1
    tail -n 3 "$report"
}

date -u '+# On a GPU, %Y-%m-%d %H:%M UTC' >"$report"
: >"$out/gpu.log"
printf '\n```\n%s\n```\n' "$found" >>"$report"
if command -v nvidia-smi >/dev/null; then
    printf '\n' >>"$report"
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader >>"$report"
fi
export PYTHONUNBUFFERED=1

section "Operations against the reference backend"
try 100 "$gpu" ops
section "The demo model"
try 60 "$gpu" demo
if command -v compute-sanitizer >/dev/null; then
    section "compute-sanitizer"
    try 90 compute-sanitizer --tool memcheck --error-exitcode 7 --print-limit 5 "$gpu" ops
else
    lacks "compute-sanitizer" "compute-sanitizer is not on the PATH"
fi
if [ "${1:-}" != quick ]; then
    model=/tmp/latentblend-full
    wheel=$(ls $own/diffusers-*.whl 2>/dev/null | head -n 1)
    python=$(python3 -c 'import torch, transformers, safetensors; assert torch.cuda.is_available(), "torch finds no CUDA device"' 2>&1 | tail -n 1)
    [ -n "$wheel" ] || python="${python:-no $own/diffusers-*.whl: tests/gpu/run.sh pack}"
    if [ -n "$python" ]; then
        lacks "Stable Diffusion 2.0's shapes, and the same on PyTorch" "$python"
    else
        python3 -m pip install -q --no-index --no-deps --no-compile --target /tmp/latentblend-site "$wheel"
        export PYTHONPATH=/tmp/latentblend-site
        section "Stable Diffusion 2.0's shapes, random weights"
        try 90 python3 tests/gpu/peer.py make $model
        try 60 "$gpu" bench $model 512
        try 90 "$gpu" bench $model 768
        for gigabytes in 8 12 24; do try 45 "$gpu" bench $model 768 $gigabytes; done
        section "The same on PyTorch"
        try 60 python3 tests/gpu/peer.py bench $model
        # Compiling takes its time; what is left of eight minutes is given to it.
        left=$((470 - SECONDS))
        [ $left -gt 60 ] && try $left python3 tests/gpu/peer.py bench $model --compile
    fi
fi
if [ $failed = 1 ]; then verdict='**something failed**' status=1
elif [ ${#missing[@]} -gt 0 ]; then verdict="what was run passed; missing: $(IFS=';'; echo "${missing[*]}")" status=2
else verdict='everything passed' status=0
fi
printf '\n%d s in all; %s\n' $SECONDS "$verdict" >>"$report"
cat "$report"
exit $status
