"""What stands in folders, to be compared before and after."""

import hashlib
import os


def snapshot(*folders):
    """{path: what stands there}, but for lock files, which are never removed."""
    seen = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if "lock" in path.relative_to(folder).parts[:2]:
                continue
            stat = path.lstat()
            content = (os.readlink(path) if path.is_symlink() else "" if path.is_dir()
                       else hashlib.sha256(path.read_bytes()).hexdigest() + f" {stat.st_blocks}")
            seen[str(path)] = (oct(stat.st_mode), content)
    return seen
