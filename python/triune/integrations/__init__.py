"""Adapters for frameworks that bring their own idea of a vector store.

``triune.integrations.langchain.TriuneVectorStore`` and ``triune.integrations.llama_index.TriuneVectorStore``; each needs its
framework's core package, nothing here imports one by itself.
"""
