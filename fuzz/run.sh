#!/bin/sh
# Builds and runs one fuzz target without cargo-fuzz: ./run.sh TARGET SECONDS [libFuzzer flags]. Needs a C++ compiler.
# Memory is bound to 2 GiB and an input to 10 seconds; finds are written to artifacts/TARGET-*.
set -eu
cd "$(dirname "$0")"
target=$1
seconds=$2
shift 2
host=$(rustc -vV | sed -n 's/^host: //p')
[ -d seeds ] || cargo run --release --manifest-path ../Cargo.toml -p fieldmark-engine --example fuzz_seeds -- seeds
# The flags of cargo-fuzz, without a sanitizer: the code under test is safe Rust, and memory is watched by the limit.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --release --target "$host" --bin "$target"
out=${CARGO_TARGET_DIR:-target}/$host/release
mkdir -p "corpus/$target" artifacts
exec "$out/$target" "corpus/$target" "seeds/$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
    -artifact_prefix="artifacts/$target-" "$@"
