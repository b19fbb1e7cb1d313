"""Language models on CPU and CUDA."""
