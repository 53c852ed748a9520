"""Golden encodings for tokenizers out of GGUF metadata: `python tests/golden/gguf_tokenizers.py` in the repository root.

Byte-level BPE: the tiny vocabulary of tests/golden/tokenizer/roberta under every way to cut words, encoded here by plain
loops over the published regular expressions and, where that library has the same parts, by `tokenizers` as well.
SentencePiece: a tiny vocabulary with scores, encoded here by joining the best scored pair of neighbours again and again.
Both are written to tests/golden/gguf_tokenizers.json, the vocabulary of the second kind with them.

`python tests/golden/gguf_tokenizers.py real MODEL.gguf ADAMIX` compares the program ADAMIX with the same loops on the
vocabulary of a real model (byte-level) and some hundred sentences; it writes nothing.
"""
import collections, json, pathlib, subprocess, sys, tempfile
import regex
import tokenizers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, Regex

TEXTS = [
    "The film is good, isn't it?", "DON'T can't we'LL I'M they'Re", "1234567 and 12 and 3.5e-7, ½ ² Ⅳ ٣٤٥", "  two  spaces   three ",
    "line\nbreak\n\n\nmany \n mixed\r\nends\t tabs", "Größe, naïve café — déjà vu!", "emoji 🙂👍🏽 and 日本語 with Kanji, Ελληνικά, русский",
    "code: if (a<=b) { return x_1 + y^2; } // $5 ~ |z|", "<s> written out </s> and <mask>", " ", "\n", "", "a", "e\u0301 combining e\u0301t\u0301",
    "mixedCASE WORDS ALLCAPS", "...!!!???", "x" * 40, "tab\tafter", "trailing space ", "\u00a0no-break\u00a0space\u2003em", "0", "a1b2c3",
    "'s 's't", "new\n  indent\n    more", "https://example.org/a?b=c&d=%20e",
]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASELESS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|"
KINDS = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [CASELESS + r"\p{N}{1,3}" + TAIL],
    "qwen2": [CASELESS + r"\p{N}" + TAIL],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
}


def alphabet():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


BYTES = alphabet()


def cut(text, patterns):
    """Every match and everything between two matches is a word, pattern after pattern."""
    words = [text]
    for pattern in patterns:
        next_words = []
        for word in words:
            at = 0
            for match in regex.finditer(pattern, word):
                if match.start() > at:
                    next_words.append(word[at : match.start()])
                if match.end() > match.start():
                    next_words.append(match.group())
                at = match.end()
            if at < len(word):
                next_words.append(word[at:])
        words = next_words
    return words


def split_specials(text, specials):
    if not specials:
        return [text] if text else []
    pattern = "(" + "|".join(regex.escape(token) for token in sorted(specials, key=len, reverse=True)) + ")"
    return [piece for piece in regex.split(pattern, text) if piece]


def byte_level(text, vocab, merges, specials, kind):
    if kind == "qwen2":
        import unicodedata

        normalise = lambda piece: unicodedata.normalize("NFC", piece)
    else:
        normalise = lambda piece: piece
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    ids = []
    for piece in split_specials(text, specials):
        if piece in specials:
            ids.append(vocab[piece])
            continue
        for word in cut(normalise(piece), KINDS[kind]):
            parts = [BYTES[byte] for byte in word.encode("utf-8")]
            if kind == "llama-bpe" and "".join(parts) in vocab:
                ids.append(vocab["".join(parts)])
                continue
            while len(parts) > 1:
                best = min(range(len(parts) - 1), key=lambda i: (ranks.get((parts[i], parts[i + 1]), len(merges)), i))
                if (parts[best], parts[best + 1]) not in ranks:
                    break
                parts[best : best + 2] = [parts[best] + parts[best + 1]]
            ids.extend(vocab[part] for part in parts)
    return ids


def library(vocab, merges, specials, kind):
    """The same tokenizer out of the parts of `tokenizers`, where they exist."""
    split = lambda pattern: pre_tokenizers.Split(Regex(pattern), "isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    steps = {
        "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)],
        "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)],
    }.get(kind, [split(pattern) for pattern in KINDS[kind]] + [byte])
    tokenizer = Tokenizer(models.BPE(vocab=dict(vocab), merges=list(merges), ignore_merges=kind == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(list(specials))
    return tokenizer


def checked(texts, vocab, merges, specials, kind):
    tokenizer = library(vocab, merges, specials, kind)
    encoded = []
    for text in texts:
        ids = byte_level(text, vocab, merges, specials, kind)
        assert ids == tokenizer.encode(text, add_special_tokens=False).ids, (kind, text)
        encoded.append(ids)
    return encoded


def sentence_piece(text, vocab, scores, specials, prefix):
    normal = {token for token in vocab if token not in specials and not regex.fullmatch("<0x[0-9A-F]{2}>", token)}
    ids = []
    for piece in split_specials(text, specials):
        if piece in specials:
            ids.append(vocab[piece])
            continue
        parts = list((" " + piece if prefix else piece).replace(" ", "\u2581"))
        while len(parts) > 1:
            joined = [(scores[vocab[a + b]], -i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in normal]
            if not joined:
                break
            at = -max(joined)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        for part in parts:
            ids.extend([vocab[part]] if part in normal else [vocab[f"<0x{byte:02X}>"] for byte in part.encode("utf-8")])
    return ids


def sentence_piece_vocabulary():
    lab = [line.split("\t")[0] for line in open("assets/lab/dev.tsv", encoding="utf-8").read().split("\n")[1:] if line]
    counts = collections.Counter()
    for sentence in lab:
        for word in sentence.split():
            word = "\u2581" + word
            for size in range(1, 7):
                counts.update(word[i : i + size] for i in range(len(word) - size + 1))
    single = [c for c, _ in counts.most_common() if len(c) == 1]
    longer = sorted((c for c in counts if len(c) > 1), key=lambda c: (-counts[c] * (len(c) - 1), c))[:320]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + longer + single
    types = [2, 3, 3] + [6] * 256 + [1] * (len(longer) + len(single))
    scores = [0.0] * 259 + [-float(i) for i in range(len(longer) + len(single))]
    return tokens, scores, types


def write_golden():
    folder = pathlib.Path("tests/golden/tokenizer/roberta")
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")[1:]
    merges = [tuple(line.split(" ")) for line in lines if line]
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    lab = [line.split("\t")[0] for line in open("assets/lab/dev.tsv", encoding="utf-8").read().split("\n")[1:] if line]
    texts = TEXTS + lab[:20]
    golden = {"versions": {"tokenizers": tokenizers.__version__, "regex": regex.__version__}, "texts": texts}
    golden["byte_level"] = {kind: checked(texts, vocab, merges, specials, kind) for kind in KINDS}
    tokens, scores, types = sentence_piece_vocabulary()
    vocab = {token: i for i, token in enumerate(tokens)}
    golden["sentence_piece"] = {
        "tokens": tokens, "scores": scores, "types": types,
        "prefix": [sentence_piece(text, vocab, scores, tokens[:3], True) for text in texts],
        "no_prefix": [sentence_piece(text, vocab, scores, tokens[:3], False) for text in texts],
    }
    path = pathlib.Path("tests/golden/gguf_tokenizers.json")
    path.write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")


def compare_real(model, program):
    import gguf

    fields = gguf.GGUFReader(model).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    kind = fields["tokenizer.ggml.pre"].contents()
    merges = [tuple(line.split(" ")) for line in fields["tokenizer.ggml.merges"].contents()]
    vocab = {token: i for i, token in enumerate(tokens)}
    specials = [token for token, type in zip(tokens, types) if type in (3, 4)]
    lab = [line.split("\t")[0] for line in open("assets/lab/train.tsv", encoding="utf-8").read().split("\n")[1:] if line]
    texts = [text for text in TEXTS if text.strip()] + lab[:300] + [a + "\n" + b for a, b in zip(lab[300:400], lab[400:500])]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "texts.jsonl"
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        command = [program, "data", "--text", str(file), "--dev-file", str(file), "--model", model, "--max-length", "4096", "--rows", str(len(texts)), "--json"]
        preview = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    expected = checked(texts, vocab, merges, specials, kind)
    found = [[token["id"] for token in sample["tokens"]] for sample in preview["train"]["sample"]]
    eos = fields["tokenizer.ggml.eos_token_id"].contents()
    assert len(found) == len(texts)
    for text, ours, theirs in zip(texts, found, expected):
        assert ours == theirs + [eos], (text, ours, theirs)
    print(f"{len(texts)} texts, {sum(map(len, expected))} tokens: equal")


if len(sys.argv) > 1:
    compare_real(sys.argv[2], sys.argv[3])
else:
    write_golden()
