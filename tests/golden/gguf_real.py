"""Compares `adamix generate` on a real GGUF file with transformers running the same file dequantised.

    python tests/golden/gguf_real.py MODEL.gguf ADAMIX        # needs torch, transformers, gguf; a minute on a CPU

Greedy continuations of some prompts: the tokens, and the log-probability of each. Where tokens differ, the margin between
the two at that place is printed: near ties may fall either way.
"""
import json
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

PROMPTS = ["The capital of France is", "name[The Eagle], food[Italian], area[riverside] =>", "def fibonacci(n):", "Once upon a time"]


def main(model_path, adamix):
    model_path = Path(model_path)
    command = [adamix, "generate", "--model", str(model_path), "--max-new-tokens", "48", "--json"]
    for prompt in PROMPTS:
        command += ["--prompt", prompt]
    lines = [json.loads(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()]
    texts, done = [line for line in lines if line["event"] == "text"], lines[-1]
    model = AutoModelForCausalLM.from_pretrained(model_path.parent, gguf_file=model_path.name, dtype=torch.float32).eval()
    worst, same, total = 0.0, 0, 0
    for text in texts:
        ids = text["ids"] + ([text["end"]] if text["end"] is not None else [])
        with torch.no_grad():
            logits = model(torch.tensor([text["prompt_ids"] + ids])).logits[0, len(text["prompt_ids"]) - 1:-1]
        logs = logits.double().log_softmax(-1)
        for row, token, ours in zip(logs, ids, text["log_probs"]):
            worst = max(worst, abs(row[token].item() - ours))
            total += 1
            if row.argmax().item() == token:
                same += 1
            else:
                print(f"another token is likelier by {row.max().item() - row[token].item():.2e}")
    print(f"{same} of {total} tokens are the likeliest; largest difference of a log-probability {worst:.2e}")
    print({key: done[key] for key in ("tokens_per_second", "peak_memory", "seconds")})


if __name__ == "__main__":
    main(*sys.argv[1:])
