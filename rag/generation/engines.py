"""The engines that run encoding plans: one that reads cached passages, and one that cannot."""

from rag.generation.engine import Engine
from rag.generation.plain_engine import PlainEngine

AnyEngine = Engine | PlainEngine
