#!/usr/bin/env python3
"""Makes the tokenizer goldens and fixtures under tokenizer/, from libraries that are not ours.

usage: make_tokenizer_golden.py SMOLLM2_GGUF    (needs sentencepiece, protobuf, tokenizers, gguf)
SPDX-License-Identifier: Apache-2.0

golden.json holds texts and, for each tokenizer, the ids of every text: `plain` with special tokens read as
plain text, `special` with them parsed (where the library can). Nothing adds a BOS, except in `bos`. A null
stands for a text with a byte that the vocabulary lacks: the libraries drop it, we refuse the text.
Training is deterministic for one version of a library; another version may make other fixtures, so that
fixtures and golden are always made together.
"""
import io
import json
import random
import sys
from importlib.metadata import version
from pathlib import Path

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
OUT = HERE / "tokenizer"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")

MULTILINGUAL = [
    "Příliš žluťoučký kůň úpěl ďábelské ódy; Straße, façade, naïve, smörgåsbord, İstanbul'da ığdır.",
    "Ελληνικά: η γρήγορη αλεπού πηδάει πάνω από τον τεμπέλη σκύλο.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "اللغة العربية: نصٌّ حكيمٌ له سرٌّ قاطعٌ وذو شأنٍ عظيم.",
    "דג סקרן שט בים מאוכזב ולפתע מצא לו חברה, שלום עולם.",
    "हिन्दी: ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश।",
    "ภาษาไทย: เป็นมนุษย์สุดประเสริฐเลิศคุณค่า ๑๒๓",
    "中文：敏捷的棕色狐狸跳过了懒狗。天地玄黄，宇宙洪荒。",
    "日本語：いろはにほへと ちりぬるを、カタカナもある。",
    "한국어: 다람쥐 헌 쳇바퀴에 타고파.",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪 ☕️ 😀😀😀",
]


def texts():
    valid = (ROOT / "models/demo/valid.txt").read_text()
    result = ["", " ", "  ", "a", "Hello, world!", " leading", "trailing ", "  two  spaces  ", "\n", "\r\n", "\t"]
    result += MULTILINGUAL
    result += [
        "def f(x):\n\tif x > 0:\n\t\treturn x * 2\n    else:\n        return -x  # comment\n",
        "int main() {\r\n  std::cout << \"hi\\n\";\r\n}\r\n",
        " " * 57 + "x" + " " * 130,
        "\n" * 41, "a\n\n\n b\n \n  \n\tc", " \n \n ", "\r\n\r\n\r\n", "x \r\n y\r z",
        "0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 ٣٤٥ ५६ ²³ Ⅷ ½ 10th",
        "I'm you're he's we've they'll I'd can't 'tis 'S 'LL 'Re I'LL SHE'D WE'VE DON'T 'ſ o'clock ''s",
        "\0", "a\0b\0\0", "\x01\x02\x03\x05\x07\x08\x0b\x0c\x0e\x1b\x7f\x85", "\x04\x06\x13\x14\x16\x1d",
        "\u00a0\u1680\u2000\u2003\u2028\u2029\u202f\u205f\u3000\u200b\u180e\ufeff x",
        "\ufffd", "a\ufffd\ufffdb", "\U0010ffff\U000f0000\ue000\ufdd0",
        "e\u0301 a\u0308\u0323 \u0323\u0308 क\u094d\u0937 \u1100\u1161\u11a8 ﬁ Å \u212b \u0344 q\u0307\u0323",
        "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e\u0320\u034d",
        "<s>", "<s>hello</s>", "a <unk> b <0x41> <s> c", "<|endoftext|>", "<|im_start|>user\nhi<|im_end|>\n",
        "<|begin_of_text|>x<|eot_id|><|eot_id|> y <|end_of_text|>", "<|im_start", "<|im_start|", "<<|im_end|>>",
        "left   <tool>   right", "left \n <pad>\t\n right", "usertokusertok user tok xusertokx", "<longer><longer>>",
        "hello world", "hello  world<sep>hello world<sep> x", "  <sep>  ",
        "!!!???...---===***___", "http://example.org/a?b=c&d=%20#e", "x=1;y=2;z=x+y", "\\n\\t\\\\ \"quoted\" `code`",
        "ignored unignored  ignored", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "abababababababababababababababababab", "The the THE tHe", "MiXeD cAsE wOrDs", "ǅ ǈ ʰ ª º ᾳ ẞ",
        valid[:3000], valid[100000:101500].replace("\n", "\r\n"),
    ]
    source = random.Random(20)
    pool = [c for line in MULTILINGUAL for c in line] + list(" \n\t'019.,<>|sS") + ["  ", "\r\n", "'s", "\u0301"]
    result += ["".join(source.choice(pool) for _ in range(120)) for _ in range(12)]
    return result


def encode_all(tokenizer, all_texts, missing=frozenset()):
    def ids(text):
        if missing & set(text.encode()):
            return None
        return tokenizer.encode(text, add_special_tokens=False).ids

    tokenizer.encode_special_tokens = True
    plain = [ids(text) for text in all_texts]
    tokenizer.encode_special_tokens = False
    return {"plain": plain, "special": [ids(text) for text in all_texts]}


def byte_alphabet():
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in kept]
    return {**{b: chr(b) for b in kept}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def corpus(languages=MULTILINGUAL):
    return (ROOT / "models/demo/valid.txt").read_text().splitlines(keepends=True)[:1200] + languages * 20


def train_byte_level(pattern, size, extra=()):
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trained.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    model = json.loads(trained.to_str())["model"]
    for token in extra:
        model["vocab"].setdefault(token, len(model["vocab"]))
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    return model["vocab"], merges, trained.pre_tokenizer


def llama3(size):
    # Tokens that no merge leads to: only ignore_merges finds them.
    vocab, merges, pre_tokenizer = train_byte_level(LLAMA3, size, extra=["Ġignored", "ĠMiXeD", "ababab" * 6])
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_special_tokens([AddedToken(n, normalized=False, special=True) for n in names])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{names[0]} $A", pair=f"{names[0]} $A {names[0]}:1 $B:1",
                                      special_tokens=[(names[0], tokenizer.token_to_id(names[0]))])])
    return tokenizer


def qwen2(size):
    vocab, merges, pre_tokenizer = train_byte_level(QWEN2, size)
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken(n, normalized=False, special=True)
                                  for n in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]])
    tokenizer.add_special_tokens([AddedToken("<tool>", lstrip=True, normalized=False, special=True),
                                  AddedToken("<pad>", rstrip=True, normalized=False, special=True)])
    tokenizer.add_tokens([AddedToken("usertok", normalized=False, special=False),
                          AddedToken("<longer>", normalized=False, special=False),
                          AddedToken("<longer>>", normalized=False, special=False)])
    return tokenizer


def sentencepiece_form(size):
    """A BPE with byte fallback as Llama 2's tokenizer.json holds it, in both ways to put the first space."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    # Scripts that the training never sees are what byte fallback is for.
    trained.train_from_iterator(corpus(MULTILINGUAL[:3]), trainers.BpeTrainer(vocab_size=size, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    vocab = {text: i for i, text in enumerate(names + sorted(model["vocab"], key=model["vocab"].get))}
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]

    def build():
        tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        tokenizer.add_special_tokens([AddedToken(n, normalized=False, special=True) for n in names[:3]])
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                                 special_tokens=[("<s>", 1)])
        return tokenizer

    prepend = build()
    prepend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    prepend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                         decoders.Strip(" ", 1, 0)])
    first = build()
    first.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    first.decoder = prepend.decoder
    return prepend, first


def pairs_as_text(document):
    """Merges in the older form "a b"."""
    document["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in document["model"]["merges"]]
    return document


def sentencepiece_extras():
    """A model with what the demo model lacks: user-defined and control symbols, unused pieces, trimmed spaces."""
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line.strip() for line in corpus() if line.strip()]), model_writer=stream, model_type="bpe",
        vocab_size=900, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=True,
        character_coverage=0.98, user_defined_symbols=["<sep>", "hello▁world", "lo w", "1"], control_symbols=["<ctl>"],
        num_threads=1, minloglevel=2)
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(stream.getvalue())
    normal = [p for p in proto.pieces if p.type == p.NORMAL and len(p.piece) > 2]
    for piece in normal[::7]:
        piece.type = piece.UNUSED
    return proto.SerializeToString()


def sentencepiece_golden(serialized, all_texts):
    processor = sentencepiece.SentencePieceProcessor(model_proto=serialized)
    return {"plain": [processor.encode(text) for text in all_texts],
            "decoded": [processor.decode(processor.encode(text)) for text in all_texts]}


def smollm2(path):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    types = fields["tokenizer.ggml.token_type"].contents()
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True)
                                  for text, kind in zip(tokens, types) if kind == gguf.TokenType.CONTROL])
    return tokenizer, {b for b, c in byte_alphabet().items() if c not in set(tokens)}


def main():
    OUT.mkdir(exist_ok=True)
    all_texts = texts()
    expected = {"demo": sentencepiece_golden((ROOT / "models/demo/tokenizer.model").read_bytes(), all_texts)}
    extras = sentencepiece_extras()
    (OUT / "extras").mkdir(exist_ok=True)
    (OUT / "extras/tokenizer.model").write_bytes(extras)
    expected["extras"] = sentencepiece_golden(extras, all_texts)
    prepend, first = sentencepiece_form(1000)
    for name, tokenizer in {"llama3": llama3(1300), "qwen2": qwen2(1100), "prepend": prepend, "first": first}.items():
        expected[name] = encode_all(tokenizer, all_texts)
        expected[name]["bos"] = tokenizer.encode("Hello").ids
        document = json.loads(tokenizer.to_str())
        if name in ("qwen2", "prepend"):
            document = pairs_as_text(document)
        (OUT / name).mkdir(exist_ok=True)
        (OUT / name / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
    tokenizer, missing = smollm2(sys.argv[1])
    expected["smollm2"] = encode_all(tokenizer, all_texts, missing)
    versions = {name: version(name) for name in ("sentencepiece", "protobuf", "tokenizers", "gguf")}
    golden = {"made_by": "make_tokenizer_golden.py", "versions": versions, "texts": all_texts, "expected": expected}
    (OUT / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
