"""Fieldmark's engine beside ONNX Runtime and OpenVINO on the same ONNX files, alternating; called by peers.sh infer.

usage: python infer.py BINARY DIR [--json] [--models A,B] [--batches 1,8] [--precisions f32,bf16,int8] [--threads 2] [--rounds 3] [--calibrate IMAGES]

Every round times each program once (a process of its own, median of 30 runs after 5, of 8 after 2 from batch 32), one after the other; the
figures are medians over the rounds. --json prints one object a line; otherwise a table is printed and written between the marks in
BENCHMARKS.md. int8 needs the peers' quantised files beside the ONNX files: made by quantize_peers.py on first use, from the pictures in
--calibrate.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
PEERS = {"f32": ["onnxruntime", "openvino"], "bf16": ["openvino_default"], "int8": ["openvino_int8", "onnxruntime_int8"]}
BEGIN, END = "<!-- infer: begin -->", "<!-- infer: end -->"


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(options, file, batch, precision, threads):
    runs = 30 if batch < 32 else 8
    ours_call = [options.binary, "benchmark", file, "--batch", batch, "--precision", precision, "--threads", threads, "--runs", runs, "--json"]
    peers = PEERS[precision]
    ours, theirs = [], {peer: [] for peer in peers}
    for _ in range(options.rounds):
        ours.append(run([str(part) for part in ours_call])["ms"])
        for peer in peers:
            theirs[peer].append(run([sys.executable, HERE / "onnx_peers.py", "time", file, peer, str(threads), str(runs)])["ms"])
    return statistics.median(ours), {peer: statistics.median(times) for peer, times in theirs.items()}


def path(options, model, batch):
    return pathlib.Path(options.folder) / f"{model}_b{batch}.onnx"


def quantised(options, file):
    """Has the peers quantise a file, once."""
    if all(file.with_suffix(end).exists() for end in [".openvino_int8.xml", ".onnxruntime_int8.onnx"]):
        return
    if not options.calibrate:
        sys.exit(f"{file} is not quantised for the peers yet: give a folder of pictures with --calibrate")
    subprocess.run([sys.executable, HERE / "quantize_peers.py", file, options.calibrate, "24"], check=True, stdout=sys.stderr)


def rows(options):
    for model in options.models.split(","):
        for batch in map(int, options.batches.split(",")):
            file = path(options, model, batch)
            for precision in options.precisions.split(","):
                if precision == "int8":
                    quantised(options, file)
                for threads in map(int, options.threads.split(",")):
                    ours, peers = measure(options, file, batch, precision, threads)
                    for peer, theirs in peers.items():
                        yield {"model": model, "batch": batch, "precision": precision, "threads": threads, "ours_ms": round(ours, 3),
                               "peer": peer, "peer_ms": round(theirs, 3), "ratio": round(ours / theirs, 3)}


def table(rows):
    lines = ["| model | batch | precision | threads | Fieldmark ms | peer | peer ms | ratio |", "|---|---|---|---|---|---|---|---|"]
    keys = ["model", "batch", "precision", "threads", "ours_ms", "peer", "peer_ms", "ratio"]
    return "\n".join(lines + ["| " + " | ".join(str(row[key]) for key in keys) + " |" for row in rows])


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("binary")
    parser.add_argument("folder")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--models", default="efficientnet_lite0,resnet18")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--precisions", default="f32,bf16,int8")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calibrate")
    options = parser.parse_args()
    batches = [b for b in options.batches.split(",") if any(not path(options, m, b).exists() for m in options.models.split(","))]
    if batches:
        subprocess.run([sys.executable, HERE / "onnx_peers.py", "export", options.folder, *batches], check=True, stdout=sys.stderr)
    if options.json:
        for row in rows(options):
            print(json.dumps(row), flush=True)
        return
    text = table(list(rows(options)))
    print(text)
    file = HERE.parent / "BENCHMARKS.md"
    page = file.read_text()
    if BEGIN not in page or END not in page:
        sys.exit(f"{file.name} has no place for the table: expected the marks {BEGIN} and {END}")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    file.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
