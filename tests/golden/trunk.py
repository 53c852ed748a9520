"""Gradients of whole decoders, tables, norms and head included: trunk.safetensors beside the models of decoder.py.

Run after decoder.py with its environment. The loss is the mean cross-entropy of the wanted tokens, in float64.
"""
import json

import torch
import torch.nn.functional as F
from decoder import HERE, fresh, logits_of, targets_of
from safetensors.torch import load_file, save_file

for family in ("gpt2", "llama", "qwen3"):
    folder = HERE / f"{family}-tiny"
    golden = json.loads((folder / "golden.json").read_text())
    model = fresh(family, load_file(folder / "model.safetensors"))
    at = list(targets_of(golden["sequences"], golden["wanted"]))
    logits = logits_of(model, golden["sequences"])[[i for i, _ in at]]
    loss = F.cross_entropy(logits, torch.tensor([token for _, token in at]))
    loss.backward()
    tensors = {name: p.grad.float().contiguous() for name, p in model.named_parameters()}
    save_file({**tensors, "loss": loss.detach().float()}, folder / "trunk.safetensors")
    (folder / "trunk.safetensors").chmod(0o644)
