"""Generates text with a language model and, if asked, a LoRA adapter.

Parameters: ``prompt`` (continued as it stands) or ``messages`` (answered as a chat),
``max_tokens``, ``temperature``, ``top_p``, ``top_k``, ``seed``, ``stop``, ``adapter``,
``model``, ``echo``. See ``action_runtime.llm.request``. The environment may name another
default model in ``OWL_MODEL``: a name, or a path to a model folder.

Timings: ``load_ms`` is what this activation spent on loading model and adapter, ``ttft_ms``
the time from its start to the first token, loading included.
"""

import os
import time

from action_runtime.llm.engine import Engine
from action_runtime.llm.errors import LLMError
from action_runtime.llm.low_rank import Adapter
from action_runtime.llm.model_store import DEFAULT_MODEL, locate
from action_runtime.llm.request import Request
from action_runtime.lora.peft_adapter import find_adapter, load_adapter

engines: dict[str, Engine] = {}
adapters: dict[tuple[str, str], tuple[tuple[int, int], Adapter]] = {}


def main(args):
    """Answer one activation; what is wrong with a request or a model comes back as ``{"error": ...}``."""
    start = time.perf_counter()
    try:
        request = Request.parse(args)
        model = request.model or os.environ.get("OWL_MODEL") or DEFAULT_MODEL
        engine = engine_of(model)
        adapter = adapter_of(engine, model, request.adapter) if request.adapter else None
        load_ms = (time.perf_counter() - start) * 1000
        done = engine.complete(request, adapter)
    except LLMError as error:
        return {"error": str(error)}
    return {
        "text": done.text,
        "finish_reason": done.finish_reason,
        "usage": {
            "prompt_tokens": done.prompt_tokens,
            "completion_tokens": done.completion_tokens,
            "total_tokens": done.prompt_tokens + done.completion_tokens,
        },
        "timings": {
            "load_ms": round(load_ms, 3),
            "ttft_ms": round(load_ms + done.ttft_ms, 3),
            "decode_ms": round(done.decode_ms, 3),
            "tokens_per_s": done.tokens_per_s and round(done.tokens_per_s, 2),
        },
        "model": model,
        "adapter": request.adapter,
    }


def engine_of(model):
    """The model's engine, kept for the next activations; one at a time, so that memory stays bounded."""
    if model not in engines:
        engine = Engine.load(locate(model))
        engines.clear()
        adapters.clear()
        engines[model] = engine
    return engines[model]


def adapter_of(engine, model, name):
    """The named adapter, read again when its file has changed."""
    folder = find_adapter(name)
    weights = folder / "adapter_model.safetensors"
    stamp = (weights.stat().st_mtime_ns, weights.stat().st_size) if weights.exists() else None
    held = adapters.get((model, name))
    if held is None or held[0] != stamp:
        adapters[model, name] = stamp, load_adapter(folder, engine.decoder.config, engine.decoder.dtype)
    return adapters[model, name][1]
