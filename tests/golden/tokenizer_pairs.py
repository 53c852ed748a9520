"""Golden encodings from transformers: `python tests/golden/tokenizer_pairs.py` in the repository root.

Trains two tiny vocabularies on the lab's sentences, writes them as BERT's and RoBERTa's own files to
tests/golden/tokenizer, and encodes the lab's sentences and some awkward texts, alone and in pairs, with transformers.
"""
import json, pathlib
import tokenizers, transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

out = pathlib.Path("tests/golden/tokenizer")
lab = [line.split("\t")[0] for line in open("assets/lab/dev.tsv", encoding="utf-8").read().split("\n")[1:] if line]
awkward = [
    "Größe, naïve café — déjà vu!", "emoji 🙂 and 日本語 with Kanji", "tabs\tand  double  spaces ", " leading and trailing ",
    "[SEP] written [MASK] out <mask> </s>", "UPPER lower MiXeD", "don't can't it's we'll", "1,234.56 + 7e-3 = ?",
    "control\u0007character\u200bzero width", "x" * 130, "!!!???...", "a",
]

piece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
piece.normalizer, piece.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
piece.train_from_iterator(lab, trainers.WordPieceTrainer(vocab_size=400, limit_alphabet=60, special_tokens=special, show_progress=False))
bert_dir = out / "bert"
bert_dir.mkdir(parents=True, exist_ok=True)
vocab = sorted(piece.get_vocab().items(), key=lambda item: item[1])
(bert_dir / "vocab.txt").write_text("".join(token + "\n" for token, _ in vocab), encoding="utf-8")

bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
bpe.train_from_iterator(lab, trainers.BpeTrainer(
    vocab_size=460, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
roberta_dir = out / "roberta"
roberta_dir.mkdir(parents=True, exist_ok=True)
bpe.model.save(str(roberta_dir))

loaded = {
    "bert": transformers.BertTokenizer.from_pretrained(bert_dir),
    "bert_cased": transformers.BertTokenizer.from_pretrained(bert_dir, do_lower_case=False),
    "roberta": transformers.RobertaTokenizer.from_pretrained(roberta_dir),
}
texts = awkward + lab[:20]
cases = [(text, None) for text in texts] + [(a, texts[(7 * i + 3) % len(texts)]) for i, a in enumerate(texts)]
golden = {"versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}, "cases": []}
for number, (text, pair) in enumerate(cases):
    length = [128, 24, 13, 8][number % 4]
    case = {"text": text, "pair": pair, "max_length": length}
    for name, tokenizer in loaded.items():
        encoded = tokenizer(text, pair, truncation=True, max_length=length, return_token_type_ids=True)
        case[name] = {"ids": encoded["input_ids"], "type_ids": encoded["token_type_ids"]}
    golden["cases"].append(case)
(out / "pairs.json").write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")
