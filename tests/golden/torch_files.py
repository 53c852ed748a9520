"""Writes the files of tests/golden/torch: tiny checkpoints in the layout of the AdaMix reference code, by torch.save itself.

    python tests/golden/torch_files.py        # needs torch; seconds

    roberta_soup.bin     two layers of d = 20, r = 5, four experts, the up-projection shared, a head of three labels
    gpt2_lora.pt         {"model_state_dict": ...}, DDP prefix, two layers of d = 16, r = 2, three A and one B, and parts of the trunk
    gpt2_adapter.pt      the same with bottleneck adapters
    gpt2_scored.pt       gpt2_lora.pt's kind, other values, other scores of the experts in each layer
    odd.bin              views, transposed and half-precision tensors, whole numbers
    legacy.bin           the layout from before torch 1.6
    evil.bin             a pickle that wants to run a command
    expected.json        what has to come out
"""
import json
import os
from collections import OrderedDict
from pathlib import Path

import torch

HERE = Path(__file__).parent / "torch"
torch.manual_seed(3)


def soup(prefix, d, r, up_shared=True, experts=4):
    state = OrderedDict()
    for side, count, shape in (("MoA_A", experts, (r, d)), ("MoA_B", 1 if up_shared else experts, (d, r))):
        state[f"{prefix}.{side}.expert_score_weight"] = torch.zeros(count)
        for j in range(count):
            state[f"{prefix}.{side}.deepspeed_experts.{j}.weight"] = torch.randn(shape)
            state[f"{prefix}.{side}.deepspeed_experts.{j}.bias"] = torch.randn(shape[0])
    return state


def roberta():
    state = OrderedDict()
    for i in range(2):
        state.update(soup(f"roberta.encoder.layer.{i}.output.ExpertSoup", 20, 5))
    for name, shape in (("dense.weight", (20, 20)), ("dense.bias", (20,)), ("out_proj.weight", (3, 20)), ("out_proj.bias", (3,))):
        state[f"classifier.{name}"] = torch.randn(shape)
    return state


def gpt2_lora():
    state = OrderedDict()
    for i in range(2):
        prefix = f"module.transformer.h.{i}.attn.c_attn."
        state[prefix + "weight"] = torch.randn(16, 48)
        for j in range(3):
            state[prefix + f"experts_lora_A.{j}"] = torch.randn(4, 16)
        b = torch.randn(32, 2)
        state[prefix + "experts_lora_B.0"] = b
        state[prefix + "lora_B_w"] = b
        state[prefix + "lora_expert_score_weight"] = torch.zeros(3)
        state[f"module.transformer.h.{i}.attn.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    return state


def gpt2_adapter():
    state = OrderedDict()
    for i in range(2):
        state.update(soup(f"module.transformer.h.{i}.mlp.ExpertSoup", 16, 2, experts=3))
    state["module.transformer.h.1.mlp.ExpertSoup.MoA_A.expert_score_weight"] = torch.tensor([0.0, 1.0, 0.0])
    return state


def gpt2_scored():
    torch.manual_seed(11)
    state = OrderedDict((name, value) for name, value in gpt2_lora().items() if "lora_" in name)
    for i, scores in enumerate(([2.0, 0.0, -1.0], [-0.5, 0.25, 1.5])):
        state[f"module.transformer.h.{i}.attn.c_attn.lora_expert_score_weight"] = torch.tensor(scores)
    return state


class Evil:
    def __reduce__(self):
        return os.system, ("echo this must never run",)


def main():
    HERE.mkdir(exist_ok=True)
    torch.save(roberta(), HERE / "roberta_soup.bin")
    torch.save({"model_state_dict": gpt2_lora(), "step": 7}, HERE / "gpt2_lora.pt")
    torch.save({"model_state_dict": gpt2_adapter()}, HERE / "gpt2_adapter.pt")
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    odd = {"transposed": base.t(), "part": base[1:3, 2:5], "half": base.half() / 3, "bf16": base.bfloat16() / 3,
           "double": base.double() / 3, "one": torch.tensor(2.5), "empty": torch.zeros(0, 3), "whole": torch.arange(3)}
    torch.save(odd, HERE / "odd.bin")
    torch.save(roberta(), HERE / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"weight": torch.zeros(2), "evil": Evil()}, HERE / "evil.bin")
    torch.save({"model_state_dict": gpt2_scored()}, HERE / "gpt2_scored.pt")
    flat = {name: value.float().flatten().tolist() for name, value in odd.items() if name != "whole"}
    lora = torch.load(HERE / "gpt2_lora.pt")["model_state_dict"]
    first = torch.load(HERE / "roberta_soup.bin")
    layer = "roberta.encoder.layer.1.output.ExpertSoup."
    expected = {
        "odd": flat,
        "lora_a": torch.stack([lora[f"module.transformer.h.1.attn.c_attn.experts_lora_A.{j}"] for j in range(3)]).flatten().tolist(),
        "down": torch.stack([first[layer + f"MoA_A.deepspeed_experts.{j}.weight"] for j in range(4)]).flatten().tolist(),
    }
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
