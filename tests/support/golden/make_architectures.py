#!/usr/bin/env python3
"""Tiny random models of every supported architecture and their logits, written by the Hugging Face implementation in float32.

usage: make_architectures.py OUT_FOLDER          (tests/support/golden/architectures; needs torch, transformers 5, safetensors, gguf)
Each OUT/NAME/ holds config.json and model.safetensors; OUT/golden.json the tokens and logits of several prompts, the longest past any
sliding window; OUT/activity.json for how many tokens of the longest each neuron was active. OUT/NAME.gguf is the same model under llama.cpp's names, where those are defined.
Models whose code is not part of transformers are the library's Llama or Mistral with the difference applied here: sparsellama and
minicpm (FATReLU: x where x >= threshold; MiniCPM's scales of embedding, residual stream and logits), bamboo (ReLU of gate and up).
BitNet is computed from plain weights: no quantisation of activations; ternary weights are rounded and packed by the library.
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
from transformers.integrations import bitnet

VOCAB, LENGTHS = 48, [1, 7, 24]
BASE = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=32, bos_token_id=1, eos_token_id=2, pad_token_id=None)
GEMMA = dict(BASE, head_dim=16, num_hidden_layers=3, sliding_window=6, query_pre_attn_scalar=24)
FALCON = dict(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_hidden_size=24, max_position_embeddings=32,
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


def kind(name, model_type, **fields):
    return dict(architectures=[name], model_type=model_type, **fields)


BITNET = dict(quant_method="bitnet", linear_class="autobitlinear", use_rms_norm=False)
FATRELU = dict(hidden_act="fatrelu", hidden_act_param=0.02)
# name: configuration, what differs from the library's model, what differs in config.json
MODELS = {
    "llama": (hf.LlamaConfig(**BASE, rope_parameters=LLAMA3), None, {}),
    "relullama": (hf.LlamaConfig(**BASE, hidden_act="relu", attention_bias=True), None, {}),
    "mistral": (hf.MistralConfig(**BASE, sliding_window=6), None, {}),
    "sparsellama": (hf.LlamaConfig(**BASE), fatrelu, kind("SparseLlamaForCausalLM", "sparsellama", **FATRELU)),
    "minicpm": (hf.LlamaConfig(**BASE), minicpm,
                kind("MiniCPMForCausalLM", "minicpm", **FATRELU, scale_emb=12, scale_depth=1.4, dim_model_base=8)),
    "bamboo": (hf.MistralConfig(**BASE, sliding_window=6), bamboo, kind("BambooForCausalLM", "bamboo", hidden_act="relu")),
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
    "bitnetpacked": (hf.BitNetConfig(**BASE), None, {"quantization_config": BITNET | {"quantization_mode": "offline"}}),
    "bitnetmaster": (hf.BitNetConfig(**BASE), None, {"quantization_config": BITNET | {"quantization_mode": "online"}}),
    "opt": (hf.OPTConfig(vocab_size=VOCAB, hidden_size=32, ffn_dim=24, num_hidden_layers=2, num_attention_heads=4,
                         max_position_embeddings=32, word_embed_proj_dim=32), None, {}),
    "falcon7b": (hf.FalconConfig(**FALCON), None, {}),
    "falcon40b": (hf.FalconConfig(**FALCON, new_decoder_architecture=True, num_kv_heads=2), None, {}),
    "falconrelu": (hf.FalconConfig(**FALCON, activation="relu", multi_query=False, parallel_attn=False), None, {}),
}


# In GGUF: the architecture, and what differs between the models of one.
GGUF = {"llama": "llama", "minicpm": "minicpm", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2", "gemma3": "gemma3", "phi3": "phi3",
        "arcee": "arcee", "nemotron": "nemotron", "falcon7b": "falcon", "falcon40b": "falcon"}


def interleaved(rows, heads):
    """Rows of rotated heads, pairs (i, i + d/2) brought side by side."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def ungrouped(rows, config):
    kv = 1 if not config.new_decoder_architecture and config.multi_query else config.num_kv_heads
    heads, d = config.num_attention_heads // kv, config.hidden_size // config.num_attention_heads
    groups = rows.reshape(kv, heads + 2, d, -1)
    parts = groups[:, :heads], groups[:, heads], groups[:, heads + 1]
    return np.concatenate([part.reshape(-1, rows.shape[1]) for part in parts])


def llama3_divisors(config):
    rope, d = config.rope_parameters, config.hidden_size // config.num_attention_heads
    wavelengths = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, d, 2) / d)
    ratio = rope["original_max_position_embeddings"] / wavelengths
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = np.clip((ratio - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)


def write_gguf(path, architecture, model, fields):
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    kv = getattr(config, "num_key_value_heads", None)
    d_head = getattr(config, "head_dim", None) or config.hidden_size // heads
    if architecture == "falcon":
        kv = config.num_kv_heads if config.new_decoder_architecture else 1
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", None) or config.ffn_hidden_size)
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_key_length(d_head)
    writer.add_value_length(d_head)
    if architecture in ("falcon", "nemotron"):
        writer.add_layer_norm_eps(getattr(config, "norm_eps", None) or config.layer_norm_epsilon)
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters or {}
    full = rope.get("full_attention", rope)
    writer.add_rope_freq_base(full.get("rope_theta", 10000.0))
    writer.add_rope_dimension_count(int(d_head * full.get("partial_rotary_factor", 1.0)))
    if full.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(full["factor"])
    if architecture in ("gemma2", "gemma3", "phi3"):
        writer.add_sliding_window(config.sliding_window)
    if architecture in ("gemma2", "gemma3"):
        writer.add_attention_scale(config.query_pre_attn_scalar ** -0.5)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if architecture == "gemma3":
        writer.add_sliding_window_pattern(3)
    if architecture == "minicpm":
        writer.add_embedding_scale(fields["scale_emb"])
        writer.add_residual_scale(fields["scale_depth"] / math.sqrt(layers))
        writer.add_logit_scale(config.hidden_size / fields["dim_model_base"])
        writer.add_string("thermocline.activation", "fatrelu")
        writer.add_float32("thermocline.activation_threshold", fields["hidden_act_param"])
    names = gguf.get_tensor_name_map(next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture), layers)
    for name, tensor in stored(model).items():
        data = tensor.float().numpy()
        if architecture in ("llama", "minicpm", "arcee") and (".q_proj" in name or ".k_proj" in name):
            data = interleaved(data, heads if ".q_proj" in name else kv)
        if architecture in ("gemma2", "gemma3", "nemotron") and name.endswith("norm.weight"):
            data = data + 1
        if "query_key_value" in name:
            data = ungrouped(data, config)
        kind = gguf.GGMLQuantizationType.BF16 if data.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), gguf.quants.quantize(np.ascontiguousarray(data), kind), raw_dtype=kind)
    if full.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


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


def ternary(model):
    """Rounds the layers' matrices, and returns what a packed file holds."""
    tensors = stored(model)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "layers." in name:
            rounded = bitnet.WeightQuant.apply(parameter.data)
            scale = rounded.abs().max().to(torch.bfloat16)
            signs = torch.sign(rounded)
            parameter.data = signs * scale.float()
            tensors[name], tensors[name + "_scale"] = bitnet.pack_weights(signs.clone()), scale.reshape(1)
    return tensors


def stored(model):
    tensors, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen:
            continue  # tied
        seen.add(tensor.data_ptr())
        tensors[name] = tensor.to(torch.bfloat16).contiguous() if tensor.dim() == 2 else tensor.float().contiguous()
    return tensors


ABOVE = 0.1  # magnitude above which neurons of SiLU and GELU count as active: they have no true zeros
FIRST_PRODUCTS = ("gate_proj", "gate_up_proj", "fc1", "dense_h_to_4h", "up_proj")  # gated, fused, OPT, Falcon, other ungated


def active_counts(name, model, config, tokens):
    """For how many of the tokens each neuron of each layer is active: its activation, before it meets the up product, is not zero."""
    suffix = next(s for s in FIRST_PRODUCTS if any(n.endswith("." + s) for n, _ in model.named_modules()))
    products, counts = [], []
    hooks = [module.register_forward_hook(lambda _module, _inputs, output: products.append(output.reshape(-1, output.shape[-1])))
             for n, module in model.named_modules() if n.endswith("." + suffix)]
    with torch.no_grad():
        model(torch.tensor([tokens]))
    for hook in hooks:
        hook.remove()
    kind = next(k for k in (getattr(config, field, None) for field in ("hidden_activation", "hidden_act", "activation_function", "activation")) if k)
    function = Fatrelu() if name in ("sparsellama", "minicpm") else torch.relu if name == "bamboo" else hf.activations.ACT2FN[kind]
    smooth = not isinstance(function, Fatrelu) and name != "bamboo" and kind not in ("relu", "relu2")
    for x in products:
        x = x.chunk(2, dim=-1)[0] if suffix == "gate_up_proj" else x
        magnitude = function(x).abs()
        border = magnitude - ABOVE if smooth else x - 0.02 if isinstance(function, Fatrelu) else x
        assert border.abs().min() > 5e-6, (name, "rounding decides")
        counts.append((magnitude > (ABOVE if smooth else 0)).sum(dim=0).tolist())
    return {"threshold": ABOVE if smooth else 0, "active": counts}


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    golden = {"made_with": f"torch {torch.__version__}, transformers {hf.__version__}, float32", "models": {}}
    activity = {"made_with": golden["made_with"], "models": {}}
    for name, (config, change, fields) in MODELS.items():
        config._attn_implementation = "eager"
        model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        randomize(model)
        model.tie_weights()
        folder = out / name
        folder.mkdir(exist_ok=True)
        tensors = stored(model)
        if name.startswith("bitnet") and name != "bitnet":
            packed = ternary(model)
            tensors = packed if name == "bitnetpacked" else tensors
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        described = json.loads(config.to_json_string(use_diff=False))
        described = {key: value for key, value in described.items() if value is not None and not key.startswith("_")}
        described |= {"architectures": [type(model).__name__]} | fields
        if name in GGUF:
            write_gguf(out / f"{name}.gguf", GGUF[name], model, fields)
        (folder / "config.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
        if change:
            change(model)
        cases = []
        for i, length in enumerate(LENGTHS):
            tokens = np.random.default_rng(i).integers(3, VOCAB, length).tolist()
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0]
            cases.append({"tokens": tokens, "logits": [[round(v, 6) for v in row] for row in logits[-2:].tolist()]})
        golden["models"][name] = cases
        activity["models"][name] = {"tokens": cases[-1]["tokens"]} | active_counts(name, model, config, cases[-1]["tokens"])
        print(name, [round(max(map(abs, c["logits"][-1])), 2) for c in cases])
    (out / "golden.json").write_text(json.dumps(golden) + "\n")
    (out / "activity.json").write_text(json.dumps(activity) + "\n")


main()
