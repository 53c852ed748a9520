#!/usr/bin/env bash
# Training speed and memory beside PyTorch's: runs both in turn, N times, and prints the median of the N ratios.
#
#   tests/golden/compare_speed.sh PYTHON ADAMIX [N] [SHAPE]
#   tests/golden/compare_speed.sh ~/venv/bin/python target/release/adamix 3 roberta-base
#
#   SENTENCES=DIR tests/golden/compare_speed.sh ...    # our real SST-2 sentences against PyTorch padded to 128
#
# PYTHON has torch and transformers; ADAMIX is a release build. Each pair runs back to back on the same two threads, so
# a machine that is slow or busy for a while slows both; the order within a pair alternates. Run it on an idle machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
python=$1 adamix=$2 rounds=${3:-3} shape=${4:-roberta-base} threads=${THREADS:-2} steps=${STEPS:-5}
real=(); padded=()
if [ -n "${SENTENCES:-}" ]; then real=(--sentences "$SENTENCES"); padded=(--length 128); fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ours() { "$adamix" bench --shape "$shape" --threads "$threads" --steps "$steps" "${real[@]}" --json | tail -n 1 >>"$work/ours"; }
theirs() { "$python" "$here/bench_pytorch.py" --shape "$shape" --threads "$threads" --steps "$steps" "${padded[@]}" 2>/dev/null >>"$work/theirs"; }

for round in $(seq "$rounds"); do
  if [ $((round % 2)) = 1 ]; then ours; theirs; else theirs; ours; fi
  echo "round $round of $rounds" >&2
done

"$python" - "$work/ours" "$work/theirs" <<'PY'
import json, statistics, sys
ours, theirs = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
def ratio(key):
    return round(statistics.median(a[key] / b[key] for a, b in zip(ours, theirs)), 3)
def pairs(key, digits=1):
    return [[round(a[key], digits), round(b[key], digits)] for a, b in zip(ours, theirs)]
print(json.dumps({
    "shape": theirs[0]["shape"], "rounds": len(ours), "gemm_share": [round(a.get("gemm_share", 0), 3) for a in ours],
    "ours and theirs": {key: pairs(key) for key in ("tokens_per_s", "sequences_per_s", "peak_rss_mb")},
    "median_tokens_ratio": ratio("tokens_per_s"), "median_sequences_ratio": ratio("sequences_per_s"),
    "median_memory_ratio": ratio("peak_rss_mb")}))
PY
