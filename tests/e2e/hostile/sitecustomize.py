"""Put on the path of the fragile installation: tasks of branches with certain names do not end in C code.

Python imports this at every start. Nothing of it is part of the product.
"""

import re
import sys

if "--app=workers worker" in " ".join(sys.orig_argv):
    from deployer.github.host import GitHubHost

    _head = GitHubHost.head

    def _endless(self, repository, ref):  # type: ignore[no-untyped-def]
        if "holds-the-interpreter" in ref.name:
            re.match(r"(a|aa)+$", "a" * 200 + "b")  # for years, without letting any other thread run
        return _head(self, repository, ref)

    GitHubHost.head = _endless  # type: ignore[method-assign]
