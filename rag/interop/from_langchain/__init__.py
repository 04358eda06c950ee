"""LangChain's objects as our operators, known by their methods: nothing here imports LangChain."""
