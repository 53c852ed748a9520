#!/usr/bin/env bash
# Everything to check and measure on a machine with an NVIDIA GPU, in one go; writes a folder of JSON files and a summary.
#
#   tests/golden/gpu_parity.sh ADAMIX [OUT]            # parity only
#   tests/golden/gpu_parity.sh ADAMIX OUT PYTHON       # and speed beside PyTorch (torch, transformers, peft)
#
# ADAMIX is a build with --features cuda. Set in the environment:
#   DEVICE=cuda:0   SHAPES="roberta-base roberta-large smollm2-135m"   BATCH=64   LENGTH=128   STEPS=10   ROUNDS=5
#   LM_BATCH=16   LM_LENGTH=512   the same of language models, in one pass
#   PEAK_TFLOPS=989   the card's dense bf16 peak, for the utilisation (989: H100 SXM and H200)
#   WRITER=model.gguf   also write with this model on the GPU and on the CPU, greedily, and compare the texts
#
# 1. adamix doctor --selftest: every kernel in every format against double precision on the CPU
# 2. a whole training of the lab, and one of the lab for writing, on the CPU in f32, on the GPU in f32, bf16 and f16: losses
#    side by side
# 3. tokens/s and memory of training steps, ours and PyTorch's under bf16 autocast, interleaved; the share of the card's
#    peak (model FLOPs: 4 a weight and token, since frozen weights have no gradient of their own)
# 4. tokens a second and texts of a model that writes
# The exit code is 0 when the self-test passed and the trainings agree.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,20s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
adamix=$(realpath "$1") out=${2:-gpu-parity} python=${3:-}
device=${DEVICE:-cuda:0} shapes=${SHAPES:-roberta-base roberta-large smollm2-135m} batch=${BATCH:-64} length=${LENGTH:-128}
steps=${STEPS:-10} rounds=${ROUNDS:-5} peak=${PEAK_TFLOPS:-989}
lm_batch=${LM_BATCH:-16} lm_length=${LM_LENGTH:-512}
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
write() { "$adamix" train --preset writer-lab --runs-dir "$out/runs" --name "$1" --device "$2" --dtype "$3" --seed 1 --max-steps 60 --json >"$out/train-$1.jsonl"; }
write cpu-lm-f32 cpu f32
for dtype in f32 bf16 f16; do write "gpu-lm-$dtype" "$device" "$dtype"; done

for shape in $shapes; do
  case $shape in smollm*) ours_size="--passes 1 --batch-size $lm_batch --length $lm_length" theirs_size="--batch $lm_batch --length $lm_length" ;;
    *) ours_size="--batch-size $batch --length $length" theirs_size="--batch $batch --length $length" ;; esac
  : >"$out/ours-$shape.jsonl"; : >"$out/theirs-$shape.jsonl"
  ours() { "$adamix" bench --shape "$shape" --device "$device" --dtype bf16 $ours_size --steps "$steps" --json | tail -n 1 >>"$out/ours-$shape.jsonl"; }
  theirs() { [ -z "$python" ] || CUDA_VISIBLE_DEVICES=${device#cuda:} "$python" "$here/bench_pytorch.py" --shape "$shape" --device cuda --bf16 $theirs_size --steps "$steps" --warmup 3 2>/dev/null >>"$out/theirs-$shape.jsonl"; }
  for round in $(seq "$rounds"); do
    if [ $((round % 2)) = 1 ]; then ours; theirs; else theirs; ours; fi
    echo "$shape: round $round of $rounds" >&2
  done
done

if [ -n "${WRITER:-}" ]; then
  for place in cpu "$device"; do
    "$adamix" generate --model "$WRITER" --device "$place" --prompt "Once upon a time" --max-new-tokens 64 --json >"$out/written-${place%%:*}.jsonl"
  done
fi

"$any" - "$out" "$failed" "$peak" $shapes <<'PY'
import json, os, statistics, sys
out, failed, peak, shapes = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
read = lambda name: [json.loads(line) for line in open(os.path.join(out, name)) if line.strip()]
def losses(name):
    return [r["loss"] for r in read(f"runs/{name}/metrics.jsonl") if r["event"] == "step"]
summary = {"selftest": "failed" if failed else "passed", "training": {}, "speed": {}}
head, tail = slice(0, 20), slice(-50, None)
for kind in ["", "lm-"]:
    want = losses(f"cpu-{kind}f32")
    for dtype, early, late in [("f32", 1e-2, 0.1), ("bf16", 0.1, 0.15), ("f16", 0.05, 0.15)]:
        got = losses(f"gpu-{kind}{dtype}")
        first = max(abs(a - b) for a, b in zip(got[head], want[head]))
        last = abs(statistics.mean(got[tail]) - statistics.mean(want[tail]))
        fine = len(got) == len(want) and first <= early and last <= late
        failed |= not fine
        summary["training"][kind + dtype] = {"steps": len(got), "largest_difference_of_20_losses": first, "difference_of_last_50_on_average": last, "agrees": fine}
middle = lambda results, key: statistics.median(r.get(key) or 0 for r in results)
for shape in shapes:
    ours, theirs = read(f"ours-{shape}.jsonl"), read(f"theirs-{shape}.jsonl")
    row = {"device": ours[0]["device"], "tokens_per_s": middle(ours, "tokens_per_s"), "device_memory_mb": middle(ours, "device_memory_mb"),
           "gemm_share": middle(ours, "gemm_share"), "utilisation_of_peak": middle(ours, "gflops") / 1e3 / peak}
    if theirs:
        row |= {"pytorch_tokens_per_s": middle(theirs, "tokens_per_s"), "pytorch_device_memory_mb": middle(theirs, "device_memory_mb"),
                "median_ratio": statistics.median(a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(ours, theirs)), "torch": theirs[0]["version"]}
    summary["speed"][shape] = row
written = [os.path.join(out, f"written-{place}.jsonl") for place in ("cpu", "cuda")]
if all(map(os.path.exists, written)):
    texts = [next(r for r in read(os.path.basename(name)) if "text" in r)["text"] for name in written]
    summary["writing"] = {"cpu": texts[0], "gpu": texts[1], "same": texts[0] == texts[1]}
text = json.dumps(summary, indent=1)
open(os.path.join(out, "summary.json"), "w").write(text + "\n")
print(text)
sys.exit(1 if failed else 0)
PY
