"""Data sets of Hugging Face's library `datasets` (the extra `huggingface`)."""
