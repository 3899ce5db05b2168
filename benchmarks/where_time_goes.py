"""Measure the figures of a document again, in place: every block says the command that made it.

    python benchmarks/where_time_goes.py [--only WORD ...] [--document docs/speed.md]

A block begins with ``<!-- measured: SCRIPT.py ARGUMENTS -->`` and ends with ``<!-- end -->``. What lies
between is replaced by what that script of this folder prints, and by machine, commit and date. ``--only
growth`` takes those whose command holds the word. A script that fails leaves the document as it was.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shlex
import subprocess
import sys
from pathlib import Path

from lightningdrag.evaluation.provenance import provenance
from lightningdrag.files import write_atomically

HERE = Path(__file__).parent
BLOCK = re.compile(r"(<!-- measured: (?P<command>.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def measured(block: re.Match[str], only: list[str]) -> str:
    """The block with today's figures, or as it is if it was not asked for."""
    command = block["command"]
    if only and not any(word in command for word in only):
        return block[0]
    print(f"python benchmarks/{command}", file=sys.stderr, flush=True)
    script, *arguments = shlex.split(command)
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    about = provenance()
    origin = f"`python benchmarks/{command}`, {about['machine']}, commit {about['commit']}, "
    return f"{block[1]}{done.stdout.strip()}\n\n{origin}{datetime.date.today()}\n{block[3]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--document", type=Path, default=HERE.parent / "docs" / "speed.md")
    args = parser.parse_args()
    text = args.document.read_text()
    commands = [block["command"] for block in BLOCK.finditer(text)]
    if unknown := [word for word in args.only if not any(word in command for command in commands)]:
        parser.error(f"no block holds {unknown[0]!r}; there are: {'; '.join(commands)}")
    fresh = BLOCK.sub(lambda block: measured(block, args.only), text)
    write_atomically(args.document, fresh.encode())


if __name__ == "__main__":
    main()
