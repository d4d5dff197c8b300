#!/usr/bin/env python3
"""Tiny random models of every supported architecture and their logits, written by the Hugging Face implementation in float32.

usage: make_architectures.py OUT_FOLDER          (tests/support/golden/architectures; needs torch, transformers 5, safetensors, gguf)
Each OUT/NAME/ holds config.json and model.safetensors; OUT/golden.json the tokens and logits of several prompts, the longest past any
sliding window. OUT/NAME.gguf is the same model under llama.cpp's names, where those are defined.
Models whose code is not part of transformers are the library's Llama or Mistral with the difference applied here: sparsellama and
minicpm (FATReLU: x where x >= threshold; MiniCPM's scales of embedding, residual stream and logits), bamboo (ReLU of gate and up).
BitNet is computed from plain weights: no quantisation of activations.
SPDX-License-Identifier: Apache-2.0
"""
import json
import math
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers as hf
from safetensors.torch import save_file

VOCAB, LENGTHS = 64, [1, 7, 24]
BASE = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=32, bos_token_id=1, eos_token_id=2, pad_token_id=None)
GEMMA = dict(BASE, head_dim=16, num_hidden_layers=3, sliding_window=6, query_pre_attn_scalar=24)
FALCON = dict(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_hidden_size=48, max_position_embeddings=32,
              alibi=False, bias=False)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)


class Fatrelu(torch.nn.Module):
    def forward(self, x):
        return torch.where(x >= 0.02, x, torch.zeros_like(x))


class DoubleRelu(torch.nn.Module):
    def __init__(self, mlp):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, x):
        return self.down_proj(torch.relu(self.gate_proj(x)) * torch.relu(self.up_proj(x)))


class Scaled(torch.nn.Module):
    def __init__(self, module, factor):
        super().__init__()
        self.module, self.factor = module, factor

    def forward(self, *args, **kwargs):
        out = self.module(*args, **kwargs)
        return (out[0] * self.factor, *out[1:]) if isinstance(out, tuple) else out * self.factor


def fatrelu(model):
    for layer in model.model.layers:
        layer.mlp.act_fn = Fatrelu()


def minicpm(model):
    fatrelu(model)
    scale = 1.4 / math.sqrt(len(model.model.layers))
    for layer in model.model.layers:
        layer.mlp, layer.self_attn = Scaled(layer.mlp, scale), Scaled(layer.self_attn, scale)
    model.model.embed_tokens = Scaled(model.model.embed_tokens, 12.0)
    model.lm_head = Scaled(model.lm_head, 8 / 32)


def bamboo(model):
    for layer in model.model.layers:
        layer.mlp = DoubleRelu(layer.mlp)


def kind(name, architecture, model_type, **fields):
    return dict(architectures=[name], model_type=model_type, **fields)


FATRELU = dict(hidden_act="fatrelu", hidden_act_param=0.02)
# name: configuration, what differs from the library's model, what differs in config.json
MODELS = {
    "llama": (hf.LlamaConfig(**BASE, rope_parameters=LLAMA3), None, {}),
    "relullama": (hf.LlamaConfig(**BASE, hidden_act="relu", attention_bias=True), None, {}),
    "mistral": (hf.MistralConfig(**BASE, sliding_window=6), None, {}),
    "sparsellama": (hf.LlamaConfig(**BASE), fatrelu, kind("SparseLlamaForCausalLM", None, "sparsellama", **FATRELU)),
    "minicpm": (hf.LlamaConfig(**BASE), minicpm,
                kind("MiniCPMForCausalLM", None, "minicpm", **FATRELU, scale_emb=12, scale_depth=1.4, dim_model_base=8)),
    "bamboo": (hf.MistralConfig(**BASE, sliding_window=6), bamboo, kind("BambooForCausalLM", None, "bamboo", hidden_act="relu")),
    "qwen2": (hf.Qwen2Config(**BASE), None, {}),
    "qwen2window": (hf.Qwen2Config(**BASE, use_sliding_window=True, sliding_window=6, max_window_layers=1), None, {}),
    "qwen3": (hf.Qwen3Config(**BASE, head_dim=16), None, {}),
    "gemma": (hf.GemmaConfig(**BASE, head_dim=16), None, {}),
    "gemma2": (hf.Gemma2Config(**GEMMA, attn_logit_softcapping=3.0, final_logit_softcapping=4.0), None, {}),
    "gemma3": (hf.Gemma3TextConfig(**GEMMA, layer_types=["sliding_attention", "sliding_attention", "full_attention"],
                                   rope_parameters={"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100000.0},
                                                    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}), None, {}),
    "phi3": (hf.Phi3Config(**BASE, sliding_window=6), None, {}),
    "arcee": (hf.ArceeConfig(**BASE), None, {}),
    "nemotron": (hf.NemotronConfig(**BASE, head_dim=8, rope_parameters={"rope_type": "default", "rope_theta": 10000.0,
                                                           "partial_rotary_factor": 0.5}), None, {}),
    "bitnet": (hf.BitNetConfig(**BASE), None, {}),
    "opt": (hf.OPTConfig(vocab_size=VOCAB, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
                         max_position_embeddings=32, word_embed_proj_dim=32), None, {}),
    "falcon7b": (hf.FalconConfig(**FALCON), None, {}),
    "falcon40b": (hf.FalconConfig(**FALCON, new_decoder_architecture=True, num_kv_heads=2), None, {}),
    "falconrelu": (hf.FalconConfig(**FALCON, activation="relu", multi_query=False, parallel_attn=False), None, {}),
}


def randomize(model):
    """Weights that make every part matter: rows of about unit gain, norms and biases away from their usual values."""
    generator = torch.Generator().manual_seed(17)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            centre = 0.0 if name.endswith("bias") else float(parameter.mean())
            parameter.data = centre + 0.2 * torch.randn(parameter.shape, generator=generator)
        else:
            # Values of BF16 make files small and change nothing: they are computed in F32.
            values = 1.5 * torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter.shape[1])
            parameter.data = values.to(torch.bfloat16).float()


def stored(model):
    tensors, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen:
            continue  # tied
        seen.add(tensor.data_ptr())
        tensors[name] = tensor.to(torch.bfloat16).contiguous() if tensor.dim() == 2 else tensor.float().contiguous()
    return tensors


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    golden = {"made_with": f"torch {torch.__version__}, transformers {hf.__version__}, float32", "models": {}}
    for name, (config, change, fields) in MODELS.items():
        config._attn_implementation = "eager"
        model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        randomize(model)
        model.tie_weights()
        folder = out / name
        folder.mkdir(exist_ok=True)
        save_file(stored(model), folder / "model.safetensors", {"format": "pt"})
        described = json.loads(config.to_json_string(use_diff=False))
        described = {key: value for key, value in described.items() if value is not None and not key.startswith("_")}
        described |= {"architectures": [type(model).__name__]} | fields
        (folder / "config.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
        if change:
            change(model)
        cases = []
        for i, length in enumerate(LENGTHS):
            tokens = np.random.default_rng(i).integers(3, VOCAB, length).tolist()
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0]
            # The last position's, and all along the longest prompt a checksum of each.
            cases.append({"tokens": tokens, "logits": [[float(f"{v:.7g}") for v in row] for row in logits[-2:].tolist()]})
        golden["models"][name] = cases
        print(name, [round(max(map(abs, c["logits"][-1])), 2) for c in cases])
    (out / "golden.json").write_text(json.dumps(golden) + "\n")


main()
