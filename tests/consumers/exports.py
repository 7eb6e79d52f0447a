"""exports.py LIBRARY HEADER...: the shared library shows the functions that the headers declare, and nothing else."""

import re
import subprocess
import sys


def declared(header):
    with open(header, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    # What is `static inline` is the host's own copy.
    text = re.sub(r"static inline [^{]*\{.*?\n\}", "", text, flags=re.S)
    return set(re.findall(r"\b(sipws_\w+)\(", re.sub(r"^\s*#.*$|typedef [^;]*;", "", text, flags=re.M)))


def main():
    library, headers = sys.argv[1], sys.argv[2:]
    said = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    shown = {line.split()[-1] for line in said.splitlines()}
    wanted = set().union(*map(declared, headers))
    for what, names in (("shown, but not declared", shown - wanted), ("declared, but not shown", wanted - shown)):
        if names:
            print(f"{library}: {what}: {', '.join(sorted(names))}")
    sys.exit(0 if shown == wanted else 1)


if __name__ == "__main__":
    main()
