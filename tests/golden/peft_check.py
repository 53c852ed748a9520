"""Loads what this program exports with the libraries it is made for, and compares the logits.

    python tests/golden/peft_check.py [DIR]        # needs torch, transformers, peft, numpy, and cargo unless DIR was made before

Exports of tiny models of every family with random experts are written by the tests `transfer::others` into DIR (a
temporary directory, if none is given). For each of them:

    peft/                PEFT on the base model, merged LoRA (and head, for classifiers)
    peft_experts/        each expert
    hf/, hf_shards/      the whole merged model by transformers alone
    hf_bf16/             the same in bfloat16 (loaded as float32: only the weights are rounded)

Prints the largest difference of a logit for each and fails above 1e-3.
"""
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

ROOT = Path(__file__).resolve().parents[2]
CLASSIFIERS = ("bert-tiny", "roberta-tiny")
LIMIT = 1e-3


def export(directory):
    env = {**os.environ, "ADAMIX_EXPORT_DIR": str(directory)}
    command = ["cargo", "test", "--features", "testing", "--test", "engine", "transfer::others"]
    subprocess.run(command, cwd=ROOT, env=env, check=True)


def logits(model, rows):
    model = model.eval()
    with torch.no_grad():
        out = [model(input_ids=torch.tensor([ids])).logits[0] for ids in rows]
    return torch.cat([o if o.dim() == 2 else o[None] for o in out]).numpy()


def check(family, place):
    expected = json.loads((place / "expected.json").read_text())
    rows, outputs = expected["ids"], expected["outputs"]
    want = {"merged": expected["merged"], **{f"expert {i}": e for i, e in enumerate(expected["experts"])}}
    want = {k: np.array(v, dtype=np.float32).reshape(-1, outputs) for k, v in want.items()}
    classifier = family in CLASSIFIERS
    auto = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    base = ROOT / "tests/golden" / family if classifier else place / "base"
    options = dict(num_labels=outputs) if classifier else {}
    load = lambda path: auto.from_pretrained(path, dtype=torch.float32, attn_implementation="eager", **options)
    plain = logits(load(base), rows)
    found = [("base alone", plain, want["merged"])]
    cases = [("peft", "merged")] + [(f"peft_experts/expert_{i}", f"expert {i}") for i in range(len(expected["experts"]))]
    for directory, name in cases:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = PeftModel.from_pretrained(load(base), place / directory)
        missing = [str(w.message) for w in caught if "missing" in str(w.message).lower()]
        assert not missing, (family, directory, missing)
        found.append((directory, logits(model, rows), want[name]))
        if directory == "peft":
            found.append(("peft, merge_and_unload", logits(model.merge_and_unload(), rows), want[name]))
    for directory in ("hf", "hf_shards", "hf_bf16"):
        if (place / directory).is_dir():
            model, info = auto.from_pretrained(place / directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
            tied = {"lm_head.weight"} if not classifier and model.config.tie_word_embeddings else set()
            missing = set(info["missing_keys"]) - tied
            assert not missing and not info["unexpected_keys"], (family, directory, info)
            found.append((directory, logits(model, rows), want["merged"]))
    failed = False
    for name, got, right in found:
        off = float(np.abs(got - right).max())
        control, rounded = name == "base alone", name == "hf_bf16"
        wrong = off < 1e-2 if control else (not rounded and off > LIMIT)
        failed |= wrong
        note = " (must differ)" if control else " (rounded weights)" if rounded else ""
        print(f"{family:14} {name:26} max |difference| {off:.2e}{note}{'  WRONG' if wrong else ''}")
    return failed


def main():
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        if not any(directory.glob("*/expected.json")):
            export(directory)
        failed = [family.name for family in sorted(directory.iterdir()) if check(family.name, family)]
    sys.exit(f"wrong: {failed}" if failed else 0)


if __name__ == "__main__":
    main()
