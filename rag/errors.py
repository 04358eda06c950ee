"""Errors that a person can act on: each says what was wrong, what was allowed and what to do."""


class DovetailError(Exception):
    """A mistake in what was asked or given; the command line prints it and exits.

    Attributes:
        exit_status: 2 for a mistake, 1 for a run that failed.
    """

    exit_status = 2


class CorpusError(DovetailError):
    """A document or folder that cannot be read or indexed."""


class IndexFolderError(DovetailError):
    """A missing, foreign, damaged or mismatched index folder."""


class ModelNotFoundError(DovetailError):
    """A model name that no package, folder or permitted hub look-up resolves."""


class UnsupportedModelError(DovetailError):
    """A model family, or a request to it, for which KV reuse is not proven exact."""


class AdapterError(DovetailError):
    """An adapter that is missing or damaged, or was trained on another model."""


class RouterError(DovetailError):
    """A trained router that is missing or damaged, or was trained with another encoder."""


class FolderLockedError(DovetailError):
    """A folder that another process is writing to; the message holds that process's id."""


class MissingExtraError(DovetailError):
    """An optional dependency that is not installed; the message holds the install command."""


class RemoteModelError(DovetailError):
    """A model service that cannot be reached, refuses, or answers what is no answer.

    Attributes:
        status: HTTP status of a refusal, else 0.
    """

    exit_status = 1

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
