#!/usr/bin/env bash
# Everything to check and measure on a machine with an NVIDIA GPU, in one go; writes a folder of JSON files and a summary.
#
#   tests/golden/gpu_parity.sh ADAMIX [OUT]            # parity only
#   tests/golden/gpu_parity.sh ADAMIX OUT PYTHON       # and speed beside PyTorch (torch, transformers)
#
# ADAMIX is a build with --features cuda. Set in the environment:
#   DEVICE=cuda:0   SHAPES="roberta-base roberta-large"   BATCH=64   LENGTH=128   STEPS=10   ROUNDS=5
#   PEAK_TFLOPS=989   the card's dense bf16 peak, for the utilisation (989: H100 SXM and H200)
#
# 1. adamix doctor --selftest: every kernel in every format against double precision on the CPU
# 2. a whole training of the lab on the CPU in f32, on the GPU in f32, bf16 and f16: losses side by side
# 3. tokens/s and memory of training steps, ours and PyTorch's under bf16 autocast, interleaved
# The exit code is 0 when the self-test passed and the trainings agree.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
adamix=$(realpath "$1") out=${2:-gpu-parity} python=${3:-}
device=${DEVICE:-cuda:0} shapes=${SHAPES:-roberta-base roberta-large} batch=${BATCH:-64} length=${LENGTH:-128}
steps=${STEPS:-10} rounds=${ROUNDS:-5} peak=${PEAK_TFLOPS:-989}
mkdir -p "$out"; out=$(realpath "$out")
any=${python:-python3}

# CUDA's libraries from Python's packages, the driver from where containers put it.
nv=$("$any" -c 'import glob, sysconfig; print(":".join(sorted(glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib"))))' || true)
drv=$(find -L /usr/local/nvidia -name libcuda.so.1 -printf '%h:' 2>/dev/null || true)
export LD_LIBRARY_PATH=$nv:$drv${LD_LIBRARY_PATH:-}

"$adamix" doctor --json | tail -n 1 >"$out/doctor.json"
failed=0
"$adamix" doctor --selftest --device "$device" | tee "$out/selftest.txt" || failed=1
"$adamix" doctor --selftest --device "$device" --json | tail -n 1 >"$out/selftest.json" || failed=1
if grep -q '^warning: device' "$out/selftest.txt"; then echo "no GPU was used: nothing below would mean anything" >&2; exit 1; fi

rm -rf "$out/runs"
train() { "$adamix" train --runs-dir "$out/runs" --name "$1" --device "$2" --dtype "$3" --seed 1 --trunk-dropout true --max-steps 200 --json >"$out/train-$1.jsonl"; }
train cpu-f32 cpu f32
for dtype in f32 bf16 f16; do train "gpu-$dtype" "$device" "$dtype"; done

for shape in $shapes; do
  : >"$out/ours-$shape.jsonl"; : >"$out/theirs-$shape.jsonl"
  ours() { "$adamix" bench --shape "$shape" --device "$device" --dtype bf16 --batch-size "$batch" --length "$length" --steps "$steps" --json | tail -n 1 >>"$out/ours-$shape.jsonl"; }
  theirs() { [ -z "$python" ] || CUDA_VISIBLE_DEVICES=${device#cuda:} "$python" "$here/bench_pytorch.py" --shape "$shape" --device cuda --bf16 --batch "$batch" --length "$length" --steps "$steps" --warmup 3 2>/dev/null >>"$out/theirs-$shape.jsonl"; }
  for round in $(seq "$rounds"); do
    if [ $((round % 2)) = 1 ]; then ours; theirs; else theirs; ours; fi
    echo "$shape: round $round of $rounds" >&2
  done
done

"$any" - "$out" "$failed" "$peak" $shapes <<'PY'
import json, os, statistics, sys
out, failed, peak, shapes = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
read = lambda name: [json.loads(line) for line in open(os.path.join(out, name)) if line.strip()]
def losses(name):
    return [r["loss"] for r in read(f"runs/{name}/metrics.jsonl") if r["event"] == "step"]
summary = {"selftest": "failed" if failed else "passed", "training": {}, "speed": {}}
want = losses("cpu-f32")
head, tail = slice(0, 20), slice(-50, None)
for dtype, early, late in [("f32", 1e-2, 0.1), ("bf16", 0.1, 0.15), ("f16", 0.05, 0.15)]:
    got = losses(f"gpu-{dtype}")
    first = max(abs(a - b) for a, b in zip(got[head], want[head]))
    last = abs(statistics.mean(got[tail]) - statistics.mean(want[tail]))
    fine = len(got) == len(want) and first <= early and last <= late
    failed |= not fine
    summary["training"][dtype] = {"steps": len(got), "largest_difference_of_20_losses": first, "difference_of_last_50_on_average": last, "agrees": fine}
middle = lambda results, key: statistics.median(r.get(key) or 0 for r in results)
for shape in shapes:
    ours, theirs = read(f"ours-{shape}.jsonl"), read(f"theirs-{shape}.jsonl")
    row = {"device": ours[0]["device"], "tokens_per_s": middle(ours, "tokens_per_s"), "device_memory_mb": middle(ours, "device_memory_mb"),
           "gemm_share": middle(ours, "gemm_share"), "utilisation_of_peak": middle(ours, "gflops") / 1e3 / peak}
    if theirs:
        row |= {"pytorch_tokens_per_s": middle(theirs, "tokens_per_s"), "pytorch_device_memory_mb": middle(theirs, "device_memory_mb"),
                "median_ratio": statistics.median(a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(ours, theirs)), "torch": theirs[0]["version"]}
    summary["speed"][shape] = row
text = json.dumps(summary, indent=1)
open(os.path.join(out, "summary.json"), "w").write(text + "\n")
print(text)
sys.exit(1 if failed else 0)
PY
