"""Writes the golden files for the scores of generated text.

Usage: make.py METRICS_DATA   (a directory with e2e/ and meteor-1.5-data/; provenance of what is kept: SOURCE.md)

- e2e/: the ten development instances that come with the scorer of the E2E challenge, and its scores for the corpus and
  for each segment (BLEU, NIST, METEOR without the paraphrase module, ROUGE-L, CIDEr, all rounded to four digits).
- meteor/: what METEOR 1.5's word lists for English say about the words of these texts.
- lines/: the same texts with signs apart, three references at most, in WebNLG's layout, and own sentences with moved
  words. BLEU as multi-bleu defines it, TER from sacrebleu.
- definitions.json: small corpora with edge cases, scored from the definitions below.
- chrf.json: chrF and chrF++ from sacrebleu.  stems.json: stems from NLTK's Snowball stemmer.

The implementations here are independent of the ones under test: regular expressions, tuples and dictionaries.
"""

import json
import math
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import nltk
import sacrebleu
from nltk.stem.snowball import EnglishStemmer

DATA, HERE = Path(sys.argv[1]), Path(__file__).parent
VERSIONS = {"sacrebleu": sacrebleu.__version__, "nltk": nltk.__version__, "python": sys.version.split()[0]}


def write(name, value):
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


# Definitions.


def mteval(text):
    for entity, char in [("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")]:
        text = text.replace(entity, char)
    text = f" {text.lower()} "
    text = re.sub(r"([!-&(-+/:-@\[-`{-~])", r" \1 ", text)
    text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)
    text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
    text = re.sub(r"([0-9])(-)", r"\1 \2 ", text)
    return text.split()


def grams(words, n):
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def clip(hyp, refs, n):
    most = Counter()
    for ref in refs:
        most |= grams(ref, n)
    return grams(hyp, n) & most


def bleu(hyps, refs, tiny):
    logs = 0.0
    c = sum(map(len, hyps))
    r = sum(min((abs(len(ref) - len(hyp)), len(ref)) for ref in rs)[1] for hyp, rs in zip(hyps, refs))
    if c == 0:
        return 0.0
    for n in range(1, 5):
        hits = sum(sum(clip(hyp, rs, n).values()) for hyp, rs in zip(hyps, refs))
        total = sum(max(0, len(hyp) - n + 1) for hyp in hyps)
        if hits == 0 and not tiny:
            return 0.0
        logs += math.log(max(hits, 1e-15) / max(total, 1e-9)) / 4
    return math.exp(logs) * (1 if c > r else math.exp(1 - r / c))


def nist(hyps, refs):
    counts = Counter()
    every = [ref for rs in refs for ref in rs]
    for ref in every:
        for n in range(1, 6):
            counts.update(grams(ref, n))
    words = sum(map(len, every))
    score = 0.0
    for n in range(1, 6):
        gain = 0.0
        for hyp, rs in zip(hyps, refs):
            for gram, count in clip(hyp, rs, n).items():
                whole = counts[gram[:-1]] if n > 1 else words
                gain += count * math.log2(whole / counts[gram])
        total = sum(max(0, len(hyp) - n + 1) for hyp in hyps)
        score += gain / total if total else 0.0
    ratio = sum(map(len, hyps)) / (words / (len(every) / len(refs)))
    if ratio == 0:
        return 0.0
    beta = -math.log(0.5) / math.log(1.5) ** 2
    return score * math.exp(-beta * math.log(min(ratio, 1)) ** 2)


def lcs(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def rouge_l(hyps, refs):
    scores = []
    for hyp, rs in zip(hyps, refs):
        p = max(lcs(hyp, ref) / len(hyp) if hyp else 0 for ref in rs)
        r = max(lcs(hyp, ref) / len(ref) for ref in rs)
        scores.append((1 + 1.44) * p * r / (r + 1.44 * p) if p and r else 0.0)
    return sum(scores) / len(scores)


def cider(hyps, refs):
    seen = Counter()
    for rs in refs:
        seen.update({gram for ref in rs for n in range(1, 5) for gram in grams(ref, n)})

    def vector(words, n):
        idf = {gram: math.log(len(refs)) - math.log(max(1, seen[gram])) for gram in grams(words, n)}
        return {gram: count * idf[gram] for gram, count in grams(words, n).items()}

    total = 0.0
    for hyp, rs in zip(hyps, refs):
        for ref in rs:
            apart = max(0, len(hyp) - 1) - max(0, len(ref) - 1)
            for n in range(1, 5):
                a, b = vector(hyp, n), vector(ref, n)
                norm = math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
                if norm:
                    dot = sum(min(x, b.get(gram, 0)) * b.get(gram, 0) for gram, x in a.items())
                    total += 10 * dot / norm * math.exp(-(apart**2) / 72) / 4 / len(rs)
    return total / len(hyps)


# E2E.

e2e = DATA / "e2e"
(HERE / "e2e").mkdir(exist_ok=True)
shutil.copy(e2e / "example-inputs/baseline-output.txt", HERE / "e2e/outputs.txt")
shutil.copy(e2e / "example-inputs/devel-conc.txt", HERE / "e2e/references.txt")
for copied in (HERE / "e2e").glob("*.txt"):
    copied.chmod(0o644)
rows = [line.split("\t") for line in (e2e / "scores.tsv").read_text().splitlines()]
row = dict(zip(rows[0], next(row for row in rows if row[0] == "example")))
segments = [json.loads(line) for line in (e2e / "segments/example.jsonl").read_text().splitlines()]
names = ["BLEU", "NIST", "METEOR_exact_stem_synonym", "ROUGE_L", "CIDEr"]
write(
    "e2e/scores.json",
    {
        "corpus": {name: float(row[name]) for name in names},
        "words": [int(row["hyp_len"]), int(row["closest_ref_len"])],
        "segments": {name: [segment[name] for segment in segments] for name in names},
        "outputs_ptb": [segment["output_ptb"] for segment in segments],
    },
)

# METEOR's lists for the words of these texts, with their possible base forms.

texts = (HERE / "e2e/outputs.txt").read_text() + (HERE / "e2e/references.txt").read_text()
words = set(re.findall(r"[a-z]+", texts.lower()))
lists = DATA / "meteor-1.5-data"
(HERE / "meteor").mkdir(exist_ok=True)


def pairs(name):
    lines = (lists / name).read_text(encoding="utf-8").splitlines()
    return list(zip(lines[::2], lines[1::2]))


exceptions = [(base, [form for form in forms.split() if form in words]) for base, forms in pairs("english.exceptions")]
exceptions = [(base, forms) for base, forms in exceptions if forms]
wanted = words | {base for base, _ in exceptions}
for word in words:
    for ending, by in [("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("er", "")]:
        if word.endswith(ending):
            wanted.add(word[: -len(ending)] + by)
    wanted |= {word[:-1], word[:-2], word[:-3]}
kept = [(word, sets) for word, sets in pairs("english.synsets") if word in wanted]
for name, chosen in [("english.synsets", kept), ("english.exceptions", [(b, " ".join(f)) for b, f in exceptions])]:
    (HERE / "meteor" / name).write_text("".join(f"{a}\n{b}\n" for a, b in chosen), encoding="utf-8")
shutil.copy(lists / "function.english.words", HERE / "meteor/function.english.words")
shutil.copy(lists / "COPYING.WORDNET", HERE / "meteor/COPYING.WORDNET")
for copied in (HERE / "meteor").iterdir():
    copied.chmod(0o644)

# The layout of WebNLG: a file for each reference, an empty line where there is none.

blocks = [block.split("\n") for block in (HERE / "e2e/references.txt").read_text().strip().split("\n\n")]
prepared = lambda text: " ".join(mteval(text))
output = [prepared(line) for line in (HERE / "e2e/outputs.txt").read_text().split("\n")[:-1]]
all_refs = [[prepared(ref) for ref in block[: 1 + i % 3]] for i, block in enumerate(blocks)]
moved = [
    ("the old red house by the river was sold yesterday", ["yesterday the old red house by the river was sold"]),
    ("in may it rains a lot in this town", ["it rains a lot in this town in may", "in this town it rains a lot"]),
    ("five people came , nobody left before midnight", ["before midnight nobody left , and five people came"]),
    ("he said that the train to the coast is late", ["the train to the coast , he said , will be late", "late is the train"]),
    ("a b c d e f g h i j k l m n", ["k l m n a b c d e f g h i j", "n m l k j i h g f e d c b a"]),
    ("one two three", ["three two one"]),
    ("Berlin is the CAPITAL of Germany .", ["berlin is the capital of germany .", "germany 's capital is berlin ."]),
    ("nothing here is right", ["all of that was wrong from the start"]),
    ("the the the cat cat sat", ["the cat sat the cat sat on the mat"]),
    ("word", ["word word word"]),
]
output += [hyp for hyp, _ in moved]
all_refs += [refs for _, refs in moved]
(HERE / "lines").mkdir(exist_ok=True)
(HERE / "lines/outputs.txt").write_text("".join(line + "\n" for line in output), encoding="utf-8")
all_refs = [(refs + ["", ""])[:3] for refs in all_refs]
for i in range(3):
    (HERE / f"lines/reference{i}.txt").write_text("".join(refs[i] + "\n" for refs in all_refs), encoding="utf-8")
full = [[ref for ref in refs if ref] for refs in all_refs]
ter = sacrebleu.metrics.TER()
edits, lengths = [], 0.0
for hyp, refs in zip(output, full):
    stats = ter._compute_segment_statistics(ter._preprocess_segment(hyp), ter._extract_reference_info(refs))
    edits.append(int(stats[0]))
    lengths += stats[1]
split = lambda texts: [text.lower().split() for text in texts]
write(
    "lines/scores.json",
    {
        "versions": VERSIONS,
        "BLEU": bleu(split(output), [split(refs) for refs in all_refs], tiny=False),
        "TER": sum(edits) / lengths,
        "edits": edits,
        "reference_words": lengths,
    },
)

# Edge cases from the definitions.

corpora = {
    "empty output": (["", "a red house by the river"], [["a green house"], ["a red house near the river", "the red house"]]),
    "one word": (["house", "tree", "river"], [["house"], ["a tree"], ["lake", "river"]]),
    "repeated words": (["the the the the the"], [["the house in the town", "the the house"]]),
    "not ASCII": (["Café Zürich öffnet £20", "日本 の 家"], [["café Zürich öffnet für £20"], ["日本 の 大きい 家", "家"]]),
    "nothing in common": (["one two three four five"], [["six seven eight nine ten"]]),
    "short output": (["a b c"], [["a b c d e f g h", "a b c d e f"]]),
    "equally close": (["a b c d", "e f"], [["a b c", "a b c d e"], ["e", "e f g"]]),
    "numbers and signs": (["It costs $1,000.50 (20-25)!"], [["it costs 1,000.50 - or 20-25 .", "&quot;20-25&quot;"]]),
}
write(
    "definitions.json",
    [
        {
            "name": name,
            "outputs": hyps,
            "references": refs,
            "BLEU": bleu([mteval(h) for h in hyps], [[mteval(r) for r in rs] for rs in refs], tiny=True),
            "BLEU_spaces": bleu(split(hyps), [split(rs) for rs in refs], tiny=False),
            "NIST": nist([mteval(h) for h in hyps], [[mteval(r) for r in rs] for rs in refs]),
            # Their preparation of text is tested elsewhere: here only texts without punctuation.
            **(
                {"ROUGE_L": rouge_l(split(hyps), [split(rs) for rs in refs]), "CIDEr": cider(split(hyps), [split(rs) for rs in refs])}
                if not re.search(r"[£$!.,;()-]", " ".join(hyps))
                else {}
            ),
        }
        for name, (hyps, refs) in corpora.items()
    ],
)

# chrF.

plain, plus = sacrebleu.metrics.CHRF(), sacrebleu.metrics.CHRF(word_order=2)
cases = [(name, hyps, refs) for name, (hyps, refs) in corpora.items()]
cases.append(("E2E", (HERE / "e2e/outputs.txt").read_text().split("\n")[:-1],
              [block.split("\n") for block in (HERE / "e2e/references.txt").read_text().strip().split("\n\n")]))
cases.append(("lines", output, full))
cases.append(("punctuation", ["(Hello), \"world\"! a-b .", "x"], [["hello (world)! a-b."], ["x", "xy"]]))
cases.append(("shorter than six", ["ab", "a"], [["abc"], ["a"]]))


def chrf(metric, hyps, refs):
    streams = [[rs[i] if i < len(rs) else None for rs in refs] for i in range(max(map(len, refs)))]
    return metric.corpus_score(hyps, streams).score / 100


write(
    "chrf.json",
    {
        "versions": VERSIONS,
        "cases": [
            {
                "name": name,
                **({"outputs": hyps, "references": refs} if len(hyps) < 10 else {}),
                "chrf": chrf(plain, hyps, refs),
                "chrf_plus_plus": chrf(plus, hyps, refs),
            }
            for name, hyps, refs in cases
        ],
    },
)

# Stems.

more = """abilities abruptly adjustable agreed agreement animated anxieties argued arsenal automatic babies beautifully
blessedly bossiness bowed boxes boycott breathlessly buzzing cafes caresses ceaselessly celebrations communism
conditional conformably consigned consolations controlling decisiveness defensible digitizer dying early easily
effective electricity electrical exceeding fizzed flies formalize formality generate generalization gently gyroscopic
happy hopefulness hopping idly illnesses irritant knocking luxuriated lying meetings mules national newspapers
nightlife only operator outing owned plastered playing pleasantly plotted possibly predication proceeds rational
relational replacement revival sensational sensitivity singly skies skis sky succeed sun's sunday ties tying tanned
triplicate trouble ugly upon vietnamization visited vileness yes youth yellowing zoological""".split()
write("stems.json", {"versions": VERSIONS, "stems": {word: EnglishStemmer().stem(word) for word in sorted(words | set(more))}})
