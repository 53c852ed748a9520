"""Writes tiny models in GGUF format, laid out as llama.cpp's converter does, with the answers of transformers.

    python tests/golden/gguf_models.py        # needs gguf, torch, transformers, safetensors; seconds on a CPU

    gguf/{gpt2,llama,mistral,qwen2,qwen3}.gguf    the tiny models of decoder.py in F32: their golden logits are known already
    gguf/mixed.gguf                               a llama whose matrices have a type each: F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1
    gguf/mixed.json                               inputs and logits of transformers with the dequantised weights, in float64

The converter's rules: matrices are [out, in] (GPT-2's are transposed), rows of q and k of the llama kind are reordered for
interleaved rotary pairs, Llama 3's scaling becomes a tensor of factors, a tied head is left out.
"""
import json
import math
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
OUT = HERE / "gguf"
T = gguf.GGMLQuantizationType
LLAMA = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
GPT2 = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down", "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}


def renamed(name, table):
    path, suffix = name.rsplit(".", 1)
    path = path.removeprefix("model.").removeprefix("transformer.")
    for start in ("layers.", "h."):
        if path.startswith(start):
            number, part = path[len(start):].split(".", 1)
            return f"blk.{number}.{table[part]}.{suffix}"
    return f"{table[path]}.{suffix}"


def reordered(values, heads):
    """Rows of each head: pairs (i, i + half) become neighbours."""
    rows = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return rows.swapaxes(1, 2).reshape(values.shape)


def rope_factors(scaling, theta, width):
    """What Llama 3's scaling divides each frequency by."""
    factors = []
    for i in range(width // 2):
        length = 2 * math.pi * theta ** (2 * i / width)
        original, low, high = scaling["original_max_position_embeddings"], scaling["low_freq_factor"], scaling["high_freq_factor"]
        if length < original / high:
            factors.append(1.0)
        elif length > original / low:
            factors.append(scaling["factor"])
        else:
            blend = (original / length - low) / (high - low)
            factors.append(1 / ((1 - blend) / scaling["factor"] + blend))
    return np.array(factors, dtype=np.float32)


def write(path, arch, config, state, types=None):
    """`types`: type of each tensor by its GGUF name; F32 where it has none."""
    w = gguf.GGUFWriter(path, arch)
    gpt2 = arch == "gpt2"
    heads, kv = config.get("n_head") or config["num_attention_heads"], config.get("num_key_value_heads")
    d = config.get("n_embd") or config["hidden_size"]
    head_dim = config.get("head_dim") or d // heads
    w.add_name(path.stem)
    w.add_context_length(config.get("n_positions") or config["max_position_embeddings"])
    w.add_embedding_length(d)
    w.add_block_count(config.get("n_layer") or config["num_hidden_layers"])
    w.add_feed_forward_length(4 * d if gpt2 else config["intermediate_size"])
    w.add_head_count(heads)
    w.add_eos_token_id(2)
    w.add_bos_token_id(1)
    if gpt2:
        w.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        rope = config.get("rope_parameters") or {}
        w.add_head_count_kv(kv)
        w.add_layer_norm_rms_eps(config["rms_norm_eps"])
        w.add_rope_freq_base(rope.get("rope_theta", 10000.0))
        if head_dim != d // heads:
            w.add_key_length(head_dim)
            w.add_value_length(head_dim)
        if arch == "llama":
            w.add_vocab_size(config["vocab_size"])
            w.add_rope_dimension_count(head_dim)
        if rope.get("rope_type") == "llama3":
            w.add_tensor("rope_freqs.weight", rope_factors(rope, rope["rope_theta"], head_dim))
    for name, values in sorted(state.items()):
        new = renamed(name, GPT2 if gpt2 else LLAMA)
        if arch == "llama" and ".attn_q." in new:
            values = reordered(values, heads)
        if arch == "llama" and ".attn_k." in new:
            values = reordered(values, kv)
        if gpt2 and values.ndim == 2 and ".c_" in name:
            values = values.T
        values = np.ascontiguousarray(values)
        kind = (types or {}).get(new, T.F32)
        if kind == T.F32:
            w.add_tensor(new, values)
        else:
            w.add_tensor(new, gguf.quants.quantize(values, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def plain():
    for family, arch in [("gpt2", "gpt2"), ("llama", "llama"), ("mistral", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3")]:
        folder = HERE / f"{family}-tiny"
        write(OUT / f"{family}.gguf", arch, json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors"))


def mixed():
    torch.manual_seed(77)
    config = LlamaConfig(vocab_size=40, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
    model = LlamaForCausalLM(config)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape)
        p.data = 1 + 0.3 * noise if "norm" in name else noise * (0.6 if "embed" in name else 1.5 / p.shape[1] ** 0.5)
    state = {n: p.detach().numpy() for n, p in model.named_parameters()}
    types, order = {"token_embd.weight": T.Q8_0}, [T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1]
    for layer in range(2):
        for i, part in enumerate(["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]):
            types[f"blk.{layer}.{part}.weight"] = order[(i + 3 * layer) % len(order)]
    write(OUT / "mixed.gguf", "llama", config.to_dict(), state, types)
    ours = LlamaForCausalLM.from_pretrained(OUT, gguf_file="mixed.gguf", dtype=torch.float32, attn_implementation="eager").double().eval()
    rows = [torch.randint(3, 40, (n,)).tolist() for n in (1, 9, 4)]
    with torch.no_grad():
        logits = torch.cat([ours(torch.tensor([ids])).logits[0] for ids in rows]).flatten().tolist()
    (OUT / "mixed.json").write_text(json.dumps({"sequences": rows, "logits": [float(f"{v:.7g}") for v in logits]}) + "\n")


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    plain()
    mixed()
