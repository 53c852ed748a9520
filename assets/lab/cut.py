"""Cuts the lab's rows out of the MR sentences: `python3 cut.py TRAIN.tsv TEST.tsv`, see DATA.md."""
import hashlib, sys

def rank(text):
    return hashlib.sha256(text.encode()).hexdigest()

def cut(source, rows, taken):
    lines = open(source, encoding="utf-8", newline="\n").read().split("\n")[1:]
    cells = [line.split("\t") for line in lines if line]
    counts = {}
    for text, label in cells:
        counts.setdefault(" ".join(text.split()), set()).add(label)
    chosen = []
    for label in "01":
        # A sentence with both labels, and one that is already used, stays out.
        texts = {text for text, labels in counts.items() if labels == {label}} - taken
        chosen += [(text, label) for text in sorted(texts, key=rank)[: rows // 2]]
    taken |= set(counts)
    return sorted(chosen, key=lambda row: rank(row[0]))

taken = set()
dev = cut(sys.argv[2], 1000, taken)       # before train, so that no training row is a test sentence
train = cut(sys.argv[1], 4000, taken)
for name, rows in (("train.tsv", train), ("dev.tsv", dev)):
    with open(name, "w", encoding="utf-8", newline="\n") as out:
        out.write("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
