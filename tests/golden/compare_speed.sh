#!/usr/bin/env bash
# Training speed and memory beside PyTorch's: runs both in turn, N times, and prints the median of the N ratios as one JSON line.
#
#   tests/golden/compare_speed.sh PYTHON ADAMIX [N] [SHAPE]
#   tests/golden/compare_speed.sh ~/venv/bin/python target/release/adamix 5 roberta-base
#
# Set in the environment:
#   DATA=real      lengths of real sentences (SST-2's, built into both); PyTorch pads to the longest row of each batch
#   PAD=128        PyTorch pads to this length instead, as the reference does
#   DTYPE=bf16     bf16 on both sides (PyTorch: autocast); OURS_DTYPE, THEIRS_DTYPE set one side
#   BATCH=32       sequences in a batch (default 16, of a language model 8); LENGTH=64 tokens of each dense one (of a language model 256)
#   PASSES=1       ours puts each batch through once, not twice (PyTorch: encoders twice, language models once)
#   STEPS=6        timed steps of each round; THREADS=2
#   MARKDOWN=FILE  also append the result to this table
#   OURS=FILE, THEIRS=FILE  keep the single results (for `adamix bench --compare`)
#
# PYTHON has torch and transformers; ADAMIX is a release build. Each pair runs back to back on the same threads, so a
# machine that is slow or busy for a while slows both; the order within a pair alternates. Run it on an idle machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { sed -n '2,20s/^# \{0,1\}//p' "$0" >&2; exit 2; }
python=$1 adamix=$2 rounds=${3:-5} shape=${4:-roberta-base} threads=${THREADS:-2} steps=${STEPS:-6}
case $shape in smollm2*) usual=(8 256) ;; *) usual=(16 64) ;; esac
data=${DATA:-dense} batch=${BATCH:-${usual[0]}} length=${LENGTH:-${usual[1]}} pad=${PAD:-0} passes=${PASSES:-2}
ours_dtype=${OURS_DTYPE:-${DTYPE:-f32}} theirs_dtype=${THEIRS_DTYPE:-${DTYPE:-f32}}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ours_file=${OURS:-$work/ours} theirs_file=${THEIRS:-$work/theirs}
: >"$ours_file"; : >"$theirs_file"
same=(--shape "$shape" --data "$data" --length "$length" --threads "$threads" --steps "$steps")
ours_format=(); [ "$ours_dtype" = f32 ] || ours_format=(--dtype "$ours_dtype")
theirs_format=(); [ "$theirs_dtype" = f32 ] || theirs_format=(--"$theirs_dtype")

ours() { "$adamix" bench "${same[@]}" --batch-size "$batch" --passes "$passes" "${ours_format[@]}" --json | tail -n 1 >>"$ours_file"; }
theirs() { "$python" "$here/bench_pytorch.py" "${same[@]}" --batch "$batch" --pad "$pad" "${theirs_format[@]}" 2>/dev/null >>"$theirs_file"; }

for round in $(seq "$rounds"); do
  if [ $((round % 2)) = 1 ]; then ours; theirs; else theirs; ours; fi
  echo "round $round of $rounds" >&2
done

"$python" - "$ours_file" "$theirs_file" "${MARKDOWN:-}" <<'PY'
import json, os, statistics, sys
ours, theirs = ([json.loads(line) for line in open(path)] for path in sys.argv[1:3])
def ratio(key):
    return round(statistics.median(a[key] / b[key] for a, b in zip(ours, theirs)), 3)
def middle(results, key, digits=1):
    return round(statistics.median(r[key] for r in results), digits)
def pairs(key, digits=1):
    return [[round(a[key], digits), round(b[key], digits)] for a, b in zip(ours, theirs)]
a, b = ours[0], theirs[0]
out = {
    "shape": b["shape"], "data": b["data"], "pad": b["pad"], "dtypes": [a["dtype"], b["dtype"]], "batch_size": b["batch_size"],
    "passes": [a["passes"], b["passes"]], "threads": b["threads"], "rounds": len(ours), "gemm_share": [round(r["gemm_share"], 3) for r in ours],
    "ours and theirs": {key: pairs(key) for key in ("tokens_per_s", "sequences_per_s", "peak_rss_mb")},
    "median_tokens_ratio": ratio("tokens_per_s"), "median_sequences_ratio": ratio("sequences_per_s"),
    "median_memory_ratio": ratio("peak_rss_mb"), "median_gemm_share": middle(ours, "gemm_share", 3), "torch": b["version"]}
print(json.dumps(out))
if sys.argv[3]:
    head = ["shape", "data", "PyTorch pads to", "formats (ours, PyTorch)", "tokens/s (ours, PyTorch)", "sequences/s", "speed ratio",
            "peak MB (ours, PyTorch)", "memory ratio", "share of GEMM rate", "rounds"]
    both = lambda key: f"{middle(ours, key):,}, {middle(theirs, key):,}"
    row = [out["shape"], out["data"], out["pad"], ", ".join(out["dtypes"]), both("tokens_per_s"), both("sequences_per_s"),
           out["median_sequences_ratio"], both("peak_rss_mb"), out["median_memory_ratio"], f'{100 * out["median_gemm_share"]:.0f} %', out["rounds"]]
    new = not os.path.exists(sys.argv[3])
    with open(sys.argv[3], "a") as file:
        if new:
            file.write("| " + " | ".join(head) + " |\n|" + "---|" * len(head) + "\n")
        file.write("| " + " | ".join(map(str, row)) + " |\n")
PY
