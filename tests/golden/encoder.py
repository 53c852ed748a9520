"""Writes the golden files of the encoders, of AdaMix training on them, and of the optimizer.

    python tests/golden/encoder.py            # needs torch, transformers, safetensors; seconds on a CPU

Everything is computed by PyTorch and transformers in float64 from float32 weights, so what is stored is the exact
answer rounded once. Two tiny models (20 wide, 2 layers, 4 heads of 5, odd sizes on purpose; biases and norms are
neither 0 nor 1, so that nothing hides) in the layout transformers itself saves:

    {bert,roberta}-tiny/config.json, model.safetensors   as `save_pretrained` writes them, 3 labels
    {bert,roberta}-tiny/golden.json                      inputs, logits and hidden states, also with other settings
    {bert,roberta}-tiny/adamix.json                      training cases: batch, route, losses, logits of each pass
    {bert,roberta}-tiny/adamix.safetensors               their experts, other heads, and the gradient of every trained tensor
    adamw.json                                           parameters after each of several AdamW steps

Keys of adamix.safetensors: `experts/<set>/<name>` and `heads/<set>/<name>` are inputs, `grads/<case>/<name>` are results.
Names are the engine's for adapters (`layers.0.ffn.down.weight` `[experts, r, d]`, `.down.bias` `[experts, r]`,
`.up.weight` `[experts, d, r]`, `.up.bias` `[experts, d]`) and transformers' for everything else.
"""
import json
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

HERE = Path(__file__).parent
D, R, M, LAYERS, VOCAB, LENGTH = 20, 5, 3, 2, 64, 32
LAMBDA = 0.7
VERSIONS = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
ACTIVATIONS = {"gelu": F.gelu, "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"), "relu": F.relu, "swish": F.silu}


def numbers(tensor):
    """A nested list with nine significant digits: enough to give back every float32."""
    if isinstance(tensor, torch.Tensor):
        tensor = tensor.detach().tolist()
    if isinstance(tensor, list):
        return [numbers(x) for x in tensor]
    return float(f"{tensor:.9g}")


def write_json(path, value):
    """Indented, with innermost lists on one line."""
    def text(v, pad):
        if isinstance(v, dict) and v:
            inner = ",\n".join(f"{pad}  {json.dumps(k)}: {text(x, pad + '  ')}" for k, x in v.items())
            return "{\n" + inner + "\n" + pad + "}"
        if isinstance(v, list) and any(isinstance(x, (list, dict)) for x in v):
            return "[\n" + ",\n".join(f"{pad}  {text(x, pad + '  ')}" for x in v) + "\n" + pad + "]"
        return json.dumps(v)
    path.write_text(text(value, "") + "\n")


class Mixture(torch.nn.Module):
    """The FFN output projection followed by a mixture of bottleneck adapters, before dropout, residual and norm."""

    def __init__(self, dense, experts, layer, activation, picks):
        super().__init__()
        self.dense, self.activation, self.picks = dense, activation, picks
        self.banks = {k: experts[f"layers.{layer}.ffn.{k}"] for k in ["down.weight", "down.bias", "up.weight", "up.bias"]}

    def side(self, name, x):
        weights, biases = self.banks[f"{name}.weight"], self.banks[f"{name}.bias"]
        pick = self.picks[name]
        if isinstance(pick, int):
            return F.linear(x, weights[pick], biases[pick])
        each = torch.stack([F.linear(x, w, b) for w, b in zip(weights, biases)])  # [experts, batch, length, out]
        chosen = F.one_hot(pick, len(weights)).to(x.dtype).permute(2, 0, 1).unsqueeze(-1)
        return (each * chosen).sum(0)

    def forward(self, x):
        x = self.dense(x)
        return x + self.side("up", self.activation(self.side("down", x)))


FAMILIES = {
    "bert": dict(
        model=BertForSequenceClassification, first=2, special=dict(cls=1, sep=3, pad=0), trunk="bert",
        config=BertConfig(vocab_size=VOCAB, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=36,
                          max_position_embeddings=LENGTH, type_vocab_size=2, num_labels=3)),
    "roberta": dict(
        model=RobertaForSequenceClassification, first=3, special=dict(cls=0, sep=2, pad=1), trunk="roberta",
        config=RobertaConfig(vocab_size=VOCAB, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=36,
                             max_position_embeddings=LENGTH + 2, type_vocab_size=1, num_labels=3)),
}


def randomise(model, generator):
    """Weights large enough that every part of the network matters, norms around 1, no bias at 0."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if "LayerNorm.weight" in name:
            p.data = 1.0 + 0.3 * noise
        elif name.endswith("bias"):
            p.data = 0.2 * noise
        elif "embeddings" in name:
            p.data = 0.5 * noise
        else:
            p.data = noise * (1.2 / p.shape[1] ** 0.5)


def inputs(family, generator):
    """Lengths from the shortest possible to the longest; the last two are pairs of texts."""
    s, roberta = family["special"], family["trunk"] == "roberta"
    draw = lambda n: torch.randint(5, VOCAB, (n,), generator=generator).tolist()
    rows = [([s["cls"], *draw(n - 2), s["sep"]], [0] * n) for n in (3, 9, 17, LENGTH)]
    for first, second in ((4, 6), (11, 1)):
        middle = [s["sep"]] * (2 if roberta else 1)
        ids = [s["cls"], *draw(first), *middle, *draw(second), s["sep"]]
        types = [0] * len(ids) if roberta else [0] * (first + 2) + [1] * (second + 1)
        rows.append((ids, types))
    return rows


def padded(rows, pad):
    """Right-padded ids, mask and types, as a tokenizer's `padding="longest"` makes them."""
    longest = max(len(ids) for ids, _ in rows)
    fill = lambda v, x: v + [x] * (longest - len(v))
    return dict(input_ids=torch.tensor([fill(i, pad) for i, _ in rows]), token_type_ids=torch.tensor([fill(t, 0) for _, t in rows]),
                attention_mask=torch.tensor([fill([1] * len(i), 0) for i, _ in rows]))


def fresh(family, state, overrides=None):
    """A float64 model in evaluation mode with these weights and settings."""
    config = type(family["config"]).from_dict({**family["config"].to_dict(), **(overrides or {})})
    config._attn_implementation = "eager"
    model = family["model"](config)
    model.load_state_dict(state)
    return model.double().eval()


def forward_cases(family, state, heads, rows):
    """The untouched model and what some settings of config.json change."""
    cases = [("plain", {}, None), ("gelu_new", {"hidden_act": "gelu_new"}, None), ("relu", {"hidden_act": "relu"}, None),
             ("silu", {"hidden_act": "silu"}, None), ("eps", {"layer_norm_eps": 1e-2}, None),
             ("heads", {"num_attention_heads": 2}, None), ("regression", {"num_labels": 1}, "regression")]
    batch, out = padded(rows, family["special"]["pad"]), []
    for name, overrides, head in cases:
        model = fresh(family, {**state, **(heads[head] if head else {})}, overrides)
        with torch.no_grad():
            result = model(**batch, output_hidden_states=True)
        case = dict(name=name, config=overrides, head=head, logits=numbers(result.logits))
        if name == "plain":
            case["first_token"] = numbers(result.hidden_states[-1][:, 0])
            case["first_token_by_layer"] = [numbers(h[:, 0]) for h in result.hidden_states]
            alone = torch.cat([model(**padded([row], family["special"]["pad"])).logits for row in rows])
            assert (alone - result.logits).abs().max() < 1e-9, "padding must not matter"
        out.append(case)
    return out


def route(generator, granularity, sizes, rows, passes):
    """`picks[(pass * layers + layer) * 2 + side]`, side 0 = down; a number, or one for each sequence or token."""
    n = {"per-batch": None, "per-example": len(rows), "per-token": sum(len(i) for i, _ in rows)}[granularity]
    def one(experts):
        if experts == 1 or n is None:
            return int(torch.randint(0, experts, (1,), generator=generator))
        return torch.randint(0, experts, (n,), generator=generator).tolist()
    while True:
        picks = [one(sizes[side]) for _ in range(passes) for _ in range(LAYERS) for side in (0, 1)]
        half = LAYERS * 2
        if passes == 1 or all(a != b for i, (a, b) in enumerate(zip(picks[:half], picks[half:])) if sizes[i % 2] > 1):
            return picks  # wherever there is a choice, the two passes took different ones


def spread(pick, granularity, rows):
    """A packed pick as a `[sequences, longest]` index for the padded batch."""
    if isinstance(pick, int):
        return pick
    longest, at, out = max(len(i) for i, _ in rows), 0, []
    for n, (ids, _) in enumerate(rows):
        line = [pick[n]] * len(ids) if granularity == "per-example" else pick[at:at + len(ids)]
        at += len(ids)
        out.append(line + [0] * (longest - len(ids)))
    return torch.tensor(out)


def losses(case, za, zb, targets):
    """(total, task, consistency); the consistency is before its weight."""
    hold = (lambda t: t.detach()) if case["detach"] else (lambda t: t)
    if case["problem"] == "regression":
        task = [F.mse_loss(z.squeeze(-1), targets) for z in (za, zb) if z is not None]
        if zb is not None:
            term = 0.5 * (((za - hold(zb)) ** 2).mean() + ((zb - hold(za)) ** 2).mean())
    else:
        task = [F.cross_entropy(z, targets) for z in (za, zb) if z is not None]
        if zb is not None:
            la, lb = F.log_softmax(za, -1), F.log_softmax(zb, -1)
            term = 0.5 * (F.kl_div(la, hold(lb.exp()), reduction="batchmean") + F.kl_div(lb, hold(la.exp()), reduction="batchmean"))
    first = (task[0] + task[1]) / 2 if case["ce_both_passes"] else task[0]
    if zb is None:
        return first, first, torch.zeros(())
    return first + case["consistency_weight"] * term, first, term


def training_case(family, state, sets, heads, rows, case):
    """Runs one case; returns its json and the gradients."""
    overrides = {"num_labels": 1} if case["problem"] == "regression" else {}
    model = fresh(family, {**state, **(heads[case["head"]] if case["head"] else {})}, overrides)
    full, experts = case["method"] == "full", {}
    for name, p in model.named_parameters():
        p.requires_grad = full or not name.startswith(family["trunk"] + ".")
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if case["experts"]:
        banks = sets[case["experts"]]
        experts = {n: [e.double().requires_grad_() for e in bank] for n, bank in banks.items()}
    picked, batch = case["route"], padded(rows, family["special"]["pad"])
    dense = [layer.output.dense for layer in model.base_model.encoder.layer]

    def forward(number):
        for layer, block in enumerate(model.base_model.encoder.layer):
            if experts:
                at = (number * LAYERS + layer) * 2
                picks = {s: spread(picked[at + i], case["granularity"], rows) for i, s in enumerate(("down", "up"))}
                block.output.dense = Mixture(dense[layer], experts, layer, ACTIVATIONS[case["activation"]], picks)
        return model(**batch).logits

    za = forward(0)
    zb = forward(1) if case["passes"] == 2 else None
    targets = torch.tensor(case["labels"], dtype=torch.float64 if case["problem"] == "regression" else torch.long)
    total, task, term = losses(case, za, zb, targets)
    total.backward()
    grads = {n: p.grad for n, p in trained.items()}
    drawn = {}
    for name, bank in experts.items():
        drawn[name] = [e.grad is not None and bool((e.grad != 0).any()) for e in bank]
        grads[name] = torch.stack([torch.zeros_like(e) if e.grad is None else e.grad for e in bank])
    assert all(g is not None for g in grads.values())
    norm = torch.sqrt(sum((g ** 2).sum() for g in grads.values()))
    out = {**case, "total": numbers(total.item()), "task": numbers(task.item()), "consistency": numbers(term.item()),
           "grad_norm": numbers(norm.item()), "logits": numbers(torch.stack([z for z in (za, zb) if z is not None])), "drawn": drawn}
    return out, {n: g.float().contiguous() for n, g in grads.items()}


def bank_set(generator, down, up):
    """Random experts with biases, large enough to matter."""
    shapes = {"down.weight": (down, R, D), "down.bias": (down, R), "up.weight": (up, D, R), "up.bias": (up, D)}
    return {f"layers.{layer}.ffn.{k}": 0.4 * torch.randn(shape, generator=generator)
            for layer in range(LAYERS) for k, shape in shapes.items()}


def training_cases(family, generator, rows):
    """What is trained, how, and on which targets."""
    base = dict(method="adamix", problem="classification", head=None, experts="shared", activation="gelu", passes=2, granularity="per-batch",
                consistency_weight=LAMBDA, detach=True, ce_both_passes=False, labels=[0, 2, 1, 2, 0, 1])
    one_pass = dict(passes=1, consistency_weight=0.0)
    values = [0.5, 4.75, 2.0, 3.25, 0.0, 5.0]
    cases = [dict(name="shared"), dict(name="unshared", experts="unshared"),
             dict(name="regression", problem="regression", head="regression", labels=values),
             dict(name="single", experts="single", **one_pass),
             dict(name="head-only", method="head-only", experts=None, **one_pass),
             dict(name="full", method="full", experts=None, **one_pass)]
    if family["trunk"] == "bert":
        cases += [dict(name=f"activation-{a}", activation=a, experts="single", **one_pass) for a in ("gelu-tanh", "relu", "swish")]
        cases += [dict(name="undetached", detach=False), dict(name="ce-both", ce_both_passes=True, experts="unshared"),
                  dict(name="regression-undetached", problem="regression", head="regression", labels=values, detach=False),
                  dict(name="per-example", granularity="per-example", experts="unshared"),
                  dict(name="per-token", granularity="per-token", experts="unshared")]
    sizes = {"shared": (M, 1), "unshared": (M, M), "single": (1, 1)}
    for case in cases:
        case = {**base, **case}
        case["route"] = route(generator, case["granularity"], sizes[case["experts"]], rows, case["passes"]) if case["experts"] else None
        yield case


def family_files(name, seed):
    family, generator = FAMILIES[name], torch.Generator().manual_seed(seed)
    folder = HERE / f"{name}-tiny"
    model = family["model"](family["config"])
    randomise(model, generator)
    model.save_pretrained(folder)
    state = model.state_dict()
    outer = {k: v for k, v in state.items() if not k.startswith(family["trunk"] + ".")}
    one = {k: (v[:1] if k.split(".")[-2] in ("classifier", "out_proj") else v).shape for k, v in outer.items()}
    heads = {"regression": {k: 0.4 * torch.randn(shape, generator=generator) for k, shape in one.items()}}
    sets = {"shared": bank_set(generator, M, 1), "unshared": bank_set(generator, M, M), "single": bank_set(generator, 1, 1)}
    rows = inputs(family, generator)
    about = dict(written_by="tests/golden/encoder.py", seed=seed, versions=VERSIONS, precision="float64 from float32 weights")
    listed = [dict(ids=i, type_ids=t) for i, t in rows]
    write_json(folder / "golden.json", dict(**about, inputs=listed, cases=forward_cases(family, state, heads, rows)))
    tensors, cases = {}, []
    for kind, group in (("experts", sets), ("heads", heads)):
        tensors |= {f"{kind}/{s}/{n}": t.contiguous() for s, values in group.items() for n, t in values.items()}
    for case in training_cases(family, generator, rows):
        out, grads = training_case(family, state, sets, heads, rows, case)
        cases.append(out)
        tensors |= {f"grads/{case['name']}/{n}": t for n, t in grads.items()}
    formulas = dict(
        kl="consistency = 0.5 * (KL(p_B || p_A) + KL(p_A || p_B)), sum over classes, mean over the batch; detach: the target (first) distribution of each is a constant",
        squared="consistency = 0.5 * (mean((z_A - z_B)^2) + mean((z_B - z_A)^2)); detach: the second operand of each is a constant, so the gradient is (z_A - z_B) / B on pass A; without: twice that",
        total="task(pass A) + consistency_weight * consistency; ce_both_passes: task is the mean over both passes",
        adapter="h = dense(x); h + up_k(act(down_j(h))); then dropout (off here), residual and LayerNorm",
        drawn="false: this expert took part in nothing that reaches the loss; zeros are stored (PyTorch's gradient is None where the whole batch goes elsewhere)")
    write_json(folder / "adamix.json", dict(**about, hidden=D, adapter_size=R, inputs=listed, formulas=formulas, cases=cases))
    save_file(tensors, folder / "adamix.safetensors", metadata={"written_by": "tests/golden/encoder.py"})
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


def adamw_file(seed):
    """torch.optim.AdamW in float64 with clipping and a linear schedule; experts that were not drawn have no gradient."""
    steps, warm, peak, beta1, beta2, eps, decay, clip = 6, 2, 3e-2, 0.9, 0.98, 1e-8, 0.1, 1.0
    shapes = {"layers.0.ffn.down.weight": (3, 2, 4), "layers.0.ffn.down.bias": (3, 2), "classifier.weight": (2, 4), "classifier.bias": (2,)}
    drawn = [[0, 2], [0], [2], [1, 2], [0, 1], [0]]
    runs = []
    for unselected in (False, True):
        generator = torch.Generator().manual_seed(seed)
        start = {n: torch.randn(s, generator=generator) for n, s in shapes.items()}
        parameters = {n: [e.double().requires_grad_() for e in t] if n.startswith("layers") else [t.double().requires_grad_()] for n, t in start.items()}
        flat = lambda bias: [p for n, ps in parameters.items() if n.endswith("bias") == bias for p in ps]
        optimizer = torch.optim.AdamW([dict(params=flat(False), weight_decay=decay), dict(params=flat(True), weight_decay=0.0)],
                                      lr=peak, betas=(beta1, beta2), eps=eps, foreach=False)
        records, seen = [], set()
        for step in range(steps):
            lr = peak * ((step + 1) / warm if step < warm else (steps - step) / (steps - warm))
            for group in optimizer.param_groups:
                group["lr"] = lr
            seen |= set(drawn[step])
            given = {}
            for name, ps in parameters.items():
                scale = 0.05 if step == 4 else 1.0  # one step is small enough not to be clipped
                given[name] = scale * torch.randn(shapes[name], generator=generator)
                for e, p in enumerate(ps):
                    bank = len(ps) > 1
                    p.grad = (given[name][e] if bank else given[name]).double()
                    if bank and e not in drawn[step]:
                        given[name][e] = 0.0
                        p.grad = torch.zeros_like(p) if unselected and e in seen else None
            norm = torch.nn.utils.clip_grad_norm_(flat(False) + flat(True), clip)
            optimizer.step()
            records.append(dict(step=step, drawn=drawn[step], learning_rate=numbers(lr), grad_norm=numbers(norm.item()),
                                grads={n: numbers(g) for n, g in given.items()},
                                after={n: numbers(torch.stack(ps) if len(ps) > 1 else ps[0]) for n, ps in parameters.items()}))
        runs.append(dict(update_unselected=unselected, start={n: numbers(t) for n, t in start.items()}, steps=records))
    write_json(HERE / "adamw.json", dict(
        written_by="tests/golden/encoder.py", seed=seed, versions=VERSIONS, precision="float64",
        notes="Each expert is a tensor of its own, with its own step count for the bias correction. update_unselected: experts that were drawn "
              "before but not now have a zero gradient and move by momentum and decay (PyTorch before 2.0); experts never drawn so far do not move.",
        total_steps=steps, warmup_steps=warm, learning_rate=peak, beta1=beta1, beta2=beta2, eps=eps, weight_decay=decay,
        weight_decay_on="names that do not end in bias", max_grad_norm=clip, runs=runs))


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    family_files("bert", 11)
    family_files("roberta", 12)
    adamw_file(13)
