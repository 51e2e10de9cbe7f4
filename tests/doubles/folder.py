"""A double of the port `FolderEvaluator` without a process, fast but without its limits."""

from collections.abc import Mapping

from deployer.templates.folder_check import FolderAnswer, FolderQuestion, examine_folder, line_of_resource
from deployer.templates.repository_config import RepositoryConfig, read_repository_config


class DirectEvaluator:
    """Evaluates in the calling process."""

    def examine_folder(self, question: FolderQuestion) -> FolderAnswer:
        return examine_folder(question)

    def read_repository_config(self, files: Mapping[str, bytes]) -> RepositoryConfig:
        return read_repository_config(files)

    def line_of_resource(self, files: Mapping[str, bytes], resource: str) -> tuple[str, int] | None:
        return line_of_resource(files, resource)
