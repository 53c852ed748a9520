"""A real model against transformers: logits of 100 real sentences. Used by hand; needs torch, transformers and a model directory.

    python tests/golden/compare_real.py --model DIR --sentences dev.tsv --out /tmp/real-minilm
    ADAMIX_GOLDEN_DIR=/tmp/real-minilm cargo test --release --no-default-features --test engine golden::logits

The first command writes a directory like `tests/golden/bert-tiny`: the model with a seeded head of its own (so that both
sides have the same one), its tokenizer, and golden.json with texts, token ids and transformers' logits of the padded
batch (float32 as everybody runs it, and float64 as the truth). The second runs the golden tests on that directory as
well: token ids must be equal, logits within 1e-4. It fails when the directory is missing, so a pass means it was compared.
"""
import argparse
import csv
import json
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True)
parser.add_argument("--sentences", required=True, help="a TSV with a header")
parser.add_argument("--column", default="sentence")
parser.add_argument("--second-column", help="for pairs of texts")
parser.add_argument("--rows", type=int, default=100)
parser.add_argument("--max-length", type=int, default=128)
parser.add_argument("--out", type=Path, required=True)
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(2)
transformers.utils.logging.set_verbosity_error()
with open(args.sentences, encoding="utf-8", newline="") as file:
    table = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[: args.rows]
texts = [row[args.column] for row in table]
pairs = [row[args.second_column] for row in table] if args.second_column else None

tokenizer = AutoTokenizer.from_pretrained(args.model)
model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=3, dtype=torch.float32).eval()
for name, p in model.named_parameters():
    if not name.startswith(model.base_model_prefix + "."):
        p.data = 0.2 * torch.randn(p.shape)  # larger than a fresh head, so that differences show
model.save_pretrained(args.out)
tokenizer.save_pretrained(args.out)

batch = tokenizer(texts, pairs, truncation=True, max_length=args.max_length, padding="longest", return_tensors="pt")
with torch.no_grad():
    single = model(**batch).logits
    double = model.double()(**batch).logits
inputs = []
for i, text in enumerate(texts):
    keep = batch["attention_mask"][i].bool()
    types = batch["token_type_ids"][i][keep].tolist() if "token_type_ids" in batch else [0] * int(keep.sum())
    inputs.append(dict(text=text, pair=pairs[i] if pairs else None, ids=batch["input_ids"][i][keep].tolist(), type_ids=types))
case = dict(name="plain", config={}, head=None, logits=double.tolist())
golden = dict(written_by="tests/golden/compare_real.py", versions=dict(torch=torch.__version__, transformers=transformers.__version__),
              max_length=args.max_length, inputs=inputs, cases=[case])
(args.out / "golden.json").write_text(json.dumps(golden, indent=1))
print(json.dumps(dict(rows=len(texts), tokens=int(batch["attention_mask"].sum()), out=str(args.out),
                      transformers_f32_against_f64=float((single - double).abs().max()))))
