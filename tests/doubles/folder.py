"""The port `FolderEvaluator` without a process: fast, and without its limits."""

from collections.abc import Mapping

from deployer.folder_check import FolderAnswer, FolderQuestion, examine, resource_line
from deployer.preferences import Preferences, read_preferences


class DirectEvaluator:
    """Evaluates in the process that asks."""

    def examine(self, question: FolderQuestion) -> FolderAnswer:
        return examine(question)

    def preferences(self, files: Mapping[str, bytes]) -> Preferences:
        return read_preferences(files)

    def resource_line(self, files: Mapping[str, bytes], resource: str) -> tuple[str, int] | None:
        return resource_line(files, resource)
