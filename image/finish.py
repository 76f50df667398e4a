"""Make an installed environment the same each time: no pip, no records of this build, byte code without times.

python finish.py /opt/mirrorwitness
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import sys
from pathlib import Path

UNUSED = ("pip", "pip-*.dist-info", "setuptools", "setuptools-*.dist-info", "pkg_resources", "_distutils_hack")
"""What only an installation needs."""

AWS_SERVICES = frozenset({"kms", "s3", "sso", "sso-oidc", "sts"})
"""Of the 400 services that botocore describes, 27 MB of text: those that the product calls, or credentials need."""

SPARE = ("zstandard/_cffi.*.so",)
"""Second builds of the same code, which CPython never loads."""


def finish(environment: Path) -> None:
    """Remove what no run needs, and compile the rest."""
    packages = next(environment.glob("lib/python3.*/site-packages"))
    for pattern in UNUSED:
        for found in packages.glob(pattern):
            shutil.rmtree(found)
    for found in (packages / "botocore/data").iterdir():
        if found.is_dir() and found.name not in AWS_SERVICES:
            shutil.rmtree(found)
    for pattern in SPARE:
        for found in packages.glob(pattern):
            found.unlink()
    (packages / "distutils-precedence.pth").unlink(missing_ok=True)
    for found in [*packages.glob("*.dist-info/direct_url.json"), *environment.glob("bin/pip*")]:
        found.unlink()
    for found in environment.glob("bin/[Aa]ctivate*"):
        found.unlink()
    # Files of an image have one age, so byte code that names a source's age would say the same of every release.
    if not compileall.compile_dir(packages, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH):
        raise SystemExit("some sources do not compile")


if __name__ == "__main__":
    finish(Path(sys.argv[1]))
