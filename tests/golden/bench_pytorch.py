"""The AdaMix training step in PyTorch, on the shapes of `adamix bench`; prints one JSON line. Used by hand, for figures side by side.

    python tests/golden/bench_pytorch.py --shape roberta-base                     # 2 passes of 16 x 64 random tokens
    python tests/golden/bench_pytorch.py --shape roberta-base --length 128        # what padding real sentences to 128 costs

The model has random weights: speed does not depend on them. Expert modules sit where the reference has them, one draw per
batch, side and pass, up-projection shared; loss = cross-entropy of the first pass + symmetric KL with detached targets;
dropout on; AdamW. `tokens_per_s` counts both passes, `sequences_per_s` each sequence once; memory is in MB (10^6 bytes).
"""
import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F
import transformers
from transformers import BertConfig, BertForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

SHAPES = {  # family, layers, width, heads, feed-forward, vocabulary, positions
    "roberta-base": ("roberta", 12, 768, 12, 3072, 50265, 514),
    "roberta-large": ("roberta", 24, 1024, 16, 4096, 50265, 514),
    "distilroberta": ("roberta", 6, 768, 12, 3072, 50265, 514),
    "minilm": ("roberta", 6, 384, 12, 1536, 30522, 514),
    "lab": ("roberta", 4, 128, 4, 512, 8192, 514),
    "bert-base": ("bert", 12, 768, 12, 3072, 30522, 512),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="roberta-base")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    return parser.parse_args()


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


def build(args):
    family, layers, width, heads, inner, vocabulary, positions = SHAPES[args.shape]
    config, model = {"roberta": (RobertaConfig, RobertaForSequenceClassification), "bert": (BertConfig, BertForSequenceClassification)}[family]
    model = model(config(vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner,
                         max_position_embeddings=positions, type_vocab_size=1 if family == "roberta" else 2, num_labels=2))
    for p in model.base_model.parameters():
        p.requires_grad = False
    for layer in model.base_model.encoder.layer:
        layer.output.dense = Mixture(layer.output.dense, width, args.rank, args.experts)
    return model.train(), vocabulary


def batches(args, vocabulary):
    """Endless (inputs, labels)."""
    while True:
        ids = torch.randint(5, vocabulary, (args.batch, args.length))
        yield dict(input_ids=ids, attention_mask=torch.ones_like(ids)), torch.randint(0, 2, (args.batch,))


def symmetric_kl(a, b):
    la, lb = F.log_softmax(a, -1), F.log_softmax(b, -1)
    return 0.5 * (F.kl_div(la, lb.detach().exp(), reduction="batchmean") + F.kl_div(lb, la.detach().exp(), reduction="batchmean"))


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model, vocabulary = build(args)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4, weight_decay=0.1)
    times = []
    for step, (inputs, labels) in zip(range(args.warmup + args.steps), batches(args, vocabulary)):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            a, b = model(**inputs).logits.float(), model(**inputs).logits.float()
        loss = F.cross_entropy(a, labels) + symmetric_kl(a, b)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step >= args.warmup:
            times.append(time.perf_counter() - start)
    sequences = args.batch * len(times)
    print(json.dumps(dict(tool="pytorch", shape=args.shape, dtype="bf16" if args.bf16 else "f32", threads=args.threads,
                          tokens_per_s=round(2 * args.length * sequences / sum(times), 1), sequences_per_s=round(sequences / sum(times), 2),
                          step_seconds=round(sorted(times)[len(times) // 2], 4), steps=args.steps,
                          peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
                          torch=torch.__version__, transformers=transformers.__version__)))


if __name__ == "__main__":
    main()
