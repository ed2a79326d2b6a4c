"""Images per second of CleanVision's checks and of imagededup's perceptual hash over a folder.

usage: python audit_peers.py DIR [WORKERS]   prints one JSON object
"""
import contextlib
import json
import os
import sys
import time

from cleanvision import Imagelab
from imagededup.methods import PHash

folder, workers = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
count = sum(name.lower().endswith((".png", ".jpg", ".jpeg")) for _, _, names in os.walk(folder) for name in names)
with contextlib.redirect_stdout(sys.stderr):
    start = time.perf_counter()
    Imagelab(data_path=folder).find_issues(n_jobs=workers, verbose=False)
    checks = time.perf_counter() - start
    start = time.perf_counter()
    PHash(verbose=False).encode_images(folder, recursive=True, num_enc_workers=workers)
    hashes = time.perf_counter() - start
print(json.dumps({"images": count, "cleanvision_per_second": round(count / checks, 1), "imagededup_per_second": round(count / hashes, 1)}))
