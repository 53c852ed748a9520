"""The AdaMix training step in PyTorch, on the shapes and lengths of `adamix bench`; prints one JSON line. Used by hand, for figures side by side.

    python tests/golden/bench_pytorch.py --shape roberta-base                        # 2 passes of 16 x 64 random tokens
    python tests/golden/bench_pytorch.py --shape minilm --data real --batch 32       # padded to the longest row of each batch
    python tests/golden/bench_pytorch.py --shape minilm --data real --batch 32 --pad 128    # padded as the reference pads
    python tests/golden/bench_pytorch.py --shape roberta-base --bf16                 # under autocast
    python tests/golden/bench_pytorch.py --shape roberta-large --bf16 --device cuda  # on a GPU
    python tests/golden/bench_pytorch.py --shape smollm2-135m                        # a language model with PEFT's LoRA, one pass

The model has random weights: speed does not depend on them. Expert modules sit where the reference has them, one draw per
batch, side and pass, up-projection shared; two separate passes, as the reference makes them; loss = cross-entropy of the first
pass + symmetric KL with detached targets; dropout on; AdamW. Figures are medians over the steps. `tokens_per_s` counts the
tokens of the sentences in both passes, without the padding (`padded_tokens_per_s` counts it too); `sequences_per_s` counts each
sequence once; memory is in MB (10^6 bytes). `--markdown FILE` also appends the figures to a table.

A language model is trained as PEFT trains it: LoRA on queries and values, every token learned, cross-entropy, one pass; 8 x 256
tokens and rank 4 if nothing else is said.
"""
import argparse
import json
import os
import resource
import statistics
import time

import torch
import torch.nn.functional as F
import transformers
from transformers import BertConfig, BertForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

SHAPES = {  # family, layers, width, heads, feed-forward, vocabulary, positions
    "roberta-base": ("roberta", 12, 768, 12, 3072, 50265, 514),
    "roberta-large": ("roberta", 24, 1024, 16, 4096, 50265, 514),
    "distilroberta": ("roberta", 6, 768, 12, 3072, 50265, 514),
    "bert-base": ("bert", 12, 768, 12, 3072, 30522, 512),
    "minilm": ("bert", 6, 384, 12, 1536, 30522, 512),
    "lab": ("bert", 4, 128, 4, 512, 8192, 128),
    "smollm2-135m": ("llama", 30, 576, 9, 1536, 49152, 8192),
}
KV_HEADS = {"smollm2-135m": 3}
LENGTHS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src", "engine", "bench", "sst2_lengths.csv")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="roberta-base")
    parser.add_argument("--data", choices=["dense", "real"], default="dense")
    parser.add_argument("--pad", type=int, default=0, help="pad every row to this length; 0: to the longest of its batch")
    parser.add_argument("--batch", type=int, help="16; of a language model 8")
    parser.add_argument("--length", type=int, help="of each dense sequence: 64; of a language model 256")
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--rank", type=int, help="16; of a language model 4")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--markdown", metavar="FILE", help="also append a row to this table")
    args = parser.parse_args()
    args.passes = 1 if SHAPES[args.shape][0] == "llama" else 2
    for name, (encoder, decoder) in dict(batch=(16, 8), length=(64, 256), rank=(16, 4)).items():
        if getattr(args, name) is None:
            setattr(args, name, decoder if args.passes == 1 else encoder)
    return args


class Mixture(torch.nn.Module):
    """FFN output projection, then the adapter that was drawn."""

    def __init__(self, dense, width, rank, experts):
        super().__init__()
        self.dense, self.up = dense, torch.nn.Linear(rank, width)
        self.down = torch.nn.ModuleList(torch.nn.Linear(width, rank) for _ in range(experts))
        for linear in [self.up, *self.down]:
            torch.nn.init.normal_(linear.weight, std=0.02)
            torch.nn.init.zeros_(linear.bias)

    def forward(self, x):
        x = self.dense(x)
        drawn = self.down[torch.randint(0, len(self.down), (1,)).item()]
        return x + self.up(F.gelu(drawn(x)))


def build_language_model(args):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    _, layers, width, heads, inner, vocabulary, positions = SHAPES[args.shape]
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
                                         num_key_value_heads=KV_HEADS[args.shape], intermediate_size=inner, max_position_embeddings=positions,
                                         rms_norm_eps=1e-5, rope_theta=100000.0, tie_word_embeddings=True, use_cache=False))
    lora = LoraConfig(r=args.rank, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return get_peft_model(model, lora).train(), vocabulary


def build(args):
    if args.passes == 1:
        return build_language_model(args)
    family, layers, width, heads, inner, vocabulary, positions = SHAPES[args.shape]
    config, model = {"roberta": (RobertaConfig, RobertaForSequenceClassification), "bert": (BertConfig, BertForSequenceClassification)}[family]
    model = model(config(vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner,
                         max_position_embeddings=positions, type_vocab_size=1 if family == "roberta" else 2, num_labels=2))
    for p in model.base_model.parameters():
        p.requires_grad = False
    for layer in model.base_model.encoder.layer:
        layer.output.dense = Mixture(layer.output.dense, width, args.rank, args.experts)
    return model.train(), vocabulary


def drawn_lengths():
    """Endless lengths, the same ones as `adamix bench --data real` draws."""
    with open(LENGTHS) as file:
        table = [tuple(map(int, line.split(","))) for line in file if line[0].isdigit()]
    total, index = sum(n for _, n in table), 0
    while True:
        x = (index % 8192 + 1) * 0x9E3779B9 & 0xFFFFFFFF
        x = (x ^ (x >> 16)) * 0x7FEB352D & 0xFFFFFFFF
        x = (x ^ (x >> 15)) * 0x846CA68B & 0xFFFFFFFF
        place = (x ^ (x >> 16)) * total >> 32
        for tokens, sentences in table:
            if place < sentences:
                break
            place -= sentences
        yield tokens
        index += 1


def batches(args, vocabulary):
    """Endless (inputs, labels)."""
    real = drawn_lengths()
    while True:
        lengths = [next(real) if args.data == "real" else args.length for _ in range(args.batch)]
        width = args.pad or max(lengths)
        mask = (torch.arange(width)[None, :] < torch.tensor([min(n, width) for n in lengths])[:, None]).long()
        ids = torch.where(mask.bool(), torch.randint(5, vocabulary, (args.batch, width)), torch.ones((), dtype=torch.long))
        yield dict(input_ids=ids, attention_mask=mask), torch.randint(0, 2, (args.batch,))


def symmetric_kl(a, b):
    la, lb = F.log_softmax(a, -1), F.log_softmax(b, -1)
    return 0.5 * (F.kl_div(la, lb.detach().exp(), reduction="batchmean") + F.kl_div(lb, la.detach().exp(), reduction="batchmean"))


def resident():
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def measure(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model, vocabulary = build(args)
    model.to(args.device)
    wait = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4, weight_decay=0.1)
    steps, steady = [], 0
    for step, (inputs, labels) in zip(range(args.warmup + args.steps), batches(args, vocabulary)):
        steady = resident() if step == args.warmup else steady
        wait()
        start = time.perf_counter()
        inputs, labels = {name: t.to(args.device) for name, t in inputs.items()}, labels.to(args.device)
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.bf16):
            if args.passes == 1:
                loss = model(**inputs, labels=inputs["input_ids"]).loss
            else:
                a, b = model(**inputs).logits.float(), model(**inputs).logits.float()
        if args.passes == 2:
            loss = F.cross_entropy(a, labels) + symmetric_kl(a, b)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        wait()
        if step >= args.warmup:
            steps.append((time.perf_counter() - start, args.passes * int(inputs["attention_mask"].sum()), args.passes * inputs["input_ids"].numel()))
    seconds = [s for s, _, _ in steps]
    peak, weights = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, 4 * sum(p.numel() for p in model.parameters())
    mb = lambda size: round(size / 1e6, 1)
    rate = lambda part: round(statistics.median(step[part] / step[0] for step in steps), 1)
    data = f"dense, {args.length} tokens each" if args.data == "dense" else "real lengths (SST-2)"
    on_gpu = {}
    if args.device == "cuda":
        free, total = torch.cuda.mem_get_info()
        on_gpu = dict(device=torch.cuda.get_device_name(), device_memory_mb=mb(total - free), device_peak_mb=mb(torch.cuda.max_memory_allocated()))
    return dict(**on_gpu, tool="pytorch", version=torch.__version__, transformers=transformers.__version__, shape=args.shape, data=data,
                pad=args.pad or "longest", dtype="bf16" if args.bf16 else "f32", threads=args.threads, batch_size=args.batch,
                num_experts=args.experts if args.passes == 2 else 1, adapter_size=args.rank, passes=args.passes, steps=args.steps,
                tokens_per_step=round(statistics.mean(tokens for _, tokens, _ in steps), 1),
                step_seconds=round(statistics.median(seconds), 5), step_seconds_min=round(min(seconds), 5), step_seconds_max=round(max(seconds), 5),
                tokens_per_s=rate(1), padded_tokens_per_s=rate(2), sequences_per_s=round(args.batch / statistics.median(seconds), 2),
                peak_rss_mb=mb(peak), steady_rss_mb=mb(steady), weights_mb=mb(weights), peak_above_weights_mb=mb(peak - weights))


def append_row(path, result):
    """A table row; the head too where the file is new."""
    columns = ["tool", "version", "shape", "data", "pad", "dtype", "batch_size", "step_seconds", "tokens_per_s", "sequences_per_s", "peak_rss_mb"]
    new = not os.path.exists(path)
    with open(path, "a") as file:
        if new:
            file.write("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns) + "\n")
        file.write("| " + " | ".join(str(result[column]) for column in columns) + " |\n")


if __name__ == "__main__":
    arguments_ = arguments()
    result_ = measure(arguments_)
    if arguments_.markdown:
        append_row(arguments_.markdown, result_)
    print(json.dumps(result_))
