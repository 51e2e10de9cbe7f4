"""The full ids of commits that people name by an id or by the beginning of one."""

from deployer.environment.code_host import CodeHost
from deployer.model.environments import Repository
from deployer.model.errors import ConfigError, PermanentError, TransientError
from deployer.model.refs import is_full_sha


def resolve_commit(host: CodeHost, repository: Repository, given: str, *, check_full: bool) -> str:
    """Find the full id of the commit that a person named.

    Args:
        host: GitHub.
        repository: the repository of the commit.
        given: a full id or the beginning of one, as `parse_sha_prefix` returns it.
        check_full: ask GitHub about a full id too. If GitHub is unavailable, a full id is accepted without a check,
            because the task that deploys it reads the commit again.

    Returns:
        The full id.

    Raises:
        NotFoundError: no commit or more than one has this id.
        PermanentError: this process has no access to GitHub, or deployer may not read the repository.
        TransientError: GitHub is unavailable, and the id is not a full one.
    """
    full = is_full_sha(given)
    if full and not check_full:
        return given
    try:
        return host.commit(repository, given)
    except TransientError as error:
        if full:
            return given
        raise TransientError(f"{error}; a full commit id can be queued meanwhile") from error
    except ConfigError as error:
        raise PermanentError(f"{given} is not a full commit id, and {error}; give the full id") from error
