"""Writes golden texts of transformers' beam search, greedy search and samplers on the tiny models of decoder.py.

    python tests/golden/generate.py           # needs torch and transformers; seconds on a CPU

generate.json:
    beams       model, settings, prompts, ids of the best beam without the prompt, and its score
    greedy      the same for greedy search with rules against repetition
    reference   the same for the decoder of the paper's text experiments, written here anew and without a cache: rules on the
                generated tokens only and before the softmax, `beams` continuations a step, each that ends is a candidate and
                leaves its beam, what runs at the end is a candidate too, score = sum log p / length ** penalty
    warpers     scores, settings, probabilities left after temperature, top-k, top-p
"""
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.logits_process import (NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
                                                    TopKLogitsWarper, TopPLogitsWarper)

HERE = Path(__file__).parent
PROMPTS = [[1, 9, 4], [5], [20, 11, 11, 7, 30], [3, 17]]


def model_of(family):
    return AutoModelForCausalLM.from_pretrained(HERE / f"{family}-tiny", dtype=torch.float64, attn_implementation="eager").eval()


def common_tokens(model, count):
    """Tokens that greedy search writes often: ends that really occur."""
    seen = {}
    for prompt in PROMPTS:
        ids = model.generate(torch.tensor([prompt]), generation_config=GenerationConfig(max_new_tokens=8, do_sample=False, pad_token_id=0))
        for i in ids[0].tolist()[len(prompt) + 2:]:
            seen[i] = seen.get(i, 0) + 1
    return sorted(seen, key=lambda i: (-seen[i], i))[:count]


def texts(family, ends, **settings):
    model = model_of(family)
    stops = common_tokens(model, ends) if ends else []
    found = []
    for prompt in PROMPTS:
        config = GenerationConfig(eos_token_id=stops or None, pad_token_id=0, do_sample=False, return_dict_in_generate=True, output_scores=True,
                                  **settings)
        out = model.generate(torch.tensor([prompt]), generation_config=config)
        ids = out.sequences[0].tolist()[len(prompt):]
        for at, i in enumerate(ids):
            if i in stops:
                ids = ids[:at + 1]
                break
        score = float(f"{out.sequences_scores[0].item():.7g}") if settings.get("num_beams", 1) > 1 else None
        found.append({"prompt": prompt, "ids": ids, "score": score})
    return {"model": family, "stops": stops, "settings": settings, "texts": found}


def reference(family, ends, beams, penalty, ngram, most, repetition=1.0):
    model = model_of(family)
    stops = common_tokens(model, ends)
    rules = ([RepetitionPenaltyLogitsProcessor(repetition)] if repetition != 1.0 else []) + ([NoRepeatNGramLogitsProcessor(ngram)] if ngram else [])
    found = []
    for prompt in PROMPTS:
        running, best = [(0.0, [])], None
        for _ in range(most):
            options = []
            for total, ids in running:
                scores = model(torch.tensor([prompt + ids])).logits[0, -1:]
                for rule in rules if ids else []:
                    scores = rule(torch.tensor([ids]), scores)
                for token, log in enumerate(scores.log_softmax(-1)[0].tolist()):
                    options.append((total + log, ids + [token]))
            options.sort(key=lambda option: -option[0])
            running = []
            for total, ids in options[:beams]:
                if ids[-1] in stops:
                    score = total / len(ids) ** penalty
                    best = (score, ids) if best is None or best[0] < score else best
                else:
                    running.append((total, ids))
        for total, ids in running:
            score = total / len(ids) ** penalty
            best = (score, ids) if best is None or best[0] < score else best
        found.append({"prompt": prompt, "ids": best[1], "score": float(f"{best[0]:.7g}")})
    settings = dict(num_beams=beams, length_penalty=penalty, no_repeat_ngram_size=ngram, max_new_tokens=most, repetition_penalty=repetition)
    return {"model": family, "stops": stops, "settings": settings, "texts": found}


def warpers():
    torch.manual_seed(5)
    scores = (2 * torch.randn(24)).tolist()
    cases = []
    for temperature, top_k, top_p in [(1.0, 0, 1.0), (0.7, 5, 1.0), (1.5, 0, 0.8), (0.3, 10, 0.9), (2.0, 3, 0.5), (1.0, 0, 0.05)]:
        z = torch.tensor([scores], dtype=torch.float64)
        steps = [TemperatureLogitsWarper(temperature)] + ([TopKLogitsWarper(top_k)] if top_k else []) + ([TopPLogitsWarper(top_p)] if top_p < 1 else [])
        for step in steps:
            z = step(None, z)
        cases.append(dict(temperature=temperature, top_k=top_k, top_p=top_p, p=[float(f"{v:.7g}") for v in z.softmax(-1)[0].tolist()]))
    return {"scores": scores, "cases": cases}


if __name__ == "__main__":
    with torch.no_grad():
        golden = {
            "beams": [
                texts("gpt2", 1, num_beams=4, length_penalty=1.0, max_new_tokens=12),
                texts("llama", 1, num_beams=3, length_penalty=0.8, no_repeat_ngram_size=2, max_new_tokens=16),
                texts("qwen2", 1, num_beams=5, length_penalty=2.0, early_stopping=True, max_new_tokens=12),
                texts("qwen3", 2, num_beams=2, length_penalty=-1.0, early_stopping="never", repetition_penalty=1.3, max_new_tokens=14),
                texts("mistral", 2, num_beams=8, length_penalty=0.8, no_repeat_ngram_size=4, max_new_tokens=10),
                texts("llama", 3, num_beams=6, length_penalty=1.5, early_stopping="never", max_new_tokens=10),
            ],
            "greedy": [
                texts("gpt2", 1, max_new_tokens=12),
                texts("llama", 0, no_repeat_ngram_size=2, repetition_penalty=1.4, max_new_tokens=20),
                texts("qwen3", 1, repetition_penalty=0.8, max_new_tokens=12),
            ],
            "reference": [
                reference("gpt2", 2, 10, 0.8, 4, 14),
                reference("gpt2", 1, 4, 0.8, 2, 14),
                reference("llama", 2, 3, 1.6, 3, 12, repetition=1.2),
                reference("qwen2", 1, 1, -0.5, 0, 8),
            ],
            "warpers": warpers(),
        }
    from decoder import compact
    (HERE / "generate.json").write_text(compact(json.dumps(golden, indent=1)) + "\n")
