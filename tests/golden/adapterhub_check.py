"""Checks exported AdapterHub directories against the `adapters` library, and writes the golden ones.

    python tests/golden/adapterhub_check.py --export DIR --model DIR --probe probe.json
    python tests/golden/adapterhub_check.py --write          # needs what encoder.py wrote

Needs torch, safetensors, adapters 1.2 or 1.3 and the transformers they ask for (4.57 for 1.3.0).

The first form loads the base model and the export, once into the model class with its own head (unless the
export says it needs a flexible one) and once into the library's class with flexible heads, and compares the logits with those of the probe file, as the engine computed them:
`{"inputs": [{"ids": [..], "type_ids": [..]}, ..], "logits": [[..], ..]}`. Nothing may be missing from the export and
nothing in it may be left over (the library itself keeps silent about both). Exit code 1 and a sentence when not.

The second form lets the library itself save the adapters `experts/single` of {bert,roberta}-tiny to adapterhub/{bert,roberta},
after checking their logits against the case `single` of adamix.json. The exporter must write the same files.
"""
import argparse
import json
import os
import sys
from pathlib import Path

import adapters
import torch
from adapters import AutoAdapterModel, BnConfig
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification

HERE = Path(__file__).parent
ENDS = {"down.weight": "adapter_down.0.weight", "down.bias": "adapter_down.0.bias",
        "up.weight": "adapter_up.weight", "up.bias": "adapter_up.bias"}


def logits_of(model, inputs):
    """Row by row, so that padding plays no part."""
    rows = [dict(input_ids=torch.tensor([row["ids"]]), token_type_ids=torch.tensor([row["type_ids"]])) for row in inputs]
    with torch.no_grad():
        return torch.cat([model.eval()(**row).logits for row in rows])


def worst(what, logits, wanted, tolerance):
    wanted = torch.tensor(wanted)
    if logits.shape != wanted.shape:
        sys.exit(f"{what}: logits of shape {list(logits.shape)} instead of {list(wanted.shape)}")
    delta = (logits - wanted).abs().max().item()
    print(f"{what}: largest difference of a logit {delta:.2e}")
    if not delta <= tolerance:
        sys.exit(f"{what}: a logit differs by {delta:.3e}, more than {tolerance:.1e}")


def names(export):
    found = set()
    for file in ("adapter.safetensors", "model_head.safetensors"):
        with safe_open(export / file, "pt") as tensors:
            found |= set(tensors.keys())
    return found


def load(model, export):
    """Loads adapter and head; every tensor of the files must end up in the model, and none of the model's may be missing."""
    info = {}
    name = model.load_adapter(str(export), use_safetensors=True, set_active=True, loading_info=info)
    missing = info.get("missing_keys", [])
    if missing:
        sys.exit(f"{type(model).__name__}: the export lacks {missing}")
    return name


def complete(model, name, export):
    """The export has exactly the tensors of this adapter and of the head: what is not loaded keeps its random start."""
    head = f"heads.{name}." if hasattr(model, "heads") else ""  # a flexible class may have others, of the base model's files
    here = {n for n, _ in model.named_parameters()
            if f".adapters.{name}." in n or (n.startswith(head) and not n.startswith(model.base_model_prefix + "."))}
    if here != names(export):
        sys.exit(f"tensors differ: only in the model {sorted(here - names(export))}, only in the export {sorted(names(export) - here)}")


def check(export, model_dir, probe, tolerance):
    config = json.loads((export / "head_config.json").read_text())
    flexible_only = config["model_class"].endswith("AdapterModel")
    if not flexible_only:
        model = AutoModelForSequenceClassification.from_pretrained(model_dir, num_labels=config["num_labels"], ignore_mismatched_sizes=True)
        for parameter_name, parameter in model.named_parameters():
            if not parameter_name.startswith(model.base_model_prefix + "."):
                torch.nn.init.constant_(parameter, float("nan"))  # the head must come from the export
        adapters.init(model)
        complete(model, load(model, export), export)
        worst(type(model).__name__, logits_of(model, probe["inputs"]), probe["logits"], tolerance)
    model = AutoAdapterModel.from_pretrained(model_dir)
    name = load(model, export)
    if flexible_only:
        complete(model, name, export)
    worst(type(model).__name__, logits_of(model, probe["inputs"]), probe["logits"], tolerance)


def write():
    os.chdir(HERE)  # the files name the model as it was given: not by this machine's path
    for family in ("bert", "roberta"):
        folder = Path(f"{family}-tiny")
        golden = json.loads((folder / "adamix.json").read_text())
        case = next(c for c in golden["cases"] if c["name"] == "single")
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        adapters.init(model)
        config = BnConfig(mh_adapter=False, output_adapter=True, reduction_factor=golden["hidden"] // golden["adapter_size"],
                          non_linearity="gelu", original_ln_before=False, original_ln_after=True)
        model.add_adapter("adamix", config=config, set_active=True)
        state = model.state_dict()
        with safe_open(folder / "adamix.safetensors", "pt") as tensors:
            for key in tensors.keys():
                if key.startswith("experts/single/layers."):
                    layer, end = key.removeprefix("experts/single/layers.").split(".ffn.")
                    state[f"{family}.encoder.layer.{layer}.output.adapters.adamix.{ENDS[end]}"].copy_(tensors.get_tensor(key)[0])
        worst(f"{family}-tiny", logits_of(model, golden["inputs"]), case["logits"][0], 1e-5)
        target = Path("adapterhub") / family
        target.parent.mkdir(exist_ok=True)
        model.save_adapter(str(target), "adamix", use_safetensors=True, with_head=True)
        for file in target.iterdir():
            file.chmod(0o644)
        check(target, folder, dict(inputs=golden["inputs"], logits=case["logits"][0]), 1e-5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="see the top of the file")
    parser.add_argument("--export", type=Path, help="the exported directory")
    parser.add_argument("--model", type=Path, help="the base model's directory")
    parser.add_argument("--probe", type=Path, help="inputs and the engine's logits")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference of a logit")
    parser.add_argument("--write", action="store_true", help="write the golden directories")
    given = parser.parse_args()
    if given.write:
        write()
    elif given.export and given.model and given.probe:
        check(given.export, given.model, json.loads(given.probe.read_text()), given.tolerance)
    else:
        parser.error("give --write, or --export, --model and --probe")
