"""One training step of Fieldmark beside PyTorch's best layout, alternating in one run.

usage: python train.py STEP_BINARY [--json] [--steps a,b] [--precisions f32,bf16] [--rounds 3] [--threads 2]

With --json one object a line: step, precision, threads, ours_ms, peer, peer_ms, ratio (of times, ours / peer), and the peaks of memory in
MiB: of the whole process, and beyond what the process held before its first step.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("--json", action="store_true")
parser.add_argument("--steps", default="resnet18_cifar,lite0,mnist_cnn,mobilenet_v2,vit_tiny")
parser.add_argument("--precisions", default="f32")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()
peer_script = Path(__file__).with_name("pytorch_step.py")


def last_line(command):
    env = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


rows = []
for step in args.steps.split(","):
    for precision in args.precisions.split(","):
        ours, peers = [], {"nchw": [], "channels_last": []}
        for _ in range(args.rounds):
            ours.append(last_line([args.binary, step, "plan" if precision == "f32" else precision]))
            for layout, list_ in peers.items():
                list_.append(last_line([sys.executable, str(peer_script), step, precision, layout, str(args.threads)]))
        median = lambda list_, key: statistics.median(entry[key] for entry in list_)
        layout = min(peers, key=lambda layout: median(peers[layout], "milliseconds"))
        best, ms = peers[layout], median(ours, "milliseconds")
        row = {"step": step, "precision": precision, "threads": args.threads, "ours_ms": round(ms, 1), "peer": f"pytorch {layout}"}
        row |= {"peer_ms": median(best, "milliseconds"), "ratio": round(ms / median(best, "milliseconds"), 2)}
        row |= {"ours_mib": round(median(ours, "peak_mib")), "ours_beyond_mib": round(median(ours, "peak_mib") - median(ours, "before_mib"))}
        row |= {"peer_mib": median(best, "peak_mib"), "peer_beyond_mib": round(median(best, "peak_mib") - median(best, "before_mib"))}
        rows.append(row)
        if args.json:
            print(json.dumps(row), flush=True)
if not args.json:
    print("| step | precision | Fieldmark ms | PyTorch ms | ratio | Fieldmark MiB | PyTorch MiB |\n|---|---|---|---|---|---|---|")
    for r in rows:
        print(f"| `{r['step']}` | {r['precision']} | {r['ours_ms']} | {r['peer_ms']} ({r['peer']}) | {r['ratio']} | {r['ours_mib']} | {r['peer_mib']} |")
