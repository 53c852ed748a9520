#!/usr/bin/env bash
# Training speed and memory beside PyTorch's: runs both in turn, N times, and prints the median of the N ratios.
#
#   tests/golden/compare_speed.sh PYTHON ADAMIX [N] [SHAPE]
#   tests/golden/compare_speed.sh ~/venv/bin/python target/release/adamix 3 roberta-base
#
# PYTHON has torch and transformers; ADAMIX is a release build. Each pair runs back to back on the same two threads, so
# a machine that is slow or busy for a while slows both; the order within a pair alternates. Run it on an idle machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
python=$1 adamix=$2 rounds=${3:-3} shape=${4:-roberta-base} threads=${THREADS:-2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ours() { "$adamix" bench --shape "$shape" --threads "$threads" --json | tail -n 1 >>"$work/ours"; }
theirs() { "$python" "$here/bench_pytorch.py" --shape "$shape" --threads "$threads" 2>/dev/null >>"$work/theirs"; }

for round in $(seq "$rounds"); do
  if [ $((round % 2)) = 1 ]; then ours; theirs; else theirs; ours; fi
  echo "round $round of $rounds" >&2
done

"$python" - "$work/ours" "$work/theirs" <<'PY'
import json, statistics, sys
ours, theirs = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
def ratio(key):
    return round(statistics.median(a[key] / b[key] for a, b in zip(ours, theirs)), 3)
print(json.dumps({
    "shape": theirs[0]["shape"], "rounds": len(ours),
    "tokens_per_s": [[round(a["tokens_per_s"], 1), b["tokens_per_s"]] for a, b in zip(ours, theirs)],
    "peak_rss_mb": [[round(a["peak_rss_mb"]), b["peak_rss_mb"]] for a, b in zip(ours, theirs)],
    "gemm_share": [a.get("gemm_share") for a in ours],
    "median_speed_ratio": ratio("tokens_per_s"), "median_memory_ratio": ratio("peak_rss_mb")}, indent=1))
PY
