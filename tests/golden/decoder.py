"""Writes the golden files of the decoder families and of AdaMix training on them.

    python tests/golden/decoder.py            # needs torch, transformers, safetensors; seconds on a CPU

Everything is computed by PyTorch and transformers in float64 from float32 weights (rotary angles in float32, as
transformers has them), so what is stored is the exact answer rounded once. Five tiny models (16 wide, 2 layers, 4 heads,
grouped keys except in GPT-2; biases and norms are neither 0 nor 1) in the layout transformers itself saves:

    {gpt2,llama,mistral,qwen2,qwen3}-tiny/config.json, model.safetensors     as `save_pretrained` writes them
    {gpt2,llama,mistral,qwen2,qwen3}-tiny/golden.json                        inputs, settings, routes, losses
    {gpt2,llama,mistral,qwen2,qwen3}-tiny/golden.safetensors                 logits, experts, gradients

Sequences are run one by one, without padding. Keys of golden.safetensors: `logits/<case>` `[tokens, vocab]`,
`extra/<case>/<name>` (weights a case adds), `experts/<case>/<name>` (inputs), `grads/<case>/<name>` (results), the last
two under the engine's names: `layers.0.self_attn.q_proj.lora_a.weight` `[experts, r, in]`, `layers.0.ffn.down.bias`, ...
"""
import json
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

HERE = Path(__file__).parent
D, FFN, VOCAB, LAYERS, M, R = 16, 20, 32, 2, 3, 2
VERSIONS = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
SHAPE = dict(vocab_size=VOCAB, hidden_size=D, intermediate_size=FFN, num_hidden_layers=LAYERS, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
# Bands of all three kinds: the wavelengths of head_dim 8 are 6, 20, 63 and 199; below 12 is fast, above 48 slow.
LLAMA3 = dict(rope_type="llama3", rope_theta=100.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=48)

FAMILIES = {
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=VOCAB, n_embd=D, n_layer=LAYERS, n_head=4, n_positions=32, n_inner=None,
                                         bos_token_id=1, eos_token_id=2)),
    "llama": (LlamaForCausalLM, LlamaConfig(**SHAPE, tie_word_embeddings=True, head_dim=8, rope_parameters=LLAMA3)),
    "mistral": (MistralForCausalLM, MistralConfig(**SHAPE, tie_word_embeddings=False, head_dim=6, sliding_window=16)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SHAPE, tie_word_embeddings=False)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SHAPE, tie_word_embeddings=True, head_dim=8)),
}
LENGTHS = (1, 5, 13)


def significant(value):
    """Nine significant digits: enough to give back every float32."""
    return float(f"{value:.9g}")


def randomise(model, generator):
    """Weights large enough that every part of the network matters, norms around 1, no bias at 0."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if "norm" in name or ".ln_" in name:
            p.data = (1.0 if name.endswith("weight") else 0.0) + 0.3 * noise
        elif name.endswith("bias"):
            p.data = 0.3 * noise
        elif any(part in name for part in ("embed", "wte", "wpe", "lm_head")):
            p.data = 0.6 * noise
        else:
            fan_in = p.shape[0] if "c_" in name else p.shape[1]
            p.data = noise * (1.5 / fan_in ** 0.5)


def fresh(family, state, overrides=None):
    """A float64 model in evaluation mode with these weights and settings."""
    model_class, config = FAMILIES[family]
    config = type(config).from_dict({**config.to_dict(), **(overrides or {})})
    config._attn_implementation = "eager"
    model = model_class(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all("lm_head" in name for name in missing), (missing, unexpected)
    model.tie_weights()
    return model.double().eval()


def sequences(generator):
    return [torch.randint(3, VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]


def logits_of(model, rows):
    return torch.cat([model(input_ids=torch.tensor([ids])).logits[0] for ids in rows])


class Low(torch.nn.Module):
    """A linear layer (or GPT-2's Conv1D) with LoRA experts on some blocks of its outputs: `sites` are (columns, a, b, pick)."""

    def __init__(self, dense, scale):
        super().__init__()
        self.dense, self.scale, self.sites = dense, scale, []

    def forward(self, x):
        y = self.dense(x)
        for columns, a, b, pick in self.sites:
            a, b = a[pick()[0]], b[pick()[1]]
            row = 0
            for i, (start, end) in enumerate(columns):
                delta = x @ a[i * R:(i + 1) * R].T @ b[row:row + end - start].T
                y = y + self.scale * F.pad(delta, (start, y.shape[-1] - end))
                row += end - start
        return y


class Bottleneck(torch.nn.Module):
    """A feed-forward block followed by a mixture of bottleneck adapters."""

    def __init__(self, block, banks, pick):
        super().__init__()
        self.block, self.banks, self.pick = block, banks, pick

    def forward(self, x):
        h, (j, k) = self.block(x), self.pick()
        z = F.gelu(F.linear(h, self.banks["down.weight"][j], self.banks["down.bias"][j]), approximate="tanh")
        return h + F.linear(z, self.banks["up.weight"][k], self.banks["up.bias"][k])


def targets(family, config, kind):
    """(path, module path, columns, inputs) of every LoRA site of a layer, in the engine's order."""
    if family == "gpt2":
        whole = [("attn.c_attn", "attn.c_attn", [(0, 3 * D)], D), ("attn.c_proj", "attn.c_proj", [(0, D)], D),
                 ("mlp.c_fc", "mlp.c_fc", [(0, 4 * D)], D), ("mlp.c_proj", "mlp.c_proj", [(0, D)], 4 * D)]
        parts = {"default": [("attn.c_attn.qv", "attn.c_attn", [(0, D), (2 * D, 3 * D)], D)],
                 "q,k,v": [(f"attn.c_attn.{n}", "attn.c_attn", [(i * D, (i + 1) * D)], D) for i, n in enumerate("qkv")]}
        return parts.get(kind, whole)
    head = getattr(config, "head_dim", None) or D // 4
    q, kv = 4 * head, 2 * head
    whole = [("self_attn.q_proj", q, D), ("self_attn.k_proj", kv, D), ("self_attn.v_proj", kv, D), ("self_attn.o_proj", D, q),
             ("mlp.gate_proj", FFN, D), ("mlp.up_proj", FFN, D), ("mlp.down_proj", D, FFN)]
    keep = {"default": ("q_proj", "v_proj"), "o_proj,down_proj": ("o_proj", "down_proj"), "gate_proj": ("gate_proj",)}.get(kind)
    return [(path, path, [(0, out)], d_in) for path, out, d_in in whole if keep is None or path.split(".")[-1] in keep]


def routes(generator, sizes, sites):
    """`picks[(pass * sites + site) * 2 + side]`; the passes differ wherever there is a choice."""
    first = [int(torch.randint(0, n, (1,), generator=generator)) for _ in range(sites) for n in sizes]
    shift = [int(torch.randint(1, n, (1,), generator=generator)) if n > 1 else 0 for _ in range(sites) for n in sizes]
    return first + [(a + s) % n for a, s, n in zip(first, shift, list(sizes) * sites)]


def get(module, path):
    for part in path.split("."):
        module = getattr(module, part)
    return module


def training_case(family, state, rows, wanted, case, generator):
    model = fresh(family, state)
    for p in model.parameters():
        p.requires_grad = False
    layers = model.transformer.h if family == "gpt2" else model.model.layers
    sizes = (M, 1) if case["share_b"] else (M, M)
    now, banks = {"pass": 0}, {}
    bank = lambda name, *shape: banks.setdefault(name, (0.5 * torch.randn(shape, generator=generator)).double().requires_grad_())
    listed = targets(family, model.config, case["target"]) if case["kind"] == "lora" else [None]
    sites = LAYERS * len(listed)
    picks = routes(generator, sizes, sites)

    def picker(site):
        return lambda: tuple(picks[(now["pass"] * sites + site) * 2:][:2])

    for i, layer in enumerate(layers):
        if case["kind"] == "adapter":
            name = f"layers.{i}.ffn"
            down, up = sizes
            shapes = {"down.weight": (down, R, D), "down.bias": (down, R), "up.weight": (up, D, R), "up.bias": (up, D)}
            layer.mlp = Bottleneck(layer.mlp, {k: bank(f"{name}.{k}", *s) for k, s in shapes.items()}, picker(i))
            continue
        for at, (path, module, columns, d_in) in enumerate(listed):
            parent, leaf = module.rsplit(".", 1)
            dense = get(layer, module)
            if not isinstance(dense, Low):
                dense = Low(dense, case["scale"])
                setattr(get(layer, parent), leaf, dense)
            a = bank(f"layers.{i}.{path}.lora_a.weight", sizes[0], len(columns) * R, d_in)
            b = bank(f"layers.{i}.{path}.lora_b.weight", sizes[1], sum(e - s for s, e in columns), R)
            dense.sites.append((columns, a, b, picker(i * len(listed) + at)))
    at = [(i, t) for i, t in targets_of(rows, wanted)]
    z = []
    for number in (0, 1):
        now["pass"] = number
        z.append(logits_of(model, rows)[[i for i, _ in at]])
    aim = torch.tensor([t for _, t in at])
    entropy = [F.cross_entropy(x, aim, label_smoothing=case["label_smoothing"]) for x in z]
    task = (entropy[0] + entropy[1]) / 2 if case["ce_both_passes"] else entropy[0]
    hold = (lambda t: t.detach()) if case["detach"] else (lambda t: t)
    la, lb = (F.log_softmax(x, -1) for x in z)
    term = 0.5 * (F.kl_div(la, hold(lb.exp()), reduction="batchmean") + F.kl_div(lb, hold(la.exp()), reduction="batchmean"))
    total = task + case["consistency_weight"] * term
    total.backward()
    grads = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in banks.items()}
    drawn = {n: [bool((g != 0).any()) for g in grad] for n, grad in grads.items()}
    out = {**case, "route": picks, "total": significant(total.item()), "task": significant(task.item()),
           "consistency": significant(term.item()), "drawn": drawn}
    return out, {n: b.detach().float() for n, b in banks.items()}, {n: g.float() for n, g in grads.items()}


def targets_of(rows, wanted):
    """(row that predicts, token) of every wanted token."""
    start = 0
    for ids in rows:
        for i in range(1, len(ids)):
            if wanted[start + i]:
                yield start + i - 1, ids[i]
        start += len(ids)


def training_cases(family):
    base = dict(kind="lora", target="default", share_b=True, scale=8.0, consistency_weight=5.0, label_smoothing=0.1, detach=True,
                ce_both_passes=False)
    yield {**base, "name": "default"}
    if family in ("gpt2", "llama", "qwen3"):
        yield {**base, "name": "all", "target": "all-linear", "share_b": False, "scale": 1.5, "label_smoothing": 0.0}
    if family in ("gpt2", "llama"):
        yield {**base, "name": "adapter", "kind": "adapter", "detach": False}
    if family == "gpt2":
        yield {**base, "name": "apart", "target": "q,k,v", "share_b": False, "ce_both_passes": True}
    if family == "llama":
        yield {**base, "name": "upper", "target": "o_proj,down_proj", "share_b": False, "ce_both_passes": True}
        yield {**base, "name": "gate", "target": "gate_proj", "consistency_weight": 100.0}


def logits_cases(family, generator):
    yield "plain", {}, {}
    if family == "gpt2":
        yield "settings", {"activation_function": "relu", "layer_norm_epsilon": 1e-2, "n_head": 2}, {}
    if family == "llama":
        yield "rope-default", {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}, {}
        yield "rope-linear", {"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0}}, {}
        yield "settings", {"hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-2, "num_attention_heads": 4}, {}
        extra = {}
        for i in range(LAYERS):
            sizes = dict(q_proj=32, k_proj=16, v_proj=16, o_proj=D)
            extra |= {f"model.layers.{i}.self_attn.{n}.bias": 0.3 * torch.randn(s, generator=generator) for n, s in sizes.items()}
            sizes = dict(gate_proj=FFN, up_proj=FFN, down_proj=D)
            extra |= {f"model.layers.{i}.mlp.{n}.bias": 0.3 * torch.randn(s, generator=generator) for n, s in sizes.items()}
        yield "biases", {"attention_bias": True, "mlp_bias": True}, extra


def family_files(family, seed):
    generator = torch.Generator().manual_seed(seed)
    model_class, config = FAMILIES[family]
    folder = HERE / f"{family}-tiny"
    model = model_class(config)
    randomise(model, generator)
    model.tie_weights()
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    state, rows = model.state_dict(), sequences(generator)
    # As in text with prompts: the first half of each sequence is no target.
    wanted = [i >= len(ids) // 2 for ids in rows for i in range(len(ids))]
    tensors, golden = {}, dict(versions=VERSIONS, rank=R, sequences=rows, wanted=wanted, logits=[], training=[])
    for name, overrides, extra in logits_cases(family, generator):
        with torch.no_grad():
            tensors[f"logits/{name}"] = logits_of(fresh(family, {**state, **extra}, overrides), rows).float()
        tensors |= {f"extra/{name}/{n}": v for n, v in extra.items()}
        golden["logits"].append(dict(name=name, config=overrides))
    for case in training_cases(family):
        out, experts, grads = training_case(family, state, rows, wanted, case, generator)
        golden["training"].append(out)
        tensors |= {f"experts/{case['name']}/{n}": v for n, v in experts.items()}
        tensors |= {f"grads/{case['name']}/{n}": v for n, v in grads.items()}
    lines = json.dumps(golden, indent=1)
    (folder / "golden.json").write_text(compact(lines) + "\n")
    save_file({n: v.contiguous() for n, v in tensors.items()}, folder / "golden.safetensors")
    for file in folder.iterdir():
        file.chmod(0o644)


def compact(text):
    """Lists of numbers and switches on one line."""
    import re
    return re.sub(r"\[\s+([^\[\]{}\"]*?)\s+\]", lambda m: "[" + " ".join(m.group(1).split()) + "]", text)


if __name__ == "__main__":
    for number, family in enumerate(FAMILIES):
        family_files(family, 4100 + number)
