#!/bin/bash
# All that has to be seen on a machine with a GPU; meant to take 8 to 9 minutes together, and made to end within LIMIT seconds (by default
# 570): what finds no time any more is named as missing. Writes gpu.md into OUT (by default docs/gpu). Where operations or the
# demo model fail, it goes on as "quick" does, unless "full" is asked for.
#
#     tests/gpu/run.sh pack              here: builds the program and lays what travels into out/gpu
#     tests/gpu/run.sh [quick|full]      there: runs it from out/gpu; quick: without full-size weights; full: without compute-sanitizer
#
# GPU=PROGRAM runs a program that is built already (cargo's examples/gpu) in place of the packed one.
#
# The machine with the GPU needs a driver for CUDA 12 and, for full-size weights and the peer, a python3 with torch,
# transformers, safetensors and regex; diffusers comes along as a wheel. No CUDA toolkit; a C compiler only for the compiled
# peer. What travels is the working
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
    rm -f $own/diffusers-*.whl
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
found=$(timeout -k 5 60 "$gpu" devices 2>&1) || none "no CUDA device that can be used: ${found:-no answer within 60 s}"
mode=${1:-}

mkdir -p "$out"
report=$out/gpu.md
limit=${LIMIT:-570}
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
    if [ $((limit - SECONDS)) -lt 10 ]; then
        missing+=("${*##*/out/}: no time was left")
        printf '\n`%s`: **not run**: no time was left\n' "${*##*/out/}" >>"$report"
        return
    fi
    [ "$seconds" -le $((limit - SECONDS)) ] || seconds=$((limit - SECONDS))
    timeout -k 5 "$seconds" "$@" >>"$report" 2>>"$out/gpu.log"
    local status=$?
    printf '\n`%s`: status %d, %d s\n' "${*##*/out/}" $status $((SECONDS - start)) >>"$report"
    [ $status = 0 ] || failed=1
    tail -n 3 "$report"
}
# The same for what may be left out where time is short; "why" says of which output that it cannot be run here.
spare() {
    local name=$1 seconds=$2 most=$3 why=$4 start=$SECONDS status text
    shift 4
    [ "$seconds" -le "$most" ] || seconds=$most
    if [ "$seconds" -lt 30 ]; then
        lacks "$name" "$name: no time was left"
        return
    fi
    text=$(timeout -k 5 "$seconds" "$@" 2>>"$out/gpu.log")
    status=$?
    # 137: it had to be killed.
    if [ $status = 124 ] || { [ $status = 137 ] && [ $((SECONDS - start)) -ge "$seconds" ]; }; then lacks "$name" "$name: not done in $seconds s"
    elif [ -n "$why" ] && [[ $text == *$why* ]]; then lacks "$name" "$name: $why"
    else
        section "$name"
        printf '%s\n\n`%s`: status %d, %d s\n' "$text" "${*##*/out/}" $status $((SECONDS - start)) >>"$report"
        [ $status = 0 ] || failed=1
    fi
    tail -n 3 "$report"
}
# All that compute-sanitizer finds in the operations; each block of memory is one of the driver's then, so that what lies
# beside it is nobody's.
sanitize() {
    spare "compute-sanitizer $1" "$2" 100 "Device not supported" env LATENTBLEND_CUDA_EXACT=1 \
        compute-sanitizer --tool "$1" --error-exitcode 7 --print-limit 5 "$gpu" ops
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
sanitizer=
[ "$mode" = full ] || sanitizer=$(command -v compute-sanitizer) || lacks "compute-sanitizer" "compute-sanitizer is not on the PATH"
if [ $failed = 1 ] && [ "$mode" != full ] && [ "$mode" != quick ]; then
    mode=quick
    lacks "Full-size weights" "full-size weights: the above failed, which is looked into first"
fi
if [ "$mode" != quick ]; then
    model=/tmp/latentblend-full
    site=/tmp/latentblend-site
    wheel=$(ls $own/diffusers-*.whl 2>/dev/null | head -n 1)
    name="Stable Diffusion 2.0's shapes, and the same on PyTorch"
    wanted='import torch, transformers, safetensors, regex
from diffusers import AutoencoderKL, UNet2DConditionModel
assert torch.cuda.is_available(), "torch finds no CUDA device"'
    if [ -z "$wheel" ]; then lacks "$name" "no $own/diffusers-*.whl: tests/gpu/run.sh pack"
    elif ! why=$(rm -rf $site && python3 -m zipfile -e "$wheel" $site && PYTHONPATH=$site timeout -k 5 60 python3 -W ignore -c "$wanted" 2>&1); then
        why=${why##*$'\n'}
        lacks "$name" "${why:-torch was not imported within 60 s}"
    else
        export PYTHONPATH=$site
        section "Stable Diffusion 2.0's shapes, random weights"
        try 120 python3 tests/gpu/peer.py make $model
        try 60 "$gpu" check $model
        try 150 "$gpu" bench $model 768
        try 90 "$gpu" bench $model 512
        for gigabytes in 8 12 24; do try 45 "$gpu" bench $model 768 $gigabytes; done
        # Little memory takes more time, and makes the same frames.
        if [ "$(grep -o '^frames of 768: [0-9a-f]*' "$report" | sort -u | wc -l)" -gt 1 ]; then
            printf '\n**frames differ with the limit of memory**\n' >>"$report"
            failed=1
        fi
        section "The same on PyTorch"
        try 60 python3 tests/gpu/peer.py bench $model
        [ -z "$sanitizer" ] || sanitize memcheck $((limit - 30 - SECONDS))
        # Compiling takes its time; what is left, but for a minute and a half, is given to it.
        if [ -n "$(command -v gcc || command -v clang)" ]; then
            for size in 768 512; do
                spare "The same on PyTorch, compiled, $size" $((limit - 90 - SECONDS)) 240 "" \
                    python3 tests/gpu/peer.py bench $model --compile --size $size
            done
        else
            lacks "The same on PyTorch, compiled" "compiled PyTorch: Triton finds no C compiler"
        fi
    fi
fi
checks="racecheck synccheck"
grep -q '^## compute-sanitizer memcheck' "$report" || checks="memcheck $checks"
[ -z "$sanitizer" ] || for tool in $checks; do sanitize $tool $((limit - SECONDS)); done
if [ $failed = 1 ]; then verdict='**something failed**' status=1
elif [ ${#missing[@]} -gt 0 ]; then verdict="what was run passed; missing: $(IFS=';'; echo "${missing[*]}")" status=2
else verdict='everything passed' status=0
fi
printf '\n%d s in all; %s\n' $SECONDS "$verdict" >>"$report"
cat "$report"
exit $status
