"""Reads the GGUF files this program writes with the `gguf` package and with transformers' own reader.

    python tests/golden/gguf_check.py [DIR]        # needs torch, transformers, gguf, numpy, and cargo unless DIR was made before

DIR is the same as for peft_check.py. For each family:

    gguf_adapter/        names, shapes, metadata; A and B on the base give the logits (rows of q and k put back in order)
    gguf_{F32,F16,BF16,Q8_0}/ names, shapes; values against the merged Hugging Face directory; and, where transformers
                         knows the architecture completely, the logits of the model that it loads from the file
"""
import json
import re
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM

from peft_check import CLASSIFIERS, export, logits

PARTS = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_q_norm": "self_attn.q_norm",
         "attn_k_norm": "self_attn.k_norm", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
GPT2 = {"attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj", "attn_norm": "ln_1",
        "ffn_norm": "ln_2"}
ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
GPT2_ENDS = {"token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f", "output": "lm_head"}
# transformers does not read the stretched rotary frequencies of Llama 3 (rope_freqs.weight).
NO_LOGITS = {"llama-tiny"}


def unturned(values, heads):
    """From llama.cpp's order of rows to Hugging Face's."""
    shape = values.shape
    return values.reshape(heads, shape[0] // heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def hf_name(name, gpt2):
    path, end = name.rsplit(".", 1)
    if m := re.fullmatch(r"blk\.(\d+)\.(\w+)", path):
        return (f"transformer.h.{m[1]}.{GPT2[m[2]]}" if gpt2 else f"model.layers.{m[1]}.{PARTS[m[2]]}") + f".{end}"
    return (GPT2_ENDS if gpt2 else ENDS)[path] + f".{end}"


def values(tensor):
    """In PyTorch's order."""
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape([int(n) for n in tensor.shape[::-1]])


def field(reader, key):
    return reader.fields[key].contents()


def in_order(name, data, config):
    if config.model_type in ("llama", "mistral") and re.search(r"attn_[qk]\.", name):
        return unturned(data, config.num_attention_heads if "attn_q" in name else config.num_key_value_heads)
    return data


def adapter(family, place, rows, want):
    reader = gguf.GGUFReader(place / "gguf_adapter/adapter.gguf")
    assert field(reader, "general.type") == "adapter" and field(reader, "adapter.type") == "lora"
    model = AutoModelForCausalLM.from_pretrained(place / "base", dtype=torch.float32, attn_implementation="eager")
    architecture = {"mistral": "llama"}.get(model.config.model_type, model.config.model_type)
    assert field(reader, "general.architecture") == architecture, field(reader, "general.architecture")
    alpha, gpt2 = field(reader, "adapter.lora.alpha"), architecture == "gpt2"
    assert alpha > 0
    tensors = {t.name: values(t) for t in reader.tensors}
    base = gguf.GGUFReader(place / "gguf_F32/model.gguf")
    shapes = {t.name: [int(n) for n in t.shape[::-1]] for t in base.tensors}
    state = model.state_dict()
    for name, a in tensors.items():
        if not name.endswith(".lora_a"):
            assert name[:-1] + "a" in tensors, name
            continue
        b, target = tensors[name[:-1] + "b"], name.removesuffix(".lora_a")
        assert shapes[target] == [b.shape[0], a.shape[1]] and a.shape[0] == b.shape[1], (target, a.shape, b.shape)
        delta = alpha / b.shape[1] * in_order(target, b, model.config) @ a
        state[hf_name(target, gpt2)] += torch.from_numpy(delta.T.copy() if gpt2 else delta)
    return float(np.abs(logits(model, rows) - want).max()), len(tensors)


def model(family, place, kind, rows, want):
    path = place / f"gguf_{kind}/model.gguf"
    reader = gguf.GGUFReader(path)
    merged = AutoModelForCausalLM.from_pretrained(place / "hf", dtype=torch.float32, attn_implementation="eager")
    state, gpt2 = merged.state_dict(), merged.config.model_type == "gpt2"
    names, kinds, off = set(), set(), 0.0
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":
            continue
        data, name = in_order(tensor.name, values(tensor), merged.config), hf_name(tensor.name, gpt2)
        if gpt2 and data.ndim == 2 and "wte" not in name and "wpe" not in name and "lm_head" not in name:
            data = data.T
        assert list(data.shape) == list(state[name].shape), (name, data.shape, state[name].shape)
        # Vectors and position tables stay in 32 bits, rows of less than a block of 32 in 16.
        known = {"F32", kind, "F16"} if kind == "Q8_0" else {"F32", kind}
        assert tensor.tensor_type.name in known, (name, tensor.tensor_type)
        kinds.add(tensor.tensor_type.name)
        off = max(off, float(np.abs(data - state[name].numpy()).max()))
        names.add(name)
    assert kind in kinds or kind == "Q8_0" and family != "llama-wide", kinds
    lacking = set(state) - names - ({"lm_head.weight"} if merged.config.tie_word_embeddings else set())
    assert not lacking, lacking
    assert len(field(reader, "tokenizer.ggml.tokens")) == merged.config.vocab_size
    if family in NO_LOGITS:
        return off, None
    # Two sizes that transformers leaves at their defaults although the file says them.
    sizes = dict(n_positions=merged.config.n_positions) if gpt2 else {}
    if merged.config.model_type == "qwen3":
        sizes = dict(head_dim=merged.config.head_dim)
    loaded = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager", **sizes)
    return off, float(np.abs(logits(loaded, rows) - want).max())


def main():
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        if not any(directory.glob("*/expected.json")):
            export(directory)
        failed = False
        for place in sorted(directory.iterdir()):
            if place.name in CLASSIFIERS:
                continue
            expected = json.loads((place / "expected.json").read_text())
            rows = expected["ids"]
            want = np.array(expected["merged"], dtype=np.float32).reshape(-1, expected["outputs"])
            off, count = adapter(place.name, place, rows, want)
            failed |= off > 1e-3
            print(f"{place.name:14} adapter, {count} tensors         logits off by {off:.2e}")
            for kind, most in (("F32", 1e-5), ("F16", 2e-3), ("BF16", 2e-2), ("Q8_0", 5e-2)):
                off, apart = model(place.name, place, kind, rows, want)
                failed |= off > most or kind == "F32" and (apart or 0) > 1e-3
                said = "logits not read there" if apart is None else f"logits off by {apart:.2e}"
                print(f"{place.name:14} model in {kind:5} values off by {off:.2e}, {said}")
    sys.exit("wrong" if failed else 0)


if __name__ == "__main__":
    main()
