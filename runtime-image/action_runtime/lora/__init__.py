"""LoRA adapters of the models in ``llm``."""
