"""Our operators as subclasses of LangChain's bases; these modules import langchain-core."""
